"""Copies where registries want tokens: mounts need rights to two repositories at once."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from tests.support.fixtures import PASSWORD, USER
from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_images import (
    WatchedControl,
    image,
    noise,
    put_image,
    repository,
)
from tests.support.servers.registry import Registry
from transship_worker.credentials.access import Credentials
from transship_worker.oci import manifests
from transship_worker.oci.client import Repository
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = pytest.mark.registry

LOGIN = Credentials(USER, SecretStr(PASSWORD))


async def test_a_registry_with_tokens_takes_uploads_and_mounts(
    pool: ClientPool, plain_registry: Registry, token_registry: Registry
) -> None:
    source = repository(pool, plain_registry.address, "logins/app")
    layers = [noise(200_000, f"login{n}") for n in range(3)]
    wanted = image(*layers, config=b'{"of": "logins"}')
    await put_image(source, wanted, *layers, b'{"of": "logins"}', tag="v1")
    endpoint = Endpoint(token_registry.address, endpoint=token_registry.base)
    client = pool.client(endpoint, LOGIN)

    def target(name: str) -> Repository:
        return client.repository(name, writing=True)

    leads, total = AloneLeads(), sum(blob.size for blob in wanted.blobs)
    for name, expected in (
        ("logins/one", {"moved": total, "mounted": 0}),
        ("logins/two", {"moved": 0, "mounted": total}),
    ):
        control = WatchedControl()
        copied = await copy_image(
            CopyTask("v1", ("v1",)),
            RegistryRepository(source),
            RegistryRepository(target(name)),
            leads,
            control,
            name,
        )
        assert copied.digest == wanted.digest
        assert (await manifests.get(target(name), "v1")).raw == wanted.raw
        assert expected.items() <= control.bytes.items()
