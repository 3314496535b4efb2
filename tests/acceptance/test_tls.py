"""Nothing but TLS under a private authority: Redis, the Docker Engine, registries; for real."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.test_flower import Flower
from tests.support.fixtures import PASSWORD, USER
from tests.support.images.engine_images import make_image
from tests.support.images.registry_images import image, noise, put_image, repository, with_pool
from tests.support.processes import eventually, free_port
from tests.support.servers.certificates import Authority
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.network import PrivateNetwork
from tests.support.servers.redis import RedisServer, RedisTls
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component
from tests.support.workers.process import Site
from transship import Client, JobFailed, RedisUnreachable, State
from transship.model.records import JobRecord
from transship_config.settings import Settings

pytestmark = [pytest.mark.redis, pytest.mark.registry]

Pair = tuple[Path, Path]
REDIS_PASSWORD = "planted-redis-pw"


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """A client's certificate and key."""
    return authority.issue("client")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def test_a_fleet_copies_where_redis_and_registries_take_tls_and_known_clients_only(
    tmp_path: Path, authority: Authority, stranger: Authority, pair: Pair, plain_registry: Registry
) -> None:
    async def fill(pool: Any) -> None:
        layer = noise(3_000, "tls")
        source = repository(pool, plain_registry.address, "tls/app")
        await put_image(source, image(layer), layer, b"{}", tag="1")

    with_pool(fill)
    server = authority.issue("127.0.0.1")
    files = {"ca": str(authority.ca), "client_cert": str(pair[0]), "client_key": str(pair[1])}
    with (
        RedisServer(password=REDIS_PASSWORD, tls=RedisTls(authority.ca, *server, pair)) as redis,
        Registry(tls=server, clients=authority.ca, client=pair) as target,
    ):
        site = CopySite(tmp_path / "site", redis.url)
        old = component(plain_registry.address)
        site.write_catalog({"old": old, "new": component(target.address, **files)})
        try:
            with Flower(site) as flower:
                worker = site.start_copier()
                names = f"{plain_registry.address}/tls/app:1", f"{target.address}/tls/app:1"
                job = site.client.copy(*names)
                assert job.wait(60).state is State.SUCCEEDED
                assert target.digest("tls/app", "1") == plain_registry.digest("tls/app", "1")
                eventually(lambda: f"{job.id}.1" in flower.tasks(), what="the copy in Flower")
                # What it shows of queues it asks on a connection of its own.
                answer = requests.get(f"{flower.base}/api/queues/length", timeout=10)
                assert "push.*" in answer.text, answer.text
            check = site.run("registry", "check", "new", "--no-engine")
            assert "answers, without an engine" in check.stdout, check
            assert "TLS" not in worker.log_text()
            _nobody_else_is_let_in(site, redis, stranger)
        finally:
            site.close()


def _nobody_else_is_let_in(site: Site, redis: RedisServer, stranger: Authority) -> None:
    """A worker, a command and a client that do not trust this Redis end with one line."""
    url = f"{redis.url.partition('?')[0]}?ssl_ca_certs={stranger.ca}"
    for command in (("worker", "--no-engine"), ("jobs",)):
        run = site.run(*command, TRANSSHIP_URL=url)
        assert run.returncode == 3
        said = [line for line in run.stderr.splitlines() if line.startswith("transship: ")]
        assert len(said) == len(run.stderr.splitlines()) == 1, run.stderr
        assert "its certificate is not trusted" in said[0]
        assert REDIS_PASSWORD not in run.stdout + run.stderr
    settings = Settings.from_environment(site.environment | {"TRANSSHIP_URL": url})
    with Client(settings=settings) as client, pytest.raises(RedisUnreachable, match="not trusted"):
        client.jobs()


@pytest.mark.engine
def test_a_worker_pushes_through_an_engine_that_takes_tls_only(
    tmp_path: Path,
    redis_url: str,
    authority: Authority,
    stranger: Authority,
    plain_registry: Registry,
) -> None:
    certificate, key = authority.issue("127.0.0.1")
    folders = {}
    for name, ca in (("right", authority.ca), ("wrong", stranger.ca)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        for stem, file in (("ca", ca), ("cert", certificate), ("key", key)):
            (folders[name] / f"{stem}.pem").write_bytes(file.read_bytes())
    place = f"tcp://127.0.0.1:{free_port()}"
    words = ["-H", place, "--tlsverify", "--tlscacert", str(authority.ca)]
    words += ["--tlscert", str(certificate), "--tlskey", str(key)]
    trusting = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folders["right"])}
    with DockerDaemon(arguments=words) as daemon:
        site = Site(tmp_path, redis_url, place, **trusting)
        site.write_catalog({"lab": component(plain_registry.address)})
        name = f"{plain_registry.address}/tls/engine:1"
        client = daemon.client()
        make_image(client, name)
        client.close()
        try:
            site.start_worker("--engine-name", "tls")
            record = site.client.push(name, registry="lab").wait(60)
            assert record.digest == plain_registry.digest("tls/engine", "1")
            for command in (("worker",), ("registry", "check", "lab")):
                run = site.run(*command, DOCKER_CERT_PATH=str(folders["wrong"]))
                assert run.returncode == 1
                lines = (run.stdout + run.stderr).splitlines()
                said = [line for line in lines if "certificate verify failed" in line]
                assert len(said) == 1, lines
                assert place.removeprefix("tcp://") in said[0]
        finally:
            site.close()


class Inside:
    """A fleet whose engine has a network of its own, in which registries are not on loopback."""

    def __init__(self, network: PrivateNetwork, daemon: DockerDaemon, site: Site) -> None:
        self.network, self.daemon, self.site = network, daemon, site
        self.client = daemon.client()
        site.start_worker("--engine-name", "inside")

    def use(self, registry: Registry, **options: str) -> None:
        """Let ``prod`` be this registry, and wait until producers know."""
        self.site.write_catalog({"prod": component(registry.address, **options)})
        eventually(lambda: self._published() == [registry.address], what="the component")

    def _published(self) -> list[str]:
        return [found.uri for found in self.site.client.fleet().components]

    def push(self, registry: Registry, tag: str) -> JobRecord:
        """Push an image of its own to the end of its job."""
        name = f"{registry.address}/tls/pushed:{tag}"
        make_image(self.client, name)
        job = self.site.client.push(name, registry="prod")
        with contextlib.suppress(JobFailed):
            job.wait(60)
        return job.record()

    def check(self) -> list[str]:
        """What ``registry check`` finds wrong on the engine's machine."""
        words = [*self.network.words, sys.executable, "-m", "transship", "registry", "check"]
        run = subprocess.run(
            [*words, "prod"], env=self.site.environment, capture_output=True, text=True, timeout=60
        )
        assert "Traceback" not in run.stderr
        wrong = [line for line in run.stdout.splitlines() if line.startswith("FAIL")]
        assert run.returncode == bool(wrong), run
        return wrong


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Inside]:
    """The fleet, with one worker."""
    with PrivateNetwork() as network, DockerDaemon(network=network) as daemon:
        site = Site(tmp_path_factory.mktemp("inside"), redis_url, daemon.url)
        made = Inside(network, daemon, site)
        yield made
        made.client.close()
        site.close()


@pytest.mark.engine
def test_a_push_to_a_private_authority_needs_it_in_the_engine(
    inside: Inside, authority: Authority, stranger: Authority
) -> None:
    network, address = inside.network, inside.network.ADDRESS
    users = {USER: PASSWORD}
    with Registry(tls=authority.issue(address), users=users, network=network) as registry:
        login = {"username": USER, "password": PASSWORD, "ca": str(authority.ca)}
        inside.use(registry, **login)
        for files in ({}, {"ca": stranger.ca}):
            network.trust(registry.address, **files)
            record = inside.push(registry, "1")
            assert record.error is not None
            assert record.error.code == "engine_misconfigured"
            assert f"/etc/docker/certs.d/{registry.address}/ca.crt" in record.error.message
        settings, asked = inside.check()
        assert f"copy {authority.ca} to /etc/docker/certs.d/{registry.address}" in settings
        assert "does not trust the certificate" in asked

        network.trust(registry.address, ca=authority.ca)
        assert inside.check() == []
        record = inside.push(registry, "1")
        assert record.digest == registry.digest("tls/pushed", "1")
    with Registry(tls=authority.issue("registry.lan"), network=network) as other:
        inside.use(other, ca=str(authority.ca))
        network.trust(other.address, ca=authority.ca)
        record = inside.push(other, "1")
    assert record.error is not None
    assert record.error.code == "registry_untrusted"
    assert record.error.message.startswith(f"engine inside refuses the certificate of {address}")
    assert record.attempts == 1


@pytest.mark.engine
def test_a_push_with_a_client_certificate_needs_it_in_the_engine(
    inside: Inside, authority: Authority, stranger: Authority, pair: Pair
) -> None:
    network = inside.network
    tls = authority.issue(network.ADDRESS)
    with Registry(tls=tls, clients=authority.ca, client=pair, network=network) as registry:
        files = {"client_cert": str(pair[0]), "client_key": str(pair[1])}
        inside.use(registry, ca=str(authority.ca), **files)
        unknown = stranger.issue("client")
        half = {"cert": pair[0]}
        for more in ({}, {"cert": unknown[0], "key": unknown[1]}, half):
            network.trust(registry.address, ca=authority.ca, **more)
            record = inside.push(registry, "1")
            assert record.error is not None
            assert record.error.code == "engine_misconfigured", record.error
            assert f"/etc/docker/certs.d/{registry.address}" in record.error.message
        settings = inside.check()[0]
        assert "seems to have no client certificate" in settings
        assert f"copy {pair[0]} to /etc/docker/certs.d/{registry.address}/client" in settings

        network.trust(registry.address, ca=authority.ca, cert=pair[0], key=pair[1])
        assert inside.check() == []
        record = inside.push(registry, "1")
        assert record.digest == registry.digest("tls/pushed", "1")
