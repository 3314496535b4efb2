"""Leads when many copies share blobs, workers die, and Redis goes away."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
import redis

from tests.support.fleet.upload_leases import PLACE, digest, left, workers
from tests.support.processes import Server, eventually, soon
from tests.support.servers.redis import RedisServer
from transship.errors import RedisUnreachable
from transship.ledger.keys import Keys
from transship_worker.fleet import leads as leads_module
from transship_worker.fleet.leads import RedisLeads
from transship_worker.fleet.port import Found, Place, Where

pytestmark = pytest.mark.redis

HERE, LEAD, WAIT = Found(Where.HERE), Found(Where.LEAD), Found(Where.WAIT)
A, B = digest(1), digest(2)

#: Copies and blobs of one round, and how many rounds there are, so many at once.
COPIES, BLOBS, ROUNDS, AT_ONCE = 12, 8, 300, 30


class Broken(Exception):
    """An upload that failed."""


class Round:
    """Copies of images that share blobs, at a registry of their own."""

    def __init__(self, number: int, *, after_manifest: bool) -> None:
        self.registry = f"r{number}.example.com"
        self.dice = random.Random(number)
        #: Whether leads end only after the manifest, as on Amazon ECR.
        self.after_manifest = after_manifest
        self.blobs = [digest(index) for index in range(BLOBS)]
        self.running: Counter[str] = Counter()
        self.arrived: Counter[str] = Counter()

    async def run(self, leads: Sequence[RedisLeads]) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(COPIES):
                group.create_task(self.copy(leads[number % len(leads)], number))

    async def copy(self, leads: RedisLeads, number: int) -> None:
        """Copy one image; an attempt that fails is followed by another."""
        place = Place(self.registry, f"acme/{self.dice.randrange(3)}")
        blobs = self.dice.sample(self.blobs, self.dice.randint(1, BLOBS))
        for attempt in range(50):
            await self.pause()
            holder = f"{self.registry}-{number}-{attempt}"
            try:
                return await self.attempt(leads, place, holder, blobs)
            except BaseException as error:
                await leads.give_up(place, holder, blobs)
                if not isinstance(error, ExceptionGroup) or error.split(Broken)[1]:
                    raise
        pytest.fail("an image failed 50 times")

    async def attempt(
        self, leads: RedisLeads, place: Place, holder: str, blobs: Sequence[str]
    ) -> None:
        led: list[str] = []
        found = await leads.take(place, holder, blobs)
        async with asyncio.TaskGroup() as group:
            for blob in blobs:
                group.create_task(self.get(leads, place, holder, blob, found[blob], led))
        if self.after_manifest:
            await leads.arrived(place, holder, led)
            self.arrived.update(led)

    async def get(
        self,
        leads: RedisLeads,
        place: Place,
        holder: str,
        blob: str,
        found: Found,
        led: list[str],
    ) -> None:
        if found == WAIT:
            found = await leads.wait(place, holder, blob)
        assert found != WAIT
        if found != LEAD:
            return
        assert not self.running[blob], "two upload one blob"
        self.running[blob] += 1
        try:
            await self.pause()
        finally:
            self.running[blob] -= 1
        if self.dice.random() < 0.15:
            raise Broken
        led.append(blob)
        if not self.after_manifest:
            await leads.arrived(place, holder, [blob])
            self.arrived[blob] += 1

    async def pause(self) -> None:
        for _ in range(self.dice.randrange(20)):
            await asyncio.sleep(0)


@pytest.mark.parametrize("after_manifest", [False, True], ids=["at once", "after the manifest"])
async def test_many_copies_over_shared_blobs_all_end_and_bring_each_blob_once(
    redis_url: str,
    redis_client: redis.Redis,
    keys: Keys,
    after_manifest: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a busy machine a call may take longer than usual. Nothing is to be left to its lease.
    monkeypatch.setattr(leads_module, "GIVE_UP_S", 60.0)
    rounds = [Round(number, after_manifest=after_manifest) for number in range(ROUNDS)]

    async with workers(redis_url, keys, 3) as leads:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(round_: Round) -> None:
            async with slots, asyncio.timeout(60):
                await round_.run(leads)

        async with asyncio.TaskGroup() as group:
            for round_ in rounds:
                group.create_task(one(round_))
    for round_ in rounds:
        assert all(count == 1 for count in round_.arrived.values())
    assert left(redis_client, keys) == []


# Workers that die.


CHILD = """
import asyncio, sys
from transship.ledger.keys import Keys
from transship_worker.fleet import leads as leads_module
from transship_worker.fleet.leads import RedisLeads
from transship_worker.fleet.port import Place, Where
from transship_worker.fleet.redis import FleetRedis

async def main(url, namespace, registry, repository, *digests):
    place = Place(registry, repository)
    async with FleetRedis(url) as fleet, RedisLeads(fleet, Keys(namespace), lease_s=1) as leads:
        found = await leads.take(place, "child", digests)
        waits = [d for d in digests if found[d].where is Where.WAIT]
        await asyncio.gather(*(leads.wait(place, "child", digest) for digest in waits))
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


class Child(Server):
    """A worker process of its own that takes blobs, and leads or waits until it is killed."""

    title = "the other worker"

    def __init__(self, url: str, client: redis.Redis, keys: Keys, digests: Sequence[str]) -> None:
        super().__init__()
        self._words = [url, keys.namespace, PLACE.registry, PLACE.repository, *digests]
        self._copies = f"{keys.copy('child')}.*"
        self._client = client

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", CHILD, *self._words]

    def environment(self) -> Mapping[str, str]:
        return {
            "PYTHONPATH": ":".join(filter(None, sys.path)),
            "PATH": str(Path(sys.executable).parent),
        }

    def answers(self) -> bool:
        return bool(self.copy())

    def copy(self) -> str:
        """The key of its copy; empty when it is dead."""
        return next(self._client.scan_iter(match=self._copies, count=1000), "")

    def renewed(self) -> None:
        """Return once its process renewed the key, whose end comes nearer otherwise."""
        key = self.copy()
        seen = [self._client.pttl(key)]

        def longer() -> bool:
            seen.append(self._client.pttl(key))
            return seen[-1] > seen[-2] > 0

        eventually(longer, what="a renewed lease")


async def test_a_lead_lives_as_long_as_its_process_and_goes_to_who_waits_longest(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    with Child(redis_url, redis_client, keys, [A, B]) as child:
        async with workers(redis_url, keys, 2) as leads:
            for worker, holder in zip(leads, ("two", "three"), strict=True):
                assert await worker.take(PLACE, holder, [A, B]) == {A: WAIT, B: WAIT}
            third = asyncio.create_task(leads[1].wait(PLACE, "three", A))
            second = asyncio.create_task(leads[0].wait(PLACE, "two", A))
            for _ in range(4):
                await asyncio.to_thread(child.renewed)
            assert not second.done()
            assert not third.done()

            await asyncio.to_thread(child.kill9)

            assert await second == LEAD
            assert not third.done()
            await leads[0].arrived(PLACE, "two", [A])
            assert await third == HERE
            assert await leads[0].wait(PLACE, "two", B) == LEAD


async def test_a_waiter_whose_process_died_holds_up_nobody(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    async with workers(redis_url, keys, 2) as leads:
        await leads[0].take(PLACE, "one", [A])
        with Child(redis_url, redis_client, keys, [A]) as child:
            assert await leads[1].take(PLACE, "three", [A]) == {A: WAIT}
            child.kill9()
        await leads[0].give_up(PLACE, "one", [A])

        assert await leads[1].wait(PLACE, "three", A) == LEAD


async def test_a_place_in_line_that_nobody_waits_in_ends(redis_url: str, keys: Keys) -> None:
    async with workers(redis_url, keys, 3, lease_s=0.5) as leads:
        await leads[0].take(PLACE, "one", [A])
        await leads[1].take(PLACE, "forgetful", [A])
        await leads[2].take(PLACE, "three", [A])
        await leads[0].give_up(PLACE, "one", [A])

        assert await leads[2].wait(PLACE, "three", A) == LEAD


async def test_a_copy_that_was_silent_for_too_long_comes_back_without_its_leads(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    async with workers(redis_url, keys, 3) as leads:
        await leads[0].take(PLACE, "one", [A])
        assert await leads[1].take(PLACE, "two", [A, B]) == {A: WAIT, B: LEAD}
        waits = asyncio.create_task(leads[1].wait(PLACE, "two", A))
        # What the end of the lease does.
        silent = redis_client.get(keys.lead(PLACE.registry, B))
        redis_client.delete(keys.copy(str(silent)))

        assert await leads[2].take(PLACE, "three", [B]) == {B: LEAD}

        async def back() -> bool:
            line = redis_client.zrange(keys.line(PLACE.registry, A), 0, -1)
            return bool(line) and line != [silent]

        await soon(back, what="another name in line")
        # Not its lead any more.
        await leads[1].give_up(PLACE, "two", [B])
        assert await leads[0].take(PLACE, "four", [B]) == {B: WAIT}
        await leads[0].give_up(PLACE, "one", [A])
        assert await waits == LEAD


async def test_tasks_of_a_copy_that_died_come_back_as_one_copy(
    redis_url: str, redis_client: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workers(redis_url, keys, 2) as leads:
        await leads[0].take(PLACE, "one", [A, B])
        assert await leads[1].take(PLACE, "two", [A, B]) == {A: WAIT, B: WAIT}
        ask, taken, both_took = leads[1]._ask, Counter[str](), asyncio.Event()

        async def ask_late(name: str, *args: str | int, patient: bool = True) -> object:
            """The first task's take is on its way until the second task takes, too."""
            taken[name] += 1
            if taken["take"] == 2:
                both_took.set()
            elif name == "take":
                await both_took.wait()
            return await ask(name, *args, patient=patient)

        monkeypatch.setattr(leads[1], "_ask", ask_late)
        for key in redis_client.scan_iter(match=f"{keys.copy('two')}.*", count=1000):
            redis_client.delete(key)

        waits = [asyncio.create_task(leads[1].wait(PLACE, "two", blob)) for blob in (A, B)]
        await asyncio.wait_for(both_took.wait(), 10)
        await leads[0].arrived(PLACE, "one", [A, B])

        assert await asyncio.gather(*waits) == [HERE, HERE]
    assert left(redis_client, keys) == []


# A Redis that goes away.


async def test_waits_and_leads_outlast_a_redis_that_is_killed(keys: Keys) -> None:
    with RedisServer() as server:
        async with workers(server.url, keys, 2) as leads:
            await leads[0].take(PLACE, "one", [A, B])
            await leads[1].take(PLACE, "two", [A])
            waits = asyncio.create_task(leads[1].wait(PLACE, "two", A))
            await asyncio.to_thread(server.kill9)
            arrived = asyncio.create_task(leads[0].arrived(PLACE, "one", [A]))
            taken = asyncio.create_task(leads[1].take(PLACE, "three", [B]))
            await asyncio.to_thread(server.start)

            await arrived
            assert await waits == HERE
            assert await taken == {B: WAIT}


async def test_a_redis_that_stays_away_ends_calls_with_an_error_that_passes(keys: Keys) -> None:
    with RedisServer() as server:
        async with workers(server.url, keys, 2, lease_s=0.5) as leads:
            await leads[0].take(PLACE, "one", [A])
            await leads[1].take(PLACE, "two", [A])
            waits = asyncio.create_task(leads[1].wait(PLACE, "two", A))
            await asyncio.to_thread(server.kill9)

            await leads[0].give_up(PLACE, "one", [A])
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: waits,
                lambda: leads[0].take(PLACE, "one", [A]),
                lambda: leads[0].arrived(PLACE, "one", [A]),
                lambda: leads[0].forget(PLACE, A),
                lambda: leads[0].can_mount(PLACE.registry),
                lambda: leads[0].mounting(PLACE, [A]).__aenter__(),
            ]
            for call in calls:
                with pytest.raises(RedisUnreachable) as caught:
                    await call()
                assert caught.value.retryable

            await asyncio.to_thread(server.start)
            assert await leads[1].take(PLACE, "three", [A]) in ({A: LEAD}, {A: WAIT})
            assert await leads[1].wait(PLACE, "three", A) == LEAD
