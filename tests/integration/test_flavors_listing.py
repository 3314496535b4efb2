"""Listing repositories on a real registry, and on moto's ECR."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, make_manifest
from tests.support.servers.ecr import ACCOUNT, KEY_ID, REGION, SECRET, Moto
from tests.support.servers.registry import Registry
from transship.errors import Denied
from transship_worker import BaseContainerRegistry
from transship_worker.flavors import built_in
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.flavors.listing import repositories
from transship_worker.oci import manifests, uploads
from transship_worker.oci.pool import ClientPool

ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


def make(flavor: str, uri: str, **options: Any) -> BaseContainerRegistry:
    return built_in(flavor).model_validate({"name": "prod", "uri": uri, **options})


async def listed(component: BaseContainerRegistry, pool: ClientPool) -> list[list[str]]:
    client = pool.client(component.registry_endpoint, component.credentials())
    return [page async for page in repositories(component, client)]


async def fill(pool: ClientPool, component: BaseContainerRegistry, *names: str) -> None:
    """Put a small image into each of these repositories."""
    client = pool.client(component.registry_endpoint, component.credentials())
    for name in names:
        repository = client.repository(name, writing=True)
        opened = await uploads.start(repository)
        await opened.finish(EMPTY_DIGEST, EMPTY)
        await manifests.put(repository, "1", make_manifest())


@pytest.mark.registry
async def test_a_real_registrys_catalogue_is_read_in_pages_and_cut_to_the_uri(
    pool: ClientPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DefaultRegistry, "PAGE_SIZE", 2)
    with Registry() as registry:
        whole = make("default", registry.address)
        await fill(pool, whole, "ml", "ml/a", "ml/b/c", "mlx/a", "other")
        assert await listed(whole, pool) == [["ml", "ml/a"], ["ml/b/c", "mlx/a"], ["other"]]
        # Known by a name that leads nowhere, reached at another address.
        part = make("default", "registry.example.com/ml", endpoint=f"http://{registry.address}")
        names = [name for page in await listed(part, pool) for name in page]
    assert names == ["a", "b/c"]


@pytest.mark.registry
async def test_a_catalogue_is_asked_with_the_components_login(
    pool: ClientPool, basic_registry: Registry
) -> None:
    login = {"username": USER, "password": PASSWORD}
    component = make("default", f"{basic_registry.address}/listing", **login)
    await fill(pool, component, "listing/a")
    with pytest.raises(Denied, match="write the repositories' names out"):
        await listed(make("default", basic_registry.address), pool)
    assert [name for page in await listed(component, pool) for name in page] == ["a"]


async def test_more_repositories_than_a_page_of_ecrs_are_listed(pool: ClientPool) -> None:
    with Moto() as moto:
        # Its state is the process's: other tests' repositories are there, too.
        moto.reset()
        ecr = moto.client()
        for number in range(101):
            ecr.create_repository(repositoryName=f"ml/train-{number:03}")
        ecr.create_repository(repositoryName="mlx/train")
        options = {"access_key_id": KEY_ID, "secret_access_key": SECRET, "endpoint_url": moto.url}
        component = make("aws", f"{ECR}/ml", **options)
        client = pool.client(component.registry_endpoint)
        names = [name async for page in repositories(component, client) for name in page]
    assert sorted(names) == [f"train-{number:03}" for number in range(101)]
