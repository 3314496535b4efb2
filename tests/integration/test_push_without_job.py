"""``push_image`` as a library call: no queue, a real engine and real registries."""

from __future__ import annotations

from typing import ClassVar

import docker
import pytest

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.engine_images import make_image
from tests.support.processes import free_port
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.registry import Registry
from transship.errors import Denied, ImageNotFound, PrepareFailed, RegistryUnreachable
from transship_worker import BaseContainerRegistry, PushTransport

pytestmark = [pytest.mark.engine, pytest.mark.registry]


@pytest.fixture(autouse=True)
def the_engine_of_the_docker_command(docker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_url)


class Signed(BaseContainerRegistry):
    """Acts around the push."""

    FLAVOR: ClassVar[str] = "signed"
    signed: ClassVar[list[str]] = []

    def push_image(self, image_name: str, *, transport: PushTransport | None = None) -> str:
        digest = super().push_image(image_name, transport=transport)
        self.signed.append(f"{image_name}@{digest}")
        return digest


class OfZenMl(BaseContainerRegistry):
    """With ZenML's signatures."""

    FLAVOR: ClassVar[str] = "of-zenml"
    prepared_images: ClassVar[list[str]] = []

    def prepare_image_push(self, image_name: str) -> None:
        if image_name.endswith(":latest"):
            raise ValueError("latest is not pushed here")
        self.prepared_images.append(image_name)

    def push_image(self, image_name: str) -> str:  # type: ignore[override]
        return super().push_image(image_name)


@pytest.mark.parametrize("kind", [BaseContainerRegistry, Signed, OfZenMl])
def test_an_image_arrives_and_its_digest_is_returned(
    kind: type[BaseContainerRegistry],
    docker_client: docker.DockerClient,
    plain_registry: Registry,
) -> None:
    name = f"{plain_registry.address}/alone/{kind.__name__.lower()}:1"
    make_image(docker_client, name)

    digest = kind(name="lab", uri=plain_registry.address).push_image(name)

    assert digest == plain_registry.digest(f"alone/{kind.__name__.lower()}", "1")
    if kind is Signed:
        assert Signed.signed == [f"{name}@{digest}"]
    if kind is OfZenMl:
        assert OfZenMl.prepared_images == [name]


def test_the_same_image_again_sends_nothing(
    docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        name = f"{proxy.address}/alone/twice:1"
        make_image(docker_client, name, layers=(50_000,))
        registry = BaseContainerRegistry(name="lab", uri=f"{proxy.address}/alone")
        first = registry.push_image(name)
        before = proxy.bytes_up
        assert registry.push_image(name) == first
        assert proxy.bytes_up - before < 5_000


@pytest.mark.parametrize("right", [True, False])
def test_the_components_login_is_used(
    docker_client: docker.DockerClient, basic_registry: Registry, right: bool
) -> None:
    name = f"{basic_registry.address}/alone/login:1"
    make_image(docker_client, name)
    password = PASSWORD if right else "wrong horse"
    registry = BaseContainerRegistry.model_validate(
        {"name": "lab", "uri": basic_registry.address, "username": USER, "password": password}
    )
    if right:
        assert registry.push_image(name) == basic_registry.digest("alone/login", "1")
    else:
        with pytest.raises(Denied) as caught:
            registry.push_image(name)
        assert password not in caught.value.message


def test_what_cannot_be_pushed_is_a_typed_error(
    docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    address = plain_registry.address
    registry = OfZenMl(name="lab", uri=address)
    nowhere = f"127.0.0.1:{free_port()}"
    make_image(docker_client, f"{address}/alone/bad:latest", f"{nowhere}/alone:1")

    with pytest.raises(ValueError, match="is not under"):
        registry.push_image("127.0.0.2:5000/alone/absent:1")
    with pytest.raises(ImageNotFound, match=f"{address}/alone/absent:1 is not in engine"):
        registry.push_image(f"{address}/alone/absent:1")
    with pytest.raises(PrepareFailed, match="latest is not pushed here"):
        registry.push_image(f"{address}/alone/bad:latest")
    with pytest.raises(RegistryUnreachable, match=nowhere):
        BaseContainerRegistry(name="lab", uri=nowhere).push_image(f"{nowhere}/alone:1")
