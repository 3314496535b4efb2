"""Only an image's config may stand behind a manifest that the worker writes."""

from __future__ import annotations

import json

import pytest

from transship_worker.transports.stream.choice import Fallback
from transship_worker.transports.stream.config import LAYERS_MOST, diff_ids_of

LAYER = "sha256:" + "a" * 64


def config(**rootfs: object) -> bytes:
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()


@pytest.mark.parametrize("layers", [[], [LAYER], [LAYER, LAYER], None])
def test_the_layers_of_a_config_are_read(layers: list[str] | None) -> None:
    assert diff_ids_of(config(type="layers", diff_ids=layers)) == (layers or [])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        # What the containerd store calls an image by: a manifest, an index.
        json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode(),
        json.dumps({"schemaVersion": 2, "manifests": []}).encode(),
        b'{"rootfs": null}',
        config(type="base", diff_ids=[LAYER]),
        config(type="layers", diff_ids=LAYER),
        config(type="layers", diff_ids=[7]),
        config(type="layers", diff_ids=["latest"]),
        config(type="layers", diff_ids=[LAYER] * (LAYERS_MOST + 1)),
    ],
)
def test_what_is_no_config_is_refused(raw: bytes) -> None:
    with pytest.raises(Fallback):
        diff_ids_of(raw)
