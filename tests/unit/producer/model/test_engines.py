"""What is said of an engine: its version, its store, and whether the tests run against it."""

from __future__ import annotations

import json

import pytest

from transship.model.engines import EngineInfo


def info(product: str, version: str, store: str, **more: object) -> EngineInfo:
    fields = {"product": product, "version": version, "store": store, "api_version": "1.41"}
    return EngineInfo.model_validate(fields | more)


@pytest.mark.parametrize(
    ("product", "version", "store", "tested"),
    [
        ("Docker", "20.10.24+dfsg1", "classic", True),
        ("Docker", "26.1.5+dfsg1", "classic", True),
        ("Docker", "28.5.2", "classic", True),
        ("Docker", "26.1.5+dfsg1", "containerd", True),
        ("Docker", "28.5.2+dfsg4", "containerd", True),
        ("Podman", "5.4.2", "podman", True),
        ("Podman", "5.8.6", "podman", True),
        ("Docker", "20.10.24", "containerd", False),
        ("Docker", "27.5.1", "classic", False),
        ("Docker", "29.0.1", "containerd", False),
        ("Docker", "2.8.0", "classic", False),
        ("Docker", "280.1", "classic", False),
        ("Podman", "5.40.0", "podman", False),
        ("Podman", "4.3.1", "podman", False),
        ("nerdctl", "28.1.0", "classic", False),
        ("Docker", "", "classic", False),
    ],
)
def test_only_what_the_tests_run_against_counts_as_tested(
    product: str, version: str, store: str, tested: bool
) -> None:
    found = info(product, version, store)
    assert found.tested is tested
    assert found.support.startswith("supported" if tested else "not tested")
    assert json.loads(found.model_dump_json())["tested"] is tested


def test_a_rootless_engine_is_not_tested() -> None:
    assert not info("Podman", "5.8.6", "podman", rootless=True).tested


def test_an_engine_is_named_with_its_store() -> None:
    docker = info("Docker", "28.5.2", "containerd", driver="overlayfs")
    assert docker.title == "Docker 28.5.2 (API 1.41, containerd image store, overlayfs)"
    podman = info("Podman", "5.8.6", "podman", driver="overlay", rootless=True)
    assert podman.title == "Podman 5.8.6 (API 1.41, containers/storage, overlay, rootless)"
    streams = "streams with --via stream only"
    assert podman.support == f"not tested; {streams}; reports no progress during a push"
    assert docker.support == f"supported; {streams}"
    assert info("Docker", "28.5.2", "classic").support == "supported; streams large images"
    assert info("Docker", "", "tomorrow", api_version="").title == "Docker (tomorrow)"


def test_what_a_newer_worker_adds_is_left_out() -> None:
    body = info("Docker", "28.5.2", "classic").model_dump() | {"tomorrow": 1, "tested": False}
    assert EngineInfo.model_validate(body) == info("Docker", "28.5.2", "classic")
