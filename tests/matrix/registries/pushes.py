"""Pushes of the host's Docker Engine."""

from __future__ import annotations

import gzip
import json
from typing import Any

from tests.matrix.registries.ground import Ground, check_failed
from tests.matrix.registries.wire import digest_of, expect
from transship import JobRecord


def one_layer(ground: Ground) -> None:
    _push_and_check(ground, [1000], via="engine")


def several_layers(ground: Ground) -> None:
    _push_and_check(ground, [300_000, 50_000, 1000], via="engine")


def streamed(ground: Ground) -> None:
    _push_and_check(ground, [300_000, 50_000], via="stream")


def again(ground: Ground) -> None:
    record = _push_and_check(ground, [1000], via="auto")
    with ground.front.counting():
        second = ground.pushed(ground.target())
    ground.judge(second, skipped=True)
    ground.no_bytes()
    expect(second.digest == record.digest, f"{second.digest} is not {record.digest}")


def wrong_login(ground: Ground) -> None:
    ground.image(1000)
    check_failed(ground.pushed(ground.target()), "denied")


def refused(ground: Ground) -> None:
    ground.image(1000)
    check_failed(ground.pushed(ground.target()), "registry_read_only")


def _push_and_check(ground: Ground, layers: list[int], **options: Any) -> JobRecord:
    image_id = ground.image(*layers)
    record = ground.pushed(ground.target(), **options)
    ground.judge(record)
    served = ground.wire.manifest(ground.repository, "v1")
    expect(served is not None, "the tag is not there")
    assert served is not None
    found = digest_of(served.body)
    expect(found == record.digest, f"the tag has {found}, the job says {record.digest}")
    manifest = json.loads(served.body)
    expect(manifest["config"]["digest"] == image_id, "the config is not the image's")
    config = json.loads(_blob(ground, manifest["config"]["digest"]))
    diff_ids = config["rootfs"]["diff_ids"]
    expect(len(diff_ids) == len(manifest["layers"]) == len(layers), "the number of layers")
    for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True):
        content = gzip.decompress(_blob(ground, layer["digest"]))
        expect(digest_of(content) == diff_id, f"the layer {layer['digest']} is not {diff_id}")
    return record


def _blob(ground: Ground, digest: str) -> bytes:
    found = ground.wire.blob(ground.repository, digest)
    expect(found is not None, f"the blob {digest} is not there")
    assert found is not None
    return found
