"""Which store an engine has, from the answers of Docker Engine 20.10 to 28.5 and Podman 5.8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from transship.model.migration.platforms import Platform
from transship.model.references import ImageReference
from transship_worker.transports.engine.connection import Line, api_version
from transship_worker.transports.engine.endpoint import Endpoint
from transship_worker.transports.engine.errors import Named
from transship_worker.transports.engine.identity import HeldImage, Store, held_manifests
from transship_worker.transports.engine.stores import store_of

ENGINE = Named("build-7", Endpoint("unix:///run/docker.sock"))
IMAGE = ImageReference.parse("127.0.0.1:5000/a/b:1")
DIGEST, OTHER = (f"sha256:{char * 64}" for char in "12")
SNAPSHOTTER = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
GRAPH = {"DriverStatus": [["Backing Filesystem", "extfs"]]}


@dataclass
class ScriptedLine:
    """A connection whose answers named this server and speak this API."""

    server: str
    api: tuple[int, int]
    told: Mapping[str, Any] = field(default_factory=dict)
    components: tuple[str, ...] = ("Engine",)
    asked: list[str] = field(default_factory=list)

    def info(self) -> Mapping[str, Any]:
        self.asked.append("info")
        return self.told

    def version(self, *, api_version: bool) -> Mapping[str, Any]:
        assert not api_version
        self.asked.append("version")
        return {"Components": [{"Name": name} for name in self.components]}


@pytest.mark.parametrize(
    ("line", "inspected", "store", "asked"),
    [
        (ScriptedLine("Docker/20.10.24+dfsg1 (linux)", (1, 41)), {}, Store.CLASSIC, []),
        (ScriptedLine("Docker/26.1.5 (linux)", (1, 45), GRAPH), {}, Store.CLASSIC, ["info"]),
        (
            ScriptedLine("Docker/26.1.5 (linux)", (1, 45), SNAPSHOTTER),
            {},
            Store.CONTAINERD,
            ["info"],
        ),
        (ScriptedLine("Docker/28.5.2 (linux)", (1, 51)), {}, Store.CLASSIC, []),
        (
            ScriptedLine("Docker/28.5.2 (linux)", (1, 51)),
            {"Descriptor": {"digest": DIGEST}},
            Store.CONTAINERD,
            [],
        ),
        # DOCKER_API_VERSION=1.41 keeps a newer engine from telling it.
        (
            ScriptedLine("Docker/28.5.2 (linux)", (1, 41), SNAPSHOTTER),
            {},
            Store.CONTAINERD,
            ["info"],
        ),
        (ScriptedLine("Libpod/5.8.6 (linux)", (1, 44)), {}, Store.PODMAN, []),
        # A proxy that takes the header away.
        (
            ScriptedLine("", (1, 41), components=("Podman Engine", "Conmon")),
            {},
            Store.PODMAN,
            ["version"],
        ),
        (ScriptedLine("nginx", (1, 51), GRAPH), {}, Store.CLASSIC, ["version", "info"]),
        (ScriptedLine("Docker/dev (linux)", (1, 51), {}), {}, Store.CLASSIC, ["version", "info"]),
    ],
)
def test_the_store_is_known_and_costs_a_request_only_where_it_must(
    line: ScriptedLine, inspected: Mapping[str, Any], store: Store, asked: list[str]
) -> None:
    assert store_of(cast("Line", line), ENGINE, inspected) is store
    assert line.asked == asked


def test_an_image_is_read_as_its_engine_tells_it() -> None:
    inspected = {
        "Id": DIGEST,
        "RepoDigests": [f"{IMAGE.name}@{OTHER}", f"other/name@{DIGEST}", "<none>@<none>", 7],
        "RootFS": {"Type": "layers", "Layers": [OTHER]},
        "Size": 1000,
        "Os": "linux",
        "Architecture": "arm64",
        "Variant": "v8",
    }
    held = HeldImage.of(inspected, Store.CLASSIC, IMAGE)
    assert (held.id, set(held.listed), held.diff_ids) == (DIGEST, {OTHER}, (OTHER,))
    assert (held.size, held.platform) == (1000, Platform.parse("linux/arm64"))


def test_an_answer_with_other_types_is_read_as_far_as_it_can_be() -> None:
    inspected = {"Id": DIGEST, "RepoDigests": "x", "RootFS": None, "Size": "1", "Os": 7}
    held = HeldImage.of(inspected, Store.PODMAN, IMAGE)
    assert (held.listed, held.diff_ids, held.size, held.platform) == (frozenset(), (), 0, None)


def entry(digest: str, *, available: bool, kind: str, **descriptor: Any) -> dict[str, Any]:
    return {
        "Descriptor": {"digest": digest, **descriptor},
        "Available": available,
        "Kind": kind,
    }


def test_the_manifests_of_an_index_are_read_with_their_kinds_and_platforms() -> None:
    # As Docker Engine 28.5 answers to ?manifests=1.
    arm = {"os": "linux", "architecture": "arm", "variant": "v7"}
    unknown = {"os": "unknown", "architecture": "unknown"}
    found = held_manifests(
        {
            "Manifests": [
                entry(DIGEST, available=True, kind="image", platform=arm),
                entry(OTHER, available=True, kind="attestation", platform=unknown),
                entry("sha256:" + "3" * 64, available=False, kind="unknown", platform=unknown),
                entry("sha256:" + "4" * 64, available=False, kind="unknown", platform=arm),
                entry("latest", available=True, kind="image"),
                "text",
            ]
        }
    )
    assert [(one.available, one.is_image) for one in found] == [
        (True, True),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert str(found[0]) == "linux/arm/v7"
    assert held_manifests({"Manifests": "none"}) == held_manifests({}) == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.41", (1, 41)),
        (" 1.52 ", (1, 52)),
        ("", None),
        ("1", None),
        ("1.x", None),
        ("1.41.2", None),
    ],
)
def test_versions_of_the_api_are_numbers(text: str, version: tuple[int, int] | None) -> None:
    assert api_version(text) == version
