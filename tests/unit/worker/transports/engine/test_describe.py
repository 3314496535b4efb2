"""Which engine answers, read from its answers to ``/version`` and ``/info``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.scripted_servers import podman_socket
from transship.model.engines import EngineInfo
from transship_worker.transports.engine.describe import engine_info

DOCKER = {"Name": "Engine", "Version": "28.5.2", "Details": {"ApiVersion": "1.51"}}
CONTAINERD = {"Name": "containerd", "Version": "2.1.9"}
VERSION = {
    "Components": [DOCKER, CONTAINERD],
    "Version": "28.5.2",
    "ApiVersion": "1.51",
    "MinAPIVersion": "1.24",
}


def test_docker_with_the_classic_store() -> None:
    info = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}
    assert engine_info(VERSION, info) == EngineInfo(
        product="Docker",
        version="28.5.2",
        api_version="1.51",
        min_api_version="1.24",
        store="classic",
        driver="overlay2",
    )


def test_docker_with_the_containerd_store() -> None:
    info = {
        "Driver": "overlayfs",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
    }
    found = engine_info(VERSION, info)
    assert (found.store, found.driver, found.rootless) == ("containerd", "overlayfs", True)


def test_podman() -> None:
    found = engine_info(podman_socket.VERSION, podman_socket.INFO)
    assert (found.product, found.version, found.store) == ("Podman", "5.8.6", "podman")
    assert not found.asks_registries
    assert not found.reports_progress
    assert found.tested


def test_another_product_keeps_its_own_name() -> None:
    version = {"Components": [{"Name": "acme-engine"}], "Version": "1.0"}
    assert engine_info(version, {}).title == "acme-engine 1.0 (classic image store)"


@pytest.mark.parametrize(
    ("version", "info"),
    [
        ({}, {}),
        ({"Components": None, "Version": None, "ApiVersion": 7}, {"DriverStatus": None}),
        ({"Components": "x", "Version": ["1"]}, {"DriverStatus": "x", "SecurityOptions": 1}),
        ({"Components": [None, 1]}, {"DriverStatus": [None, 1], "Driver": {}}),
    ],
)
def test_answers_of_another_shape_say_nothing(version: Any, info: Any) -> None:
    assert engine_info(version, info).title == "Docker (classic image store)"


def test_a_text_of_the_engines_is_one_bounded_line() -> None:
    found = engine_info({"Version": "28\x1b[2J\n" + "x" * 500}, {})
    assert found.version.isprintable()
    assert len(found.version) == 64
