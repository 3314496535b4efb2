"""Cases where nothing fails: one attempt, and the registry holds the engine's image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from tests.matrix.engines.checks import (
    Stored,
    check_content,
    check_engine_pulls,
    check_skopeo_pulls,
    check_succeeded,
    expect,
    read_manifest,
    stored,
)
from tests.matrix.engines.ground import Ground, Skipped
from tests.matrix.engines.start import buildkit_entry
from tests.support.engines import images
from tests.support.images.engine_images import make_image
from tests.support.servers.registry import Registry
from transship import JobRecord

REPOSITORY: Final = "ml/train"
TAG: Final = "42"


def built(ground: Ground, *, via: str, sizes: Sequence[int]) -> None:
    registry = ground.registry()
    name = target(registry)
    images.build(ground.client, name, sizes)
    push_and_check(ground, registry, via)


def loaded(ground: Ground, *, via: str) -> None:
    registry = ground.registry()
    make_image(ground.client, target(registry), layers=[200_000, 30_000])
    push_and_check(ground, registry, via)


def buildkit(ground: Ground, *, via: str) -> None:
    """Built by BuildKit, with provenance where the store can hold it."""
    if ground.kind.is_podman:
        raise Skipped("Podman builds without BuildKit")
    registry = ground.registry()
    images.build_by_buildkit(
        buildkit_entry(ground.engine),
        ground.engine.url,
        ground.engine.folder,
        target(registry),
        provenance=ground.kind.stores_manifests,
    )
    push_and_check(ground, registry, via)
    if ground.kind.stores_manifests:
        top = read_manifest(registry, REPOSITORY, TAG)
        expect(len(top.body.get("manifests", [])) == 2, "the index lost its attestation")
    else:
        ground.notes.append("without provenance: the classic store holds no attestation")


def pulled_by_digest(ground: Ground, *, via: str) -> None:
    source, registry = ground.registry(), ground.registry()
    origin = f"{source.address}/base/image"
    digests = images.publish_index(source, "base/image", "1")
    digest = digests[images.PLATFORMS[0]]
    images.pull(ground.client, f"{origin}@{digest}")
    expected = digest if ground.kind.stores_manifests else ""
    push_and_check(ground, registry, via, source=f"{origin}@{digest}", expected=expected)


def pushed_again(ground: Ground, *, via: str) -> None:
    registry = ground.registry()
    images.build(ground.client, target(registry), [os.urandom(1)[0] + 1000])
    ground.publish(registry.address)
    first = ground.push(target(registry), "--via", via)
    check_succeeded(first)
    again = ground.push(target(registry), "--via", via)
    check_succeeded(again, skipped=True)
    digests = {first.digest, again.digest, registry.digest(REPOSITORY, TAG)}
    expect(len(digests) == 1, f"different digests: {digests}")


def push_and_check(
    ground: Ground,
    registry: Registry,
    via: str,
    *,
    source: str = "",
    expected: str = "",
) -> JobRecord:
    """Push ``REPOSITORY:TAG`` at the first attempt, and check all that can be seen of it."""
    name = target(registry)
    image = stored(ground.kind, ground.client, source or name)
    ground.publish(registry.address)
    options = ["--source", source] if source else []
    record = ground.push(name, "--via", via, *options)
    check_succeeded(record)
    check_arrived(ground, registry, record, image, expected=expected)
    return record


def check_arrived(
    ground: Ground,
    registry: Registry,
    record: JobRecord,
    image: Stored,
    *,
    expected: str = "",
    platform: str | None = None,
) -> None:
    """The registry holds the image, and both clients pull it."""
    name = target(registry)
    if ground.kind.stores_manifests:
        # The store has the manifest itself: it is sent unchanged.
        expected = expected or image.id
    check_content(registry, REPOSITORY, TAG, record, image, expected)
    check_skopeo_pulls(name, record)
    check_engine_pulls(ground.client, image, name, record, platform=platform)


def target(registry: Registry, address: str = "") -> str:
    """The image's name at a registry, or at the address of a proxy before it."""
    return f"{address or registry.address}/{REPOSITORY}:{TAG}"
