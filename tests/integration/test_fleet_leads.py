"""Each blob once: who leads, who waits, and what is remembered, on a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis

from tests.support.fleet.upload_leases import PLACE, digest, left, workers
from tests.support.processes import soon
from transship.ledger.keys import Keys
from transship_worker.fleet.leads import HINT_S, REPOSITORIES_MOST, RedisLeads
from transship_worker.fleet.port import Found, Place, Where

pytestmark = [pytest.mark.redis, pytest.mark.timeout(60)]

HERE, LEAD, WAIT = Found(Where.HERE), Found(Where.LEAD), Found(Where.WAIT)
OTHER = Place(PLACE.registry, "acme/other")
THIRD = Place(PLACE.registry, "acme/third")
A, B, C = digest(1), digest(2), digest(3)


@pytest.fixture
async def leads(redis_url: str, keys: Keys) -> AsyncIterator[list[RedisLeads]]:
    """The leads of three workers."""
    async with workers(redis_url, keys, 3) as made:
        yield made


async def waiting(redis_client: redis.Redis, keys: Keys, blob: str, count: int) -> None:
    """Return once so many copies stand in line for a blob."""

    async def counted() -> bool:
        return redis_client.zcard(keys.line(PLACE.registry, blob)) == count

    await soon(counted, what=f"a line of {count}")


async def test_free_blobs_are_led_by_who_asks_first_and_the_next_waits(
    leads: list[RedisLeads],
) -> None:
    assert await leads[0].take(PLACE, "one", [A, B]) == {A: LEAD, B: LEAD}
    assert await leads[1].take(OTHER, "two", [B, C]) == {B: WAIT, C: LEAD}


async def test_a_copy_that_asks_again_still_leads(leads: list[RedisLeads]) -> None:
    await leads[0].take(PLACE, "one", [A])
    assert await leads[0].take(PLACE, "one", [A]) == {A: LEAD}


async def test_what_arrived_is_here_and_elsewhere(leads: list[RedisLeads]) -> None:
    await leads[0].take(PLACE, "one", [A])
    await leads[0].arrived(PLACE, "one", [A])

    assert await leads[1].take(PLACE, "two", [A]) == {A: HERE}
    elsewhere = Found(Where.ELSEWHERE, PLACE.repository)
    assert await leads[1].take(OTHER, "three", [A]) == {A: elsewhere}


async def test_the_freshest_repository_is_the_one_to_mount_from(
    leads: list[RedisLeads], redis_client: redis.Redis, keys: Keys
) -> None:
    await leads[0].arrived(PLACE, "one", [A])
    # As if a second had passed.
    redis_client.zincrby(keys.blob(PLACE.registry, A), -1000, PLACE.repository)
    await leads[0].arrived(OTHER, "two", [A])

    found = await leads[1].take(THIRD, "three", [A])

    assert found == {A: Found(Where.ELSEWHERE, OTHER.repository)}


@pytest.mark.parametrize("worker", [0, 1], ids=["same process", "other process"])
async def test_who_waits_hears_of_the_arrival(leads: list[RedisLeads], worker: int) -> None:
    await leads[0].take(PLACE, "one", [A])
    waiter = leads[worker]
    assert await waiter.take(OTHER, "two", [A]) == {A: WAIT}
    assert await waiter.take(PLACE, "three", [A]) == {A: WAIT}
    waits = asyncio.gather(waiter.wait(OTHER, "two", A), waiter.wait(PLACE, "three", A))

    await leads[0].arrived(PLACE, "one", [A])

    assert list(await waits) == [Found(Where.ELSEWHERE, PLACE.repository), HERE]


@pytest.mark.parametrize("worker", [0, 1], ids=["same process", "other process"])
async def test_a_lead_given_up_goes_to_who_took_first(leads: list[RedisLeads], worker: int) -> None:
    await leads[0].take(PLACE, "one", [A])
    for holder in ("two", "three", "four"):
        await leads[worker].take(OTHER, holder, [A])
    # Who waits first is not who took first.
    waits = {
        holder: asyncio.create_task(leads[worker].wait(OTHER, holder, A))
        for holder in ("four", "three", "two")
    }

    await leads[0].give_up(PLACE, "one", [A])
    assert await waits["two"] == LEAD
    assert not waits["three"].done()
    await leads[worker].give_up(OTHER, "two", [A])
    assert await waits["three"] == LEAD
    await leads[worker].arrived(OTHER, "three", [A])

    assert await waits["four"] == HERE


async def test_a_take_goes_behind_those_who_wait_already(leads: list[RedisLeads]) -> None:
    await leads[0].take(PLACE, "one", [A])
    await leads[1].take(PLACE, "two", [A])
    await leads[0].give_up(PLACE, "one", [A])

    assert await leads[2].take(PLACE, "three", [A]) == {A: WAIT}
    assert await leads[1].wait(PLACE, "two", A) == LEAD


async def test_a_cancelled_wait_leaves_the_line(
    leads: list[RedisLeads], redis_client: redis.Redis, keys: Keys
) -> None:
    await leads[0].take(PLACE, "one", [A])
    await leads[1].take(PLACE, "two", [A])
    await leads[2].take(PLACE, "three", [A])
    impatient = asyncio.create_task(leads[1].wait(PLACE, "two", A))
    patient = asyncio.create_task(leads[2].wait(PLACE, "three", A))
    # A task that is cancelled before its first step never calls.
    await asyncio.sleep(0)

    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient

    await waiting(redis_client, keys, A, 1)
    await leads[0].give_up(PLACE, "one", [A])
    assert await patient == LEAD


async def test_a_copy_that_fails_leaves_the_lines_it_never_waited_in(
    leads: list[RedisLeads],
) -> None:
    await leads[0].take(PLACE, "one", [A])
    assert await leads[1].take(PLACE, "two", [A, B]) == {A: WAIT, B: LEAD}
    await leads[2].take(PLACE, "three", [A])
    await leads[1].give_up(PLACE, "two", [B])
    await leads[0].give_up(PLACE, "one", [A])

    assert await leads[2].wait(PLACE, "three", A) == LEAD


async def test_a_copy_never_waits_for_one_that_may_wait_for_it(leads: list[RedisLeads]) -> None:
    await leads[0].take(PLACE, "one", [A])
    assert await leads[1].take(PLACE, "two", [A, B]) == {A: WAIT, B: LEAD}

    assert await leads[0].take(PLACE, "one", [B]) == {B: LEAD}


async def test_who_waits_without_having_taken_stands_in_line(leads: list[RedisLeads]) -> None:
    assert await leads[0].wait(PLACE, "one", A) == LEAD
    second = asyncio.create_task(leads[1].wait(PLACE, "two", A))
    await leads[0].arrived(PLACE, "one", [A])
    assert await second == HERE


# Registries that refuse mounts.


async def test_a_registry_that_refuses_mounts_shares_only_within_a_repository(
    leads: list[RedisLeads],
) -> None:
    assert await leads[0].can_mount(PLACE.registry)
    await leads[0].cannot_mount(PLACE.registry)
    assert not await leads[0].can_mount(PLACE.registry)
    assert not await leads[1].can_mount(PLACE.registry)
    await leads[0].arrived(PLACE, "zero", [A])

    assert await leads[1].take(OTHER, "one", [A]) == {A: LEAD}
    assert await leads[2].take(OTHER, "two", [A]) == {A: WAIT}
    assert await leads[2].take(THIRD, "three", [A]) == {A: LEAD}
    assert await leads[2].take(PLACE, "four", [A]) == {A: HERE}


async def test_who_waits_leads_once_it_is_known_that_mounts_are_refused(
    leads: list[RedisLeads],
) -> None:
    await leads[0].take(PLACE, "one", [A])
    waits = []
    for holder, place in (("two", OTHER), ("three", THIRD)):
        await leads[1].take(place, holder, [A])
        waits.append(asyncio.create_task(leads[1].wait(place, holder, A)))

    await leads[2].cannot_mount(PLACE.registry)

    assert [await wait for wait in waits] == [LEAD, LEAD]


# Hints.


async def test_a_hint_that_was_wrong_is_forgotten(leads: list[RedisLeads]) -> None:
    await leads[0].arrived(PLACE, "one", [A, B])

    await leads[0].forget(PLACE, A)

    assert await leads[1].take(PLACE, "two", [A, B]) == {A: LEAD, B: HERE}


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_hint_tells_when_it_was_written(
    leads: list[RedisLeads], redis_client: redis.Redis, keys: Keys, waiting: bool
) -> None:
    await leads[0].arrived(PLACE, "one", [A])
    now_s = float(redis_client.time()[0])
    redis_client.zadd(keys.blob(PLACE.registry, A), {PLACE.repository: (now_s - 90) * 1000})
    if waiting:
        found = await leads[1].wait(PLACE, "two", A)
    else:
        found = (await leads[1].take(PLACE, "two", [A]))[A]
    assert found == HERE
    assert 89 <= time.monotonic() - found.written <= 120
    # Who brings it again makes it new.
    await leads[0].arrived(PLACE, "one", [A])
    assert time.monotonic() - (await leads[1].take(PLACE, "two", [A]))[A].written < 30


async def test_hints_expire_and_are_few_for_each_blob(
    leads: list[RedisLeads], redis_client: redis.Redis, keys: Keys
) -> None:
    hints = keys.blob(PLACE.registry, A)
    redis_client.zadd(hints, {"acme/ages-ago": 1})
    for number in range(REPOSITORIES_MOST + 5):
        await leads[0].arrived(Place(PLACE.registry, f"acme/{number:02}"), "one", [A])

    assert redis_client.zcard(hints) == REPOSITORIES_MOST
    assert redis_client.zscore(hints, "acme/ages-ago") is None
    assert redis_client.zscore(hints, f"acme/{REPOSITORIES_MOST + 4:02}") is not None
    assert HINT_S - 60 < redis_client.ttl(hints) <= HINT_S


# Mounts.


async def test_who_waited_for_a_mount_finds_the_blob_there(leads: list[RedisLeads]) -> None:
    seen = []

    async def mount(one: RedisLeads) -> None:
        async with one.mounting(PLACE, [A]) as mounting:
            seen.append(mounting.here == {A})
            mounting.mounted |= mounting.mine

    await asyncio.gather(*map(mount, leads))
    assert sorted(seen) == [False, *[True] * (len(leads) - 1)]


async def test_mounts_of_one_image_are_asked_for_at_once_and_shared_out(
    leads: list[RedisLeads],
) -> None:
    async with leads[0].mounting(PLACE, [A]) as first:
        async with leads[1].mounting(PLACE, [A, B]) as second:
            assert (set(second.here), set(second.mine)) == (set(), {B})
            second.mounted |= second.mine
        async with leads[0].mounting(PLACE, [A, B]) as third:
            assert (set(third.here), set(third.mine)) == ({B}, set())
        first.mounted |= first.mine
    async with leads[1].mounting(PLACE, [A, B]) as last:
        assert (set(last.here), set(last.mine)) == ({A, B}, set())


async def test_copies_of_one_process_hand_on_what_was_mounted(leads: list[RedisLeads]) -> None:
    mounts: list[str] = []

    async def mount() -> None:
        left = {A, B}
        while left:
            async with leads[0].mounting(PLACE, left) as turn:
                mounts.extend(turn.mine)
                await asyncio.sleep(0)
                turn.mounted |= turn.mine
            left -= turn.here | turn.mine

    await asyncio.gather(*(mount() for _ in range(8)))
    assert sorted(mounts) == [A, B]


async def test_a_mount_that_was_refused_is_no_hint(leads: list[RedisLeads]) -> None:
    for one in leads:
        async with one.mounting(PLACE, [A]) as mounting:
            assert (set(mounting.here), set(mounting.mine)) == (set(), {A})


# What is left behind.


async def test_every_key_is_of_the_table_and_expires(
    leads: list[RedisLeads], redis_client: redis.Redis, keys: Keys
) -> None:
    await leads[0].take(PLACE, "one", [A])
    await leads[1].take(PLACE, "two", [A])
    await leads[0].arrived(PLACE, "zero", [B])
    await leads[0].cannot_mount("old.example.com")
    async with leads[0].mounting(PLACE, [A]):
        leader = redis_client.get(keys.lead(PLACE.registry, A))
        (waiter,) = redis_client.zrange(keys.line(PLACE.registry, A), 0, -1)
        expected = {
            keys.copy(str(leader)): "string",
            keys.copy(str(waiter)): "string",
            keys.lead(PLACE.registry, A): "string",
            keys.line(PLACE.registry, A): "zset",
            keys.blob(PLACE.registry, B): "zset",
            keys.mounts("old.example.com"): "string",
            keys.lock(f"mount:{PLACE.registry}/{PLACE.repository}:{A}"): "string",
        }
        found = left(redis_client, keys, hints=True)
        assert {key: redis_client.type(key) for key in found} == expected
        assert all(redis_client.pttl(key) > 0 for key in found)


async def test_nothing_but_hints_is_left_when_all_is_done(
    redis_url: str, redis_client: redis.Redis, keys: Keys
) -> None:
    async def tidy() -> bool:
        return not left(redis_client, keys)

    async with workers(redis_url, keys, 3) as leads:
        await leads[0].take(PLACE, "one", [A, B])
        await leads[1].take(PLACE, "two", [A, B, C])
        await leads[2].take(OTHER, "three", [A, C])
        waits = [leads[1].wait(PLACE, "two", A), leads[1].wait(PLACE, "two", B)]
        waits += [leads[2].wait(OTHER, "three", A), leads[2].wait(OTHER, "three", C)]
        ended = asyncio.gather(*waits)
        await leads[0].arrived(PLACE, "one", [A])
        await leads[0].arrived(PLACE, "one", [B])
        await leads[1].arrived(PLACE, "two", [C])
        await ended
        await leads[2].arrived(OTHER, "three", [A, C])
        await soon(tidy, what="no key but hints")
    assert len(left(redis_client, keys, hints=True)) == 3


async def test_a_worker_that_stops_ends_all_its_leads_at_once(
    leads: list[RedisLeads], redis_url: str, keys: Keys
) -> None:
    async with workers(redis_url, keys, 1) as (stopping,):
        await stopping.take(PLACE, "one", [A, B])
        assert await leads[0].take(PLACE, "two", [A]) == {A: WAIT}

    assert await leads[0].wait(PLACE, "two", A) == LEAD
    assert await leads[1].take(PLACE, "three", [B]) == {B: LEAD}
