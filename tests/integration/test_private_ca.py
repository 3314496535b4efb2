"""A private CA that writes no key identifiers: accepted where the user names it, else refused."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3.util
from celery import Celery

from tests.support.servers.certificates import Authority
from tests.support.servers.redis import RedisServer, RedisTls
from tests.support.servers.registry import Registry
from transship.errors import RegistryUntrusted
from transship.ledger.connection import connect
from transship_config.celery_settings import celery_settings
from transship_config.settings import Settings
from transship_worker.credentials.access import Access
from transship_worker.credentials.private_ca import PrivateCaAdapter
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool

pytestmark = [pytest.mark.redis, pytest.mark.registry]


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every Python, default contexts are as strict as those of Python 3.13."""

    def made_strict(make: Any) -> Any:
        def make_strict(*args: Any, **kwargs: Any) -> ssl.SSLContext:
            context: ssl.SSLContext = make(*args, **kwargs)
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            return context

        return make_strict

    for module, name in (
        (ssl, "create_default_context"),
        (urllib3.util, "create_urllib3_context"),
        (urllib3.connection, "create_urllib3_context"),
    ):
        monkeypatch.setattr(module, name, made_strict(getattr(module, name)))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that signed nothing here."""
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def registry(authority: Authority) -> Iterator[Registry]:
    with Registry(tls=authority.issue("127.0.0.1")) as server:
        yield server


def ping(registry: Registry, access: Access) -> None:
    async def work() -> None:
        # An endpoint, since a registry on the loopback is also asked without verification.
        async with ClientPool({}) as pool:
            await pool.client(Endpoint(registry.address, access, registry.base)).ping()

    asyncio.run(work())


def refusal(registry: Registry, access: Access) -> str:
    with pytest.raises(RegistryUntrusted) as caught:
        ping(registry, access)
    return caught.value.message


def test_a_registry_is_accepted_with_the_ca_that_its_component_names(
    registry: Registry, authority: Authority, other: Authority
) -> None:
    ping(registry, Access(ca=authority.ca))
    advice = "set ca: to the PEM file of its CA"
    assert refusal(registry, Access()).endswith(f"; {advice}, or insecure: true")
    client = Access(client_cert=other.issue("client")[0], client_key=other.issue("client")[1])
    assert refusal(registry, client).endswith(f"; {advice}")
    named = refusal(registry, Access(ca=other.ca))
    assert named.endswith(f"; ca: {other.ca} does not hold the CA that signed it")


@pytest.mark.parametrize(
    ("name", "expired", "advice"),
    [
        ("localhost", False, "write the host in uri: or endpoint: as its certificate does"),
        ("127.0.0.1", True, "renew it or its CA's, or set this host's clock"),
    ],
)
def test_name_and_dates_are_checked_with_a_named_ca_too(
    authority: Authority, name: str, expired: bool, advice: str
) -> None:
    with Registry(tls=authority.issue(name, expired=expired)) as server:
        assert refusal(server, Access(ca=authority.ca)).endswith(f"; {advice}")


def test_the_requests_library_accepts_the_ca_that_verify_names(
    registry: Registry, authority: Authority, other: Authority
) -> None:
    url = f"{registry.base}/v2/"

    def ask(ca: Path, address: str = url) -> int:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", PrivateCaAdapter())
            return session.get(address, verify=str(ca), timeout=30).status_code

    assert ask(authority.ca) == 200
    with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
        ask(other.ca)
    with pytest.raises(requests.exceptions.SSLError, match=r"doesn't match|mismatch"):
        ask(authority.ca, url.replace("127.0.0.1", "localhost"))


def test_redis_is_accepted_by_all_its_clients_with_the_ca_in_its_url(authority: Authority) -> None:
    settings = Settings.from_environment({})
    with RedisServer(tls=RedisTls(authority.ca, *authority.issue("127.0.0.1"))) as server:
        with closing(connect(server.url)) as client:
            assert client.ping()

        async def ask() -> bool:
            async with FleetRedis(server.url).client as fleet:
                return bool(await fleet.ping())

        assert asyncio.run(ask())
        app = Celery(set_as_current=False)
        app.conf.update(celery_settings(settings, server.url))
        with app.connection_for_write() as broker:
            broker.ensure_connection(max_retries=1)
