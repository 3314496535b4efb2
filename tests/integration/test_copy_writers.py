"""One writer of a manifest in a repository at a time, over several workers and real servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from tests.support.images.registry_images import WatchedControl, image, noise, put_image
from tests.support.images.two_registries import Sides, multi_arch
from tests.support.servers.registry import Registry
from transship.ledger.keys import Keys
from transship_worker.fleet.leads import RedisLeads
from transship_worker.fleet.port import Leads
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.manifests import Written
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = [pytest.mark.registry, pytest.mark.redis]

TAGS = 60


class Writes:
    """How many writers a manifest has now, had at most, and had in all; by its digest."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.all: Counter[str] = Counter()

    @contextmanager
    def of(self, digest: str) -> Iterator[None]:
        self.now[digest] += 1
        self.all[digest] += 1
        self.most[digest] = max(self.most[digest], self.now[digest])
        try:
            yield
        finally:
            self.now[digest] -= 1


class WatchedTarget(RegistryRepository):
    """A repository that counts its writers."""

    writes: Writes

    async def put(
        self, reference: str, manifest: Manifest, *, timeout_s: float | None = None
    ) -> Written:
        with self.writes.of(manifest.digest):
            return await super().put(reference, manifest, timeout_s=timeout_s)


@pytest.fixture
async def workers(redis_url: str, keys: Keys) -> AsyncIterator[list[RedisLeads]]:
    """The upload leases of two workers."""
    async with (
        FleetRedis(redis_url) as one,
        FleetRedis(redis_url) as two,
        RedisLeads(one, keys, lease_s=15) as first,
        RedisLeads(two, keys, lease_s=15) as second,
    ):
        yield [first, second]


async def copied(side: Sides, leads: Leads, writes: Writes, number: int) -> Copied:
    """A copy under a tag of its own."""
    target = WatchedTarget(side.target())
    target.writes = writes
    task = CopyTask("v1", (f"t{number}",))
    source = RegistryRepository(side.source())
    return await copy_image(task, source, target, leads, WatchedControl(), f"copy{number}")


async def test_many_tags_of_one_image_are_first_attempts_and_one_is_written_at_a_time(
    side: Sides, registries: tuple[Registry, Registry], workers: list[RedisLeads]
) -> None:
    layers = [noise(5_000, f"{side.name}{n}") for n in range(2)]
    config = side.name.encode()
    made = await put_image(side.source(), image(*layers, config=config), *layers, config, tag="v1")
    writes = Writes()

    # An error of one ends all: none may need another attempt.
    async with asyncio.TaskGroup() as group:
        for number in range(TAGS):
            group.create_task(copied(side, workers[number % 2], writes, number))

    names = [f"t{number}" for number in range(TAGS)]
    found = [registries[1].digest(side.name, name) for name in names]
    assert found == [made.digest] * TAGS
    assert writes.most == {made.digest: 1}


async def test_the_children_of_an_index_are_written_once_for_many_tags(
    side: Sides, workers: list[RedisLeads]
) -> None:
    whole = await multi_arch(side)
    writes = Writes()

    async with asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(copied(side, workers[number % 2], writes, number))

    await side.has_same(*(one.digest for one in whole.values()))
    assert set(writes.most.values()) == {1}
    index = whole["index"].digest
    children = {one.digest for one in whole.values()} - {index}
    assert {digest: writes.all[digest] for digest in children} == dict.fromkeys(children, 1)
    assert writes.all[index] == 16


async def test_a_writer_that_ends_without_its_manifest_lets_the_next_one_write(
    side: Sides, workers: list[RedisLeads]
) -> None:
    layer, config = noise(5_000, side.name), side.name.encode()
    await put_image(side.source(), image(layer, config=config), layer, config, tag="v1")
    writes = Writes()
    started = asyncio.Event()

    class Stuck(WatchedTarget):
        async def put(
            self, reference: str, manifest: Manifest, *, timeout_s: float | None = None
        ) -> Written:
            started.set()
            await asyncio.Event().wait()
            return await super().put(reference, manifest, timeout_s=timeout_s)

    stuck = Stuck(side.target())
    stuck.writes = writes
    source = RegistryRepository(side.source())
    first = asyncio.create_task(
        copy_image(CopyTask("v1", ("a",)), source, stuck, workers[0], WatchedControl(), "stuck")
    )
    await started.wait()
    second = asyncio.create_task(copied(side, workers[1], writes, 1))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    async with asyncio.timeout(60):
        assert (await second).tagged == ("t1",)
