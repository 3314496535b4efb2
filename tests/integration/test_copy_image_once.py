"""The copy of whole images: hints, mounts and leads, and copies that stop or are corrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_images import (
    WatchedControl,
    delete_manifest,
    image,
    noise,
    put_image,
)
from tests.support.images.two_registries import Sides, multi_arch
from tests.support.servers.registry import Registry
from transship.errors import DigestMismatch, PushCancelled
from transship.ledger.keys import Keys
from transship_worker.fleet.leads import RedisLeads
from transship_worker.fleet.port import Leads, Place, Where
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci import blobs, manifests
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.manifests import Written
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = pytest.mark.registry


def blob_file(registry: Registry, digest: str) -> Path:
    """Where distribution 2.8 keeps a blob."""
    algorithm, _, value = digest.partition(":")
    folder = registry.data / "docker/registry/v2/blobs" / algorithm / value[:2] / value
    return folder / "data"


async def test_nothing_of_a_corrupt_image_is_tagged(
    side: Sides, registries: tuple[Registry, Registry]
) -> None:
    layers = [noise(300_000, f"{side.name}{n}") for n in range(4)]
    made = await put_image(side.source(), image(*layers), *layers, b"{}", tag="v1")
    broken = made.layers[2].digest
    blob_file(registries[0], broken).write_bytes(noise(300_000, "other"))
    with pytest.raises(DigestMismatch, match=f"{broken}: what came is"):
        await side.copy("v1", "v1")
    assert await manifests.head(side.target(), "v1") is None
    assert await manifests.head(side.target(), made.digest) is None
    assert await blobs.head(side.target(), broken) is None
    # Nothing is led any more.
    place = Place(registries[1].address, side.name)
    free = await side.leads.take(place, "another", [broken])
    assert free[broken].where is Where.LEAD


async def test_a_wrong_hint_costs_one_more_look(
    side: Sides, registries: tuple[Registry, Registry]
) -> None:
    layer, config = noise(5_000, side.name), side.name.encode()
    wanted = image(layer, config=config)
    made = await put_image(side.source(), wanted, layer, config, tag="v1")
    place = Place(registries[1].address, side.name)
    await side.leads.arrived(place, "liar", [made.layers[0].digest])
    await side.copy("v1", "v1")
    await side.has_same("v1")
    said = side.control.bytes
    assert (said["moved"], said["present"]) == (len(layer) + len(config), 0)


async def test_a_wrong_hint_of_a_child_costs_one_more_look(
    side: Sides, registries: tuple[Registry, Registry]
) -> None:
    whole = await multi_arch(side)
    place = Place(registries[1].address, side.name)
    wrong = [whole[name].layers[0].digest for name in ("linux/amd64", "linux/arm64")]
    await side.leads.arrived(place, "liar", wrong)
    await side.copy("v1", "v1")
    await side.has_same("v1", *(one.digest for one in whole.values()))
    said = side.control.bytes
    assert (said["moved"], said["present"]) == (said["planned"], 0)


async def test_what_another_repository_holds_is_mounted(side: Sides) -> None:
    whole = await multi_arch(side)
    await side.copy("v1", "v1")
    await side.copy("v1", "v1", to=f"{side.name}/other")
    said = side.control.bytes
    assert (said["moved"], said["mounted"]) == (0, said["planned"])
    other = await manifests.get(side.target(f"{side.name}/other"), "v1")
    assert other.raw == whole["index"].raw


async def test_within_one_registry_nothing_is_sent(side: Sides) -> None:
    whole = await multi_arch(side)
    control, to = WatchedControl(), side.source(f"{side.name}/copy")
    copied = await copy_image(
        CopyTask("v1", ("v1",)),
        RegistryRepository(side.source()),
        RegistryRepository(to),
        side.leads,
        control,
        "copy",
    )
    assert copied == Copied(whole["index"].digest, tagged=("v1",))
    assert (control.bytes["moved"], control.bytes["mounted"]) == (0, control.bytes["planned"])
    assert (await manifests.get(to, "v1")).raw == whole["index"].raw


async def test_a_refused_mount_becomes_an_upload(
    side: Sides, registries: tuple[Registry, Registry]
) -> None:
    layer, config = noise(5_000, side.name), side.name.encode()
    made = await put_image(side.source(), image(layer, config=config), layer, config, tag="v1")
    elsewhere = Place(registries[1].address, f"{side.name}/empty")
    await side.leads.arrived(elsewhere, "liar", [made.layers[0].digest])
    await side.copy("v1", "v1")
    await side.has_same("v1")
    assert side.control.bytes["moved"] == len(layer) + len(config)
    # The registry mounts; only this hint was wrong, and is no more.
    assert await side.leads.can_mount(elsewhere.registry)
    third = Place(elsewhere.registry, f"{side.name}/third")
    found = await side.leads.take(third, "third", [made.layers[0].digest])
    assert found[made.layers[0].digest].repository == side.name


async def test_blobs_that_are_there_are_found_without_hints(side: Sides) -> None:
    await multi_arch(side)
    await side.copy("v1")
    whole = await multi_arch(side, "v2")
    side.leads = AloneLeads()
    await delete_manifest(side.target(), whole["index"].digest)
    await side.copy("v2", "v2")
    said = side.control.bytes
    assert (said["moved"], said["present"]) == (0, said["planned"])


async def test_into_a_new_repository_nothing_is_looked_for_and_the_fleet_is_asked(
    side: Sides,
) -> None:
    made = await multi_arch(side)
    copied = await side.copy(made["index"].digest, "v1", fresh=True)
    assert copied == Copied(made["index"].digest, tagged=("v1",))
    await side.has_same("v1", *(one.digest for one in made.values()))
    # What was brought there meanwhile is known from the fleet, not from the registry.
    again = await side.copy(made["index"].digest, "v2", fresh=True)
    said = side.control.bytes
    assert (said["moved"], said["present"]) == (0, said["planned"])
    assert again.tagged == ("v2",)


async def share(side: Sides, leads: Sequence[Leads]) -> None:
    """12 copies into four repositories at once, in turns over these leads."""
    shared = [noise(100_000, f"{side.name}{n}") for n in range(5)]
    unique = sum(map(len, shared))
    for number in range(12):
        own = noise(1_000, f"{side.name}/own{number}")
        config = f"{side.name}{number}".encode()
        unique += len(own) + len(config)
        layers = [*shared, own]
        wanted = image(*layers, config=config)
        await put_image(side.source(), wanted, *layers, config, tag=f"v{number}")
    controls = [WatchedControl() for _ in range(12)]
    async with asyncio.TaskGroup() as group:
        for number, control in enumerate(controls):
            to, tag = f"{side.name}/{number % 4}", f"v{number}"
            mine = leads[number % len(leads)]
            group.create_task(side.copy(tag, tag, to=to, control=control, leads=mine))
    assert sum(control.bytes["moved"] for control in controls) == unique
    for control in controls:
        said = control.bytes
        assert said["moved"] + said["mounted"] + said["present"] == said["planned"]
    for number in range(12):
        target = side.target(f"{side.name}/{number % 4}")
        for blob in (await manifests.get(target, f"v{number}")).blobs:
            assert await blobs.head(target, blob.digest) is not None


async def test_shared_layers_are_sent_once_by_copies_side_by_side(side: Sides) -> None:
    await share(side, [side.leads])


async def test_shared_layers_are_sent_once_by_workers_side_by_side(
    side: Sides, redis_url: str
) -> None:
    keys = Keys(side.name.replace("/", "-"))
    async with (
        FleetRedis(redis_url) as one,
        FleetRedis(redis_url) as other,
        RedisLeads(one, keys, lease_s=30) as ours,
        RedisLeads(other, keys, lease_s=30) as theirs,
    ):
        await share(side, [ours, theirs])


async def test_a_copy_that_is_cancelled_leads_nothing_more(
    side: Sides, registries: tuple[Registry, Registry]
) -> None:
    made = await put_image(side.source(), image(b"layer"), b"layer", b"{}", tag="v1")
    place = Place(registries[1].address, side.name)
    digest = made.layers[0].digest
    await side.leads.take(place, "other", [digest])
    control = WatchedControl()
    copy = asyncio.create_task(side.copy("v1", "v1", control=control))
    async with asyncio.timeout(30):
        await control.is_parked.wait()
    copy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copy
    await side.leads.give_up(place, "other", [digest])
    found = await side.leads.take(place, "third", [digest])
    assert found[digest].where is Where.LEAD


async def test_a_copy_whose_job_was_stopped_writes_no_tag(side: Sides) -> None:
    await put_image(side.source(), image(b"layer"), b"layer", b"{}", tag="v1")
    await side.copy("v1")
    control = WatchedControl()
    control.stop = PushCancelled("asked for")
    with pytest.raises(PushCancelled):
        await side.copy("v1", "v1", control=control)
    assert await manifests.head(side.target(), "v1") is None


async def test_a_tag_is_written_only_with_lease_left(side: Sides) -> None:
    await put_image(side.source(), image(b"layer"), b"layer", b"{}", tag="v1")
    control = WatchedControl()
    control.leases = [0.0, 0.5, 60.0]
    await side.copy("v1", "v1", control=control)
    # All were looked at before the tag was written.
    assert control.leases == [60.0]
    await side.has_same("v1")


class SlowManifests(RegistryRepository):
    """A real target, whose manifests wait until they are let through."""

    let_through: asyncio.Event

    async def put(
        self, reference: str, manifest: Manifest, *, timeout_s: float | None = None
    ) -> Written:
        await self.let_through.wait()
        return await super().put(reference, manifest, timeout_s=timeout_s)


async def test_mounts_that_need_a_manifest_wait_for_it(side: Sides) -> None:
    layer, config = noise(5_000, side.name), side.name.encode()
    made = await put_image(side.source(), image(layer, config=config), layer, config, tag="v1")
    let_through = asyncio.Event()
    copies, controls = [], []
    for name in ("first", "second"):
        target = SlowManifests(side.target(f"{side.name}/{name}"), mounts_need_manifest=True)
        target.let_through = let_through
        controls.append(WatchedControl())
        copy = copy_image(
            CopyTask("v1", ("v1",)),
            RegistryRepository(side.source()),
            target,
            side.leads,
            controls[-1],
            name,
        )
        copies.append(asyncio.create_task(copy))
    async with asyncio.timeout(30):
        await asyncio.wait(
            [asyncio.create_task(one.is_parked.wait()) for one in controls],
            return_when=asyncio.FIRST_COMPLETED,
        )
    assert not any(control.bytes["mounted"] for control in controls)
    let_through.set()
    for copied in await asyncio.gather(*copies):
        assert copied.digest == made.digest
    assert sum(one.bytes["moved"] for one in controls) == len(layer) + len(config)
    assert sum(one.bytes["mounted"] for one in controls) == len(layer) + len(config)
