"""``push_image`` as flavors override it, and as it is called without a transport."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, ClassVar

import pytest

from tests.support.flavors.minimal import DIGEST, Minimal, Recorder
from transship.errors import (
    EngineMisconfigured,
    EngineUnavailable,
)
from transship_worker import BaseContainerRegistry, PushTransport
from transship_worker.flavors import built_in


def test_an_overridden_push_image_may_prepare_and_push_in_its_own_way() -> None:
    class Twice(Minimal):
        FLAVOR: ClassVar[str] = "twice"

        def push_image(self, image_name: str, *, transport: Any) -> str:  # type: ignore[override]
            image = self.prepared(image_name)
            transport.push(image, credentials=None, access=self.access)
            return str(transport.push(image, credentials=None, access=self.access))

    transport = Recorder()
    registry = Twice(name="a", uri="registry.example.com", refuse="bad")
    assert registry.push_image("registry.example.com/x", transport=transport) == DIGEST
    assert len(transport.calls) == 2
    with pytest.raises(Exception, match="was not scanned") as caught:
        registry.push_image("registry.example.com/bad", transport=transport)
    assert getattr(caught.value, "code", None) == "prepare_failed"


class WithRequired(Minimal):
    """As flavors were written while every caller passed a transport."""

    FLAVOR: ClassVar[str] = "required"

    def push_image(self, image_name: str, *, transport: PushTransport) -> str:  # type: ignore[override]
        return super().push_image(image_name, transport=transport)


class WithOptional(Minimal):
    FLAVOR: ClassVar[str] = "optional"

    def push_image(self, image_name: str, *, transport: PushTransport | None = None) -> str:
        return super().push_image(image_name, transport=transport)


class WithOptions(Minimal):
    FLAVOR: ClassVar[str] = "options"

    def push_image(self, image_name: str, **options: Any) -> str:
        return super().push_image(image_name, **options)


class WithNone(Minimal):
    """As flavors are written for ZenML."""

    FLAVOR: ClassVar[str] = "none"

    def push_image(self, image_name: str) -> str:  # type: ignore[override]
        return super().push_image(image_name)


class WithTwo(WithNone):
    """An override of an override."""

    FLAVOR: ClassVar[str] = "two"

    def push_image(self, image_name: str) -> str:  # type: ignore[override]
        return super().push_image(image_name)


class Elsewhere(Minimal):
    """Pushes to another registry too, which is not what the job is for."""

    FLAVOR: ClassVar[str] = "elsewhere"

    def push_image(self, image_name: str) -> str:  # type: ignore[override]
        Minimal(name="other", uri="other.example.com").push_image("other.example.com/x:1")
        return super().push_image(image_name)


SIGNATURES = [Minimal, WithRequired, WithOptional, WithOptions, WithNone, WithTwo]


@pytest.mark.parametrize("kind", SIGNATURES)
def test_every_signature_of_push_image_gets_the_transport_of_the_job(
    kind: type[BaseContainerRegistry],
) -> None:
    transport = Recorder()
    registry = kind(name="a", uri="registry.example.com")
    assert registry.push_image("registry.example.com/x:1", transport=transport) == DIGEST
    assert [str(image) for image, _, _ in transport.calls] == ["registry.example.com/x:1"]


@pytest.mark.parametrize("kind", SIGNATURES)
def test_every_signature_of_push_image_uses_the_engine_without_a_transport(
    kind: type[BaseContainerRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    registry = kind(name="a", uri="registry.example.com")
    with pytest.raises(EngineUnavailable, match=r"unix:///nowhere/docker\.sock"):
        registry.push_image("registry.example.com/x:1")


def test_a_push_to_another_registry_does_not_use_the_transport_of_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    transport = Recorder()
    registry: BaseContainerRegistry = Elsewhere(name="a", uri="registry.example.com")
    with pytest.raises(EngineUnavailable):
        registry.push_image("registry.example.com/x:1", transport=transport)
    assert transport.calls == []


def test_without_a_transport_a_bad_address_of_the_engine_is_a_typed_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "carrier-pigeon://7")
    registry = built_in("default")(name="prod", uri="registry.example.com")
    with pytest.raises(EngineMisconfigured, match="DOCKER_HOST"):
        registry.push_image("registry.example.com/x:1")


def test_without_a_transport_and_the_docker_sdk_the_missing_extra_is_named() -> None:
    script = (
        "import sys\n"
        "sys.modules['docker'] = None\n"
        "from transship_worker import BaseContainerRegistry, PushError\n"
        "registry = BaseContainerRegistry(name='a', uri='registry.example.com')\n"
        "try:\n"
        "    registry.push_image('registry.example.com/x:1')\n"
        "except PushError as error:\n"
        "    print(error.code, error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("engine_misconfigured "), done.stderr
    assert "docker is not installed; hint: " in done.stdout
