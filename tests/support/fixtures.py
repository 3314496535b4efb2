"""Fixtures that every test may use. A missing program skips the test; in CI it fails it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
import redis

from tests.support.fleet.budgets import Fleet, fleet_at
from tests.support.fleet.upload_leases import new_keys
from tests.support.images.two_registries import Sides, repository_of
from tests.support.scripted_servers.hostile import HostileServer
from tests.support.servers.certificates import Authority
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer
from transship.ledger.keys import Keys
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.engine.client import Engine, find_engine

#: The login of ``basic_registry`` and ``token_registry``.
USER, PASSWORD = "pusher", "correct horse battery staple"


def pytest_configure() -> None:
    """Let SIGINT end what the tests start.

    A shell without job control starts what runs in its background with SIGINT ignored, and every
    child would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def plain_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting, login, proxy or home folder of this machine reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("DOCKER_", "TRANSSHIP_", "AWS_")) or "proxy" in name.lower():
                patch.delenv(name)
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the session; use a namespace of your own in it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """URL of the session's Redis."""
    return redis_server.url


@pytest.fixture
def keys() -> Keys:
    """A namespace of Redis keys that nobody else has."""
    return new_keys()


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the session's Redis."""
    with closing(redis_server.client()) as client:
        yield client


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    """Workers that share budgets, on the session's Redis."""
    async with fleet_at(redis_url) as made:
        yield made


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[DockerDaemon]:
    """One Docker Engine for the session; a test that kills it makes its own."""
    with DockerDaemon() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def docker_url(docker_daemon: DockerDaemon) -> str:
    """``DOCKER_HOST`` of the session's engine."""
    return docker_daemon.url


@pytest.fixture(scope="session")
def docker_socket(docker_daemon: DockerDaemon) -> Path:
    """The socket of the session's engine."""
    return docker_daemon.socket


@pytest.fixture(scope="session")
def docker_client(docker_daemon: DockerDaemon) -> Iterator[docker.DockerClient]:
    """The Docker SDK on the session's engine, to make images with."""
    client = docker_daemon.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def engine(docker_url: str) -> Engine:
    """The session's engine as a worker finds it, called ``build-7``."""
    return find_engine({"DOCKER_HOST": docker_url}, name="build-7")


@pytest.fixture(scope="session")
def plain_registry() -> Iterator[Registry]:
    """One registry without a login for the session."""
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def basic_registry() -> Iterator[Registry]:
    """One registry with Basic auth for the session (``USER``, ``PASSWORD``)."""
    with Registry(users={USER: PASSWORD}) as registry:
        yield registry


@pytest.fixture(scope="session")
def token_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """The token server of ``token_registry``."""
    with TokenServer(tmp_path_factory.mktemp("tokens"), {USER: PASSWORD}) as server:
        yield server


@pytest.fixture(scope="session")
def token_registry(token_server: TokenServer) -> Iterator[Registry]:
    """One registry with token auth for the session (``USER``, ``PASSWORD``)."""
    with Registry(tokens=token_server) as registry:
        yield registry


@pytest.fixture(scope="module")
def registries() -> Iterator[tuple[Registry, Registry]]:
    """Two registries of a module, the source and the target of copies."""
    with Registry() as source, Registry() as target:
        yield source, target


@pytest.fixture
def side(
    pool: ClientPool, registries: tuple[Registry, Registry], request: pytest.FixtureRequest
) -> Sides:
    """Both registries, with a repository for this test alone."""
    return Sides(pool, registries, repository_of(request))


@pytest.fixture
async def pool() -> AsyncIterator[ClientPool]:
    """Connections to registries, without a proxy."""
    async with ClientPool({}) as made:
        yield made


@pytest.fixture
def server() -> Iterator[HostileServer]:
    """A scripted server; whatever is asked of it beyond its script fails the test."""
    with HostileServer() as made:
        yield made


@pytest.fixture
def other() -> Iterator[HostileServer]:
    """A second one, that the first leads to."""
    with HostileServer() as made:
        yield made


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for TLS registries."""
    return Authority(tmp_path_factory.mktemp("authority"))
