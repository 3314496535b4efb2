"""The tests' own servers do what the tests rely on."""

from __future__ import annotations

import docker
import pytest
import requests

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.engine_images import make_image
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer

LOGIN = {"username": USER, "password": PASSWORD}


def push(client: docker.DockerClient, name: str, login: dict[str, str] | None = None) -> str:
    """The digest that a plain push of the SDK reports."""
    events = list(client.api.push(name, stream=True, decode=True, auth_config=login or {}))
    assert not [event for event in events if "error" in event], events[-1]
    return str(events[-1]["aux"]["Digest"])


@pytest.mark.redis
def test_redis_keeps_its_data_when_killed_and_started_again() -> None:
    with RedisServer(password="s3cret") as server:
        with server.client() as client:
            client.set("key", "value")
        server.kill9()
        server.start()
        with server.client() as client:
            assert client.get("key") == "value"


@pytest.mark.engine
def test_an_engine_keeps_its_images_when_killed_and_leaves_nothing_when_closed() -> None:
    with DockerDaemon() as daemon:
        client = daemon.client()
        image = make_image(client, "here:1", layers=[1000, 2000])
        client.close()
        daemon.kill9()
        daemon.start()
        client = daemon.client()
        assert client.images.get("here:1").id == image
        client.close()
    assert not daemon.folder.exists()


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["plain", "basic", "token"])
def test_a_registry_answers_for_what_was_pushed(
    kind: str, docker_client: docker.DockerClient, request: pytest.FixtureRequest
) -> None:
    registry: Registry = request.getfixturevalue(f"{kind}_registry")
    name = f"{registry.address}/support/{kind}"
    make_image(docker_client, f"{name}:1")

    digest = push(docker_client, f"{name}:1", LOGIN)

    assert registry.digest(f"support/{kind}", "1") == digest
    assert registry.list_tags(f"support/{kind}") == ["1"]
    layer = registry.manifest(f"support/{kind}", digest)["layers"][0]
    assert len(registry.blob(f"support/{kind}", layer["digest"])) == layer["size"]
    assert registry.digest(f"support/{kind}", "2") is None


@pytest.mark.registry
def test_the_token_server_counts_what_the_engine_asks_for(
    docker_client: docker.DockerClient, token_registry: Registry, token_server: TokenServer
) -> None:
    name = f"{token_registry.address}/support/counted:1"
    make_image(docker_client, name)
    before = len(token_server.requests)
    push(docker_client, name, LOGIN)
    assert (USER, "repository:support/counted:push,pull") in token_server.requests[before:]


@pytest.mark.registry
def test_a_proxy_forwards_counts_and_cuts(plain_registry: Registry) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        assert requests.get(f"http://{proxy.address}/v2/", timeout=5).status_code == 200
        assert proxy.bytes_up > 0
        assert proxy.bytes_down > 0
        proxy.reset_after = 1
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{proxy.address}/v2/", timeout=5)
