"""The copy of whole images between two real registries."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from longshore_config.errors import (
    DigestMismatch,
    ImageNotFound,
    ImmutableTag,
    ManifestUnsupported,
    PushCancelled,
)
from longshore_config.keys import Keys
from longshore_config.migration.platforms import Platform
from longshore_config.migration.spec import OnConflict
from longshore_worker.fleet.leads import RedisLeads
from longshore_worker.fleet.port import Leads, Place, Where
from longshore_worker.fleet.redis import FleetRedis
from longshore_worker.oci import blobs, manifests
from longshore_worker.oci.client import Repository
from longshore_worker.oci.descriptors import DOCKER_MANIFEST, Manifest
from longshore_worker.oci.manifests import Written
from longshore_worker.oci.pool import ClientPool
from longshore_worker.transports.copy.alone import AloneLeads
from longshore_worker.transports.copy.image import copy_image
from longshore_worker.transports.copy.port import Copied, CopyTask
from longshore_worker.transports.copy.registry import RegistryRepository
from longshore_worker.transports.copy.tree import DEPTH_MOST
from tests.support.copies import (
    WatchedControl,
    delete_manifest,
    describe,
    entry,
    image,
    index,
    made,
    noise,
    put_blob,
    put_image,
    repository,
    with_pool,
)
from tests.support.registry import Registry

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def registries() -> Iterator[tuple[Registry, Registry]]:
    """The source and the target."""
    with Registry() as source, Registry() as target:
        yield source, target


class Sides:
    """Both registries as one test uses them, in repositories of its own."""

    def __init__(self, pool: ClientPool, registries: tuple[Registry, Registry], name: str) -> None:
        self._pool = pool
        self._registries = registries
        self.name = name
        self.leads = AloneLeads()
        self.control = WatchedControl()
        self._copies = 0

    def source(self, name: str = "") -> Repository:
        return repository(self._pool, self._registries[0].address, name or self.name)

    def target(self, name: str = "") -> Repository:
        return repository(self._pool, self._registries[1].address, name or self.name)

    async def copy(
        self,
        reference: str,
        *tags: str,
        to: str = "",
        control: WatchedControl | None = None,
        leads: Leads | None = None,
        **task: Any,
    ) -> Copied:
        """Copy with a control of its own."""
        self.control = control = control or WatchedControl()
        self._copies += 1
        return await copy_image(
            CopyTask(reference, tags, **task),
            RegistryRepository(self.source()),
            RegistryRepository(self.target(to)),
            leads or self.leads,
            control,
            f"copy{self._copies}",
        )

    async def has_same(self, *references: str) -> None:
        """Both sides have the same bytes under these."""
        for reference in references:
            ours = await manifests.get(self.target(), reference)
            assert ours.raw == (await manifests.get(self.source(), reference)).raw
            for blob in ours.blobs:
                head = await blobs.head(self.target(), blob.digest)
                assert head is not None, f"{reference} lacks {blob.digest}"


Run = Callable[[Callable[[Sides], Awaitable[None]]], None]


@pytest.fixture
def run(registries: tuple[Registry, Registry], request: pytest.FixtureRequest) -> Run:
    """Run a test's own coroutine with both sides."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")

    def start(work: Callable[[Sides], Awaitable[None]]) -> None:
        with_pool(lambda pool: work(Sides(pool, registries, f"t/{name}")))

    return start


async def multi_arch(side: Sides, tag: str = "v1") -> dict[str, Manifest]:
    """An index for two platforms, each with an attestation, at the source."""
    source = side.source()
    found: dict[str, Manifest] = {}
    entries = []
    for platform in ("linux/amd64", "linux/arm64"):
        parts = [noise(20_000, f"{side.name}/{platform}/{n}") for n in range(3)]
        config = json.dumps({"architecture": platform}).encode()
        found[platform] = await put_image(source, image(*parts, config=config), *parts, config)
        statement = noise(100, f"{side.name}/{platform}")
        proof = image(statement, config=b"{}", note=platform)
        found[f"proof/{platform}"] = await put_image(source, proof, statement, b"{}")
        entries += [
            entry(found[platform], platform),
            entry(
                proof,
                "unknown/unknown",
                vnd__docker__reference__type="attestation-manifest",
                vnd__docker__reference__digest=found[platform].digest,
            ),
        ]
    found["index"] = await put_image(source, index(*entries), tag=tag)
    return found


def test_an_index_arrives_with_all_its_images_and_keeps_its_digest(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        copied = await side.copy("v1", "v1", "latest")
        assert copied == Copied(made["index"].digest, tagged=("v1", "latest"))
        await side.has_same("v1", *(one.digest for one in made.values()))
        assert (await manifests.get(side.target(), "latest")).digest == made["index"].digest
        said = side.control.bytes
        assert said["planned"] == said["moved"] > 120_000
        assert side.control.done == side.control.layers == 11

    run(work)


def test_a_copy_that_is_there_sends_nothing(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        await side.copy("v1", "v1")
        again = await side.copy("v1", "v1")
        assert again == Copied(made["index"].digest, skipped=True)
        assert not any(side.control.bytes.values())
        by_digest = await side.copy(made["index"].digest, "v1")
        assert by_digest.skipped

    run(work)


def test_a_tag_more_costs_no_blob(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        await side.copy("v1", "v1")
        copied = await side.copy(made["index"].digest, "v1", "v2", "v3")
        assert copied == Copied(made["index"].digest, tagged=("v2", "v3"))
        assert not any(side.control.bytes.values())
        for tag in ("v2", "v3"):
            assert (await manifests.get(side.target(), tag)).digest == copied.digest

    run(work)


def test_without_a_tag_an_image_is_copied_by_its_digest(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        copied = await side.copy(made["linux/amd64"].digest)
        assert copied == Copied(made["linux/amd64"].digest)
        await side.has_same(made["linux/amd64"].digest)
        assert await manifests.head(side.target(), "v1") is None

    run(work)


def test_a_nested_index_arrives_from_the_inside_out(run: Run) -> None:
    async def work(side: Sides) -> None:
        source = side.source()
        leaf = await put_image(source, image(b"leaf"), b"leaf", b"{}")
        inner = await put_image(source, index(entry(leaf, "linux/amd64")))
        middle = await put_image(source, index(entry(inner), entry(leaf)))
        outer = await put_image(source, index(entry(inner), entry(middle), entry(leaf)), tag="v1")
        assert (await side.copy("v1", "v1")).digest == outer.digest
        await side.has_same("v1", outer.digest, middle.digest, inner.digest, leaf.digest)

    run(work)


def test_indexes_deeper_than_any_use_are_refused(run: Run) -> None:
    async def work(side: Sides) -> None:
        source = side.source()
        one = await put_image(source, image(b"leaf"), b"leaf", b"{}")
        for _ in range(DEPTH_MOST + 1):
            one = await put_image(source, index(entry(one)))
        with pytest.raises(ManifestUnsupported, match="deep"):
            await side.copy(one.digest, "v1")

    run(work)


def test_127_layers_arrive(run: Run) -> None:
    async def work(side: Sides) -> None:
        layers = [noise(2_000, n) for n in range(127)]
        made = await put_image(side.source(), image(*layers), *layers, b"{}", tag="v1")
        assert (await side.copy("v1", "v1")).digest == made.digest
        await side.has_same("v1")
        assert side.control.done == 128

    run(work)


def test_a_layer_listed_twice_and_an_empty_layer_are_sent_once(run: Run) -> None:
    async def work(side: Sides) -> None:
        layer, config = noise(5_000, side.name), side.name.encode()
        wanted = image(layer, b"", layer, b"", config=config)
        made = await put_image(side.source(), wanted, layer, b"", config, tag="v1")
        assert (await side.copy("v1", "v1")).digest == made.digest
        await side.has_same("v1")
        assert side.control.bytes["moved"] == len(layer) + len(config)
        assert side.control.done == 3

    run(work)


def test_a_docker_image_keeps_its_format(run: Run) -> None:
    async def work(side: Sides) -> None:
        layer = noise(5_000, side.name)
        raw = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": describe(b"{}", "application/vnd.docker.container.image.v1+json"),
            "layers": [describe(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
        }
        await put_image(side.source(), made(raw), layer, b"{}", tag="v1")
        await side.copy("v1", "v1")
        await side.has_same("v1")
        assert (await manifests.get(side.target(), "v1")).media_type == DOCKER_MANIFEST

    run(work)


def test_sha512_layers_arrive(run: Run) -> None:
    async def work(side: Sides) -> None:
        layer = noise(5_000, side.name)
        strong = describe(layer, algorithm="sha512")
        wanted = made(json.loads(image(config=b"{}").raw) | {"layers": [strong]})
        await put_blob(side.source(), layer, algorithm="sha512")
        await put_image(side.source(), wanted, b"{}", tag="v1")
        await side.copy("v1", "v1")
        await side.has_same("v1")

    run(work)


def test_a_subset_keeps_the_attestations_of_its_platforms(run: Run) -> None:
    async def work(side: Sides) -> None:
        whole = await multi_arch(side)
        amd64 = Platform.parse("linux/amd64")
        copied = await side.copy("v1", "v1", platforms=(amd64, Platform.parse("linux/s390x")))
        found = await manifests.get(side.target(), "v1")
        assert found.digest == copied.digest != whole["index"].digest
        kept = {child.digest for child in found.children}
        assert kept == {whole["linux/amd64"].digest, whole["proof/linux/amd64"].digest}
        await side.has_same(*kept)
        assert await manifests.head(side.target(), whole["linux/arm64"].digest) is None
        told = " ".join(side.control.warnings)
        assert "has no linux/s390x" in told
        assert copied.digest in told
        assert whole["index"].digest in told
        assert (await side.copy("v1", "v1", platforms=(amd64,))).skipped

    run(work)


def test_a_platform_that_an_image_has_not_names_those_that_it_has(run: Run) -> None:
    async def work(side: Sides) -> None:
        await multi_arch(side)
        with pytest.raises(ImageNotFound, match="no linux/s390x; it has linux/amd64, linux/arm64"):
            await side.copy("v1", "v1", platforms=(Platform.parse("linux/s390x"),))

    run(work)


def test_an_image_that_is_not_there_is_named(run: Run) -> None:
    async def work(side: Sides) -> None:
        with pytest.raises(ImageNotFound, match=f"there is no .*{side.name}:v9"):
            await side.copy("v9", "v9")

    run(work)


@pytest.mark.parametrize("policy", list(OnConflict))
def test_a_tag_that_is_another_image_follows_the_policy(run: Run, policy: OnConflict) -> None:
    async def work(side: Sides) -> None:
        old = await put_image(side.target(), image(b"old"), b"old", b"{}", tag="v1")
        new = await put_image(side.source(), image(b"new"), b"new", b"{}", tag="v1")
        if policy is OnConflict.FAIL:
            with pytest.raises(ImmutableTag, match=f"v1 is {old.digest} already"):
                await side.copy("v1", "v1", "v2", on_conflict=policy)
            assert await manifests.head(side.target(), new.digest) is None
            return
        copied = await side.copy("v1", "v1", "v2", on_conflict=policy)
        kept = policy is OnConflict.SKIP
        assert copied.kept == (("v1",) if kept else ())
        assert set(copied.tagged) == ({"v2"} if kept else {"v1", "v2"})
        assert (await manifests.get(side.target(), "v2")).digest == new.digest
        now = (await manifests.get(side.target(), "v1")).digest
        assert now == (old if kept else new).digest

    run(work)


def test_nothing_is_copied_where_all_tags_are_to_be_left_alone(run: Run) -> None:
    async def work(side: Sides) -> None:
        await put_image(side.target(), image(b"old"), b"old", b"{}", tag="v1")
        new = await put_image(side.source(), image(b"new"), b"new", b"{}", tag="v1")
        copied = await side.copy("v1", "v1", on_conflict=OnConflict.SKIP)
        assert copied == Copied(new.digest, skipped=True, kept=("v1",))
        assert await manifests.head(side.target(), new.digest) is None

    run(work)


def blob_file(registry: Registry, digest: str) -> Path:
    """Where distribution 2.8 keeps a blob."""
    algorithm, _, value = digest.partition(":")
    folder = registry.data / "docker/registry/v2/blobs" / algorithm / value[:2] / value
    return folder / "data"


def test_nothing_of_a_corrupt_image_is_tagged(
    run: Run, registries: tuple[Registry, Registry]
) -> None:
    async def work(side: Sides) -> None:
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

    run(work)


def test_a_wrong_hint_costs_one_more_look(run: Run, registries: tuple[Registry, Registry]) -> None:
    async def work(side: Sides) -> None:
        layer, config = noise(5_000, side.name), side.name.encode()
        wanted = image(layer, config=config)
        made = await put_image(side.source(), wanted, layer, config, tag="v1")
        place = Place(registries[1].address, side.name)
        await side.leads.arrived(place, "liar", [made.layers[0].digest])
        await side.copy("v1", "v1")
        await side.has_same("v1")
        said = side.control.bytes
        assert (said["moved"], said["present"]) == (len(layer) + len(config), 0)

    run(work)


def test_a_wrong_hint_of_a_child_costs_one_more_look(
    run: Run, registries: tuple[Registry, Registry]
) -> None:
    async def work(side: Sides) -> None:
        whole = await multi_arch(side)
        place = Place(registries[1].address, side.name)
        wrong = [whole[name].layers[0].digest for name in ("linux/amd64", "linux/arm64")]
        await side.leads.arrived(place, "liar", wrong)
        await side.copy("v1", "v1")
        await side.has_same("v1", *(one.digest for one in whole.values()))
        said = side.control.bytes
        assert (said["moved"], said["present"]) == (said["planned"], 0)

    run(work)


def test_what_another_repository_holds_is_mounted(run: Run) -> None:
    async def work(side: Sides) -> None:
        whole = await multi_arch(side)
        await side.copy("v1", "v1")
        await side.copy("v1", "v1", to=f"{side.name}/other")
        said = side.control.bytes
        assert (said["moved"], said["mounted"]) == (0, said["planned"])
        other = await manifests.get(side.target(f"{side.name}/other"), "v1")
        assert other.raw == whole["index"].raw

    run(work)


def test_within_one_registry_nothing_is_sent(run: Run) -> None:
    async def work(side: Sides) -> None:
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

    run(work)


def test_a_refused_mount_becomes_an_upload(run: Run, registries: tuple[Registry, Registry]) -> None:
    async def work(side: Sides) -> None:
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

    run(work)


def test_blobs_that_are_there_are_found_without_hints(run: Run) -> None:
    async def work(side: Sides) -> None:
        await multi_arch(side)
        await side.copy("v1")
        whole = await multi_arch(side, "v2")
        side.leads = AloneLeads()
        await delete_manifest(side.target(), whole["index"].digest)
        await side.copy("v2", "v2")
        said = side.control.bytes
        assert (said["moved"], said["present"]) == (0, said["planned"])

    run(work)


def test_into_a_new_repository_nothing_is_looked_for_and_the_fleet_is_asked(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        copied = await side.copy(made["index"].digest, "v1", fresh=True)
        assert copied == Copied(made["index"].digest, tagged=("v1",))
        await side.has_same("v1", *(one.digest for one in made.values()))
        # What was brought there meanwhile is known from the fleet, not from the registry.
        again = await side.copy(made["index"].digest, "v2", fresh=True)
        said = side.control.bytes
        assert (said["moved"], said["present"]) == (0, said["planned"])
        assert again.tagged == ("v2",)

    run(work)


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


def test_shared_layers_are_sent_once_by_copies_side_by_side(run: Run) -> None:
    run(lambda side: share(side, [side.leads]))


def test_shared_layers_are_sent_once_by_workers_side_by_side(run: Run, redis_url: str) -> None:
    async def work(side: Sides) -> None:
        keys = Keys(side.name.replace("/", "-"))
        async with (
            FleetRedis(redis_url) as one,
            FleetRedis(redis_url) as other,
            RedisLeads(one, keys, lease_s=30) as ours,
            RedisLeads(other, keys, lease_s=30) as theirs,
        ):
            await share(side, [ours, theirs])

    run(work)


def test_a_copy_that_is_cancelled_leads_nothing_more(
    run: Run, registries: tuple[Registry, Registry]
) -> None:
    async def work(side: Sides) -> None:
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

    run(work)


def test_a_copy_whose_job_was_stopped_writes_no_tag(run: Run) -> None:
    async def work(side: Sides) -> None:
        await put_image(side.source(), image(b"layer"), b"layer", b"{}", tag="v1")
        await side.copy("v1")
        control = WatchedControl()
        control.stop = PushCancelled("asked for")
        with pytest.raises(PushCancelled):
            await side.copy("v1", "v1", control=control)
        assert await manifests.head(side.target(), "v1") is None

    run(work)


def test_a_tag_is_written_only_with_lease_left(run: Run) -> None:
    async def work(side: Sides) -> None:
        await put_image(side.source(), image(b"layer"), b"layer", b"{}", tag="v1")
        control = WatchedControl()
        control.leases = [0.0, 0.5, 60.0]
        await side.copy("v1", "v1", control=control)
        # All were looked at before the tag was written.
        assert control.leases == [60.0]
        await side.has_same("v1")

    run(work)


class SlowManifests(RegistryRepository):
    """A real target, whose manifests wait until they are let through."""

    let_through: asyncio.Event

    async def put(
        self, reference: str, manifest: Manifest, *, timeout_s: float | None = None
    ) -> Written:
        await self.let_through.wait()
        return await super().put(reference, manifest, timeout_s=timeout_s)


def test_mounts_that_need_a_manifest_wait_for_it(run: Run) -> None:
    async def work(side: Sides) -> None:
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

    run(work)
