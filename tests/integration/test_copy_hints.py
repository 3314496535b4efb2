"""What the fleet remembers of a target is not the truth: blobs that are gone are sent again.

Against distribution 2.8, which refuses a manifest without its blobs, and against a registry that
takes it, as the one of go-containerregistry does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_images import (
    WatchedControl,
    delete_blob,
    delete_manifest,
    image,
    noise,
    put_image,
    repository,
)
from tests.support.images.two_registries import Sides, multi_arch
from tests.support.strict_registry.registry import Rules, StrictRegistry
from transship.errors import AnswerMalformed
from transship_worker.fleet.port import Place
from transship_worker.oci import blobs, manifests
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.uploads import Upload
from transship_worker.transports.copy import transfer
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = pytest.mark.registry


async def small(side: Sides, tag: str = "v1") -> Manifest:
    """An image of two layers, at the source."""
    layers = [noise(5_000, f"{side.name}{tag}{number}") for number in range(2)]
    config = f"{side.name}{tag}".encode()
    return await put_image(side.source(), image(*layers, config=config), *layers, config, tag=tag)


async def test_a_further_tag_brings_back_a_blob_that_was_deleted(side: Sides) -> None:
    made = await small(side)
    await side.copy("v1", "v1")
    await delete_blob(side.target(), made.layers[0].digest)

    copied = await side.copy("v1", "v2")

    assert copied == Copied(made.digest, tagged=("v2",))
    assert (await manifests.get(side.target(), "v2")).raw == made.raw
    await side.has_same("v1")
    assert side.control.bytes["moved"] == made.layers[0].size


async def test_an_index_brings_back_a_child_and_a_blob_that_were_deleted(side: Sides) -> None:
    whole = await multi_arch(side)
    await side.copy("v1", "v1")
    child = whole["linux/amd64"]
    await delete_blob(side.target(), child.layers[0].digest)
    await delete_manifest(side.target(), child.digest)

    await side.copy("v1", "v2")

    assert (await manifests.get(side.target(), "v2")).raw == whole["index"].raw
    await side.has_same(*(one.digest for one in whole.values()))
    assert side.control.bytes["moved"] == child.layers[0].size


async def test_a_new_image_brings_back_a_blob_that_was_deleted(side: Sides) -> None:
    made = await small(side)
    await side.copy("v1", "v1")
    shared, more = made.layers[0].digest, noise(3_000, f"{side.name}more")
    async with blobs.read(side.source(), shared) as reader:
        layer = b"".join([piece async for piece in reader.pieces()])
    await put_image(side.source(), image(layer, more, config=b"{}"), layer, more, b"{}", tag="v2")
    await delete_blob(side.target(), shared)

    await side.copy("v2", "v2")

    await side.has_same("v2")


@pytest.fixture
def lenient() -> Iterator[StrictRegistry]:
    """A registry that takes manifests whose blobs it does not have."""
    with StrictRegistry(Rules(checks_parts=False)) as registry:
        yield registry


class Emptied:
    """Copies into a registry that somebody empties between them."""

    def __init__(self, side: Sides, pool: ClientPool, lenient: StrictRegistry) -> None:
        self.side = side
        self.target = repository(pool, lenient.address, side.name)
        self.leads = AloneLeads()
        self.registry = lenient

    async def copy(self, **task: Any) -> WatchedControl:
        """Copy ``v1``."""
        control = WatchedControl()
        await copy_image(
            CopyTask("v1", ("v1",), **task),
            RegistryRepository(self.side.source()),
            RegistryRepository(self.target),
            self.leads,
            control,
            f"copy{time.monotonic()}",
        )
        return control

    def empty(self) -> None:
        """What a registry with its data in memory does when it is started again."""
        self.registry.store.repositories.clear()
        self.registry.store.blobs.clear()

    async def is_whole(self, made: Manifest) -> None:
        """The target has the image with all its blobs."""
        assert (await manifests.get(self.target, "v1")).raw == made.raw
        for blob in made.blobs:
            assert await blobs.head(self.target, blob.digest, blob.size) is not None


@pytest.fixture
def emptied(side: Sides, pool: ClientPool, lenient: StrictRegistry) -> Emptied:
    """See ``Emptied``."""
    return Emptied(side, pool, lenient)


async def test_what_was_there_before_the_job_is_asked_for(emptied: Emptied) -> None:
    made = await small(emptied.side)
    await emptied.copy()
    emptied.empty()

    control = await emptied.copy(since=time.monotonic())

    await emptied.is_whole(made)
    assert control.bytes["moved"] == sum(blob.size for blob in made.blobs)


async def test_what_was_there_some_minutes_ago_is_asked_for(
    emptied: Emptied, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await small(emptied.side)
    await emptied.copy()
    emptied.empty()
    # No hint is that young.
    monkeypatch.setattr(transfer, "BELIEVED_S", -1.0)

    await emptied.copy()

    await emptied.is_whole(made)


async def test_an_old_hint_that_is_right_is_made_new(emptied: Emptied) -> None:
    made = await small(emptied.side)
    await emptied.copy()
    emptied.registry.store.repositories[emptied.side.name].tags.clear()
    emptied.registry.store.repositories[emptied.side.name].manifests.clear()
    since = time.monotonic()

    control = await emptied.copy(since=since)

    assert (control.bytes["moved"], control.bytes["present"]) == (0, control.bytes["planned"])
    await emptied.is_whole(made)
    place = Place(emptied.target.client.endpoint.registry, emptied.side.name)
    found = await emptied.leads.take(place, "another", [blob.digest for blob in made.blobs])
    assert all(one.written > since for one in found.values())


class LyingMounts(RegistryRepository):
    """A registry that says it mounted a blob, and did not."""

    async def mount(self, digest: str, source: str) -> Upload | None:
        """Say that the blob is there."""
        return None


class PlacelessMounts(RegistryRepository):
    """A registry that accepts a mount and does not say where the upload is instead."""

    async def mount(self, digest: str, source: str) -> Upload | None:
        """What the client makes of a 202 without ``Location``."""
        raise AnswerMalformed("an upload was opened without saying where")


@pytest.mark.parametrize("target", [LyingMounts, PlacelessMounts])
async def test_what_a_mount_did_not_bring_is_uploaded(
    side: Sides, target: type[RegistryRepository]
) -> None:
    made = await small(side)
    await side.copy("v1", "v1", to=f"{side.name}/other")
    control = WatchedControl()

    await copy_image(
        CopyTask("v1", ("v1",)),
        RegistryRepository(side.source()),
        target(side.target()),
        side.leads,
        control,
        "copy",
    )

    await side.has_same("v1")
    said = control.bytes
    assert (said["moved"], said["mounted"]) == (sum(blob.size for blob in made.blobs), 0)
