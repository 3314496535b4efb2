"""Locks that are held for one request."""

from __future__ import annotations

import asyncio

import pytest
import redis

from tests.support.fleet.upload_leases import PLACE, digest, left, workers
from transship.errors import Stalled
from transship.ledger.keys import Keys
from transship_worker.fleet.locks import Locks
from transship_worker.fleet.redis import FleetRedis

pytestmark = pytest.mark.redis

A, B = digest(1), digest(2)


async def test_one_at_a_time_in_the_whole_fleet_mounts_a_blob_into_a_repository(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    inside, most, times = 0, 0, 0

    async with workers(redis_url, keys, 3) as leads:

        async def mount(number: int) -> None:
            nonlocal inside, most, times
            async with leads[number % 3].mounting(PLACE, [A]):
                inside += 1
                most = max(most, inside)
                times += 1
                for _ in range(10):
                    await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(mount(number) for number in range(30)))
    assert (most, times) == (1, 30)
    assert left(redis_client, keys) == []


async def test_locks_of_other_blobs_and_kinds_do_not_wait_for_each_other(
    redis_url: str, keys: Keys
) -> None:
    async with (
        asyncio.timeout(30),
        workers(redis_url, keys, 2) as (one, two),
        one.mounting(PLACE, [A]),
        two.mounting(PLACE, [B]),
        two.attaching(PLACE, A),
    ):
        pass


@pytest.mark.parametrize("worker", [0, 1], ids=["same process", "other process"])
async def test_a_lock_that_is_never_free_is_an_error_that_passes(
    redis_url: str, keys: Keys, worker: int
) -> None:
    async with FleetRedis(redis_url) as first, FleetRedis(redis_url) as second:
        locks = [Locks(first, keys, patience_s=5), Locks(second, keys, patience_s=5)]
        async with locks[0].held("it"):
            with pytest.raises(Stalled, match=r"others held the lock of it") as caught:
                async with locks[worker].held("it", wait_s=0.2):
                    pytest.fail("two hold one lock")
        assert caught.value.retryable
        async with locks[worker].held("it"):
            pass


async def test_a_lock_whose_holder_died_is_free_after_a_while(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    # What a process leaves behind that is killed while it holds the lock.
    redis_client.set(keys.lock("it"), "dead", px=300)

    async with FleetRedis(redis_url) as fleet, Locks(fleet, keys, patience_s=5).held("it"):
        assert redis_client.get(keys.lock("it")) != "dead"


async def test_a_lock_that_ended_meanwhile_is_not_taken_from_the_next(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    async with FleetRedis(redis_url) as fleet, Locks(fleet, keys, patience_s=5).held("it"):
        redis_client.set(keys.lock("it"), "the next", px=60_000)
    assert redis_client.get(keys.lock("it")) == "the next"


async def test_a_cancelled_holder_frees_the_lock(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    async with FleetRedis(redis_url) as fleet:
        locks = Locks(fleet, keys, patience_s=5)
        entered = asyncio.Event()

        async def hold() -> None:
            async with locks.held("it"):
                entered.set()
                await asyncio.Event().wait()

        holder = asyncio.create_task(hold())
        await entered.wait()
        waiter = asyncio.create_task(hold())
        await asyncio.sleep(0)
        for task in (waiter, holder):
            task.cancel()
        await asyncio.wait([holder, waiter])
    assert left(redis_client, keys) == []
