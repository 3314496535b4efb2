"""Leads within one process keep what the fleet's leads promise."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from transship_worker.fleet.port import Found, Place, Where

HERE = Place("registry", "acme/app")
THERE = Place("registry", "acme/base")
LEAD, WAIT = Found(Where.LEAD), Found(Where.WAIT)


# A deadlock ends a test soon.
pytestmark = pytest.mark.timeout(30)


async def waiting(leads: AloneLeads, place: Place, holder: str, digest: str) -> asyncio.Task[Found]:
    """A wait that has begun."""
    task = asyncio.create_task(leads.wait(place, holder, digest))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_free_blob_is_led_by_one_and_waited_for_by_others() -> None:
    leads = AloneLeads()
    assert await leads.take(HERE, "one", ["a", "b"]) == {"a": LEAD, "b": LEAD}
    assert await leads.take(HERE, "two", ["b", "c"]) == {"b": WAIT, "c": LEAD}
    assert await leads.take(HERE, "one", ["a"]) == {"a": LEAD}


async def test_a_blob_that_arrived_is_here_or_elsewhere() -> None:
    leads = AloneLeads()
    await leads.take(HERE, "one", ["a"])
    await leads.arrived(HERE, "one", ["a"])
    assert await leads.take(HERE, "two", ["a"]) == {"a": Found(Where.HERE)}
    elsewhere = Found(Where.ELSEWHERE, "acme/app")
    assert await leads.take(THERE, "two", ["a"]) == {"a": elsewhere}
    assert await leads.take(Place("other", "acme/app"), "two", ["a"]) == {"a": LEAD}


async def test_what_was_forgotten_is_led_again() -> None:
    leads = AloneLeads()
    await leads.arrived(HERE, "one", ["a"])
    await leads.forget(HERE, "a")
    assert await leads.take(HERE, "two", ["a"]) == {"a": LEAD}


async def test_a_lead_that_is_given_up_goes_to_who_waits_longest() -> None:
    leads = AloneLeads()
    for holder in ("one", "two", "three"):
        await leads.take(HERE, holder, ["a"])
    third = await waiting(leads, HERE, "three", "a")
    second = await waiting(leads, HERE, "two", "a")
    await leads.give_up(HERE, "one", ["a"])
    assert await second == LEAD
    await asyncio.sleep(0)
    assert not third.done()
    await leads.arrived(HERE, "two", ["a"])
    assert await third == Found(Where.HERE)


async def test_who_leaves_the_line_is_not_given_the_lead() -> None:
    leads = AloneLeads()
    for holder in ("one", "two", "three"):
        await leads.take(HERE, holder, ["a"])
    second = await waiting(leads, HERE, "two", "a")
    third = await waiting(leads, HERE, "three", "a")
    second.cancel()
    await asyncio.wait([second])
    await leads.give_up(HERE, "one", ["a"])
    assert await third == LEAD


async def test_where_mounts_are_refused_each_repository_has_a_leader() -> None:
    leads = AloneLeads()
    await leads.take(HERE, "one", ["a"])
    await leads.take(THERE, "two", ["a"])
    second = await waiting(leads, THERE, "two", "a")
    assert await leads.can_mount("registry")
    await leads.cannot_mount("registry")
    assert not await leads.can_mount("registry")
    assert await second == LEAD
    await leads.arrived(THERE, "two", ["a"])
    assert await leads.take(Place("registry", "third"), "three", ["a"]) == {"a": LEAD}


async def test_mounts_of_one_blob_into_one_repository_run_one_after_another() -> None:
    leads = AloneLeads()
    inside: Counter[str] = Counter()

    async def mount(place: Place, digest: str) -> None:
        name = f"{place.repository}{digest}"
        async with leads.mounting(place, [digest]):
            inside[name] += 1
            assert inside[name] == 1
            await asyncio.sleep(0)
            inside[name] -= 1

    places = [(HERE, "a"), (HERE, "b"), (THERE, "a")] * 5
    await asyncio.gather(*(mount(place, digest) for place, digest in places))
    async with (
        leads.mounting(HERE, ["a"]),
        leads.mounting(THERE, ["a"]),
        leads.attaching(HERE, "a"),
    ):
        pass


@pytest.mark.parametrize("after_all", [False, True], ids=["at-once", "after-the-manifest"])
async def test_copies_over_shared_blobs_all_end_and_each_blob_is_brought_once(
    after_all: bool,
) -> None:
    """12 copies over 8 blobs in any order, some of which fail; leads end as on either registry."""

    async def copy(leads: AloneLeads, holder: str, wanted: list[str], fails: bool) -> list[str]:
        chance = random.Random(holder)
        brought: list[str] = []
        found = await leads.take(HERE, holder, wanted)

        async def bring(digest: str, what: Found) -> None:
            if what.where is Where.WAIT:
                what = await leads.wait(HERE, holder, digest)
            if what.where is Where.LEAD:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                if fails:
                    raise RuntimeError("as planned")
                brought.append(digest)
                if not after_all:
                    await leads.arrived(HERE, holder, [digest])

        try:
            async with asyncio.TaskGroup() as group:
                for digest, what in found.items():
                    group.create_task(bring(digest, what))
        except* RuntimeError:
            await leads.give_up(HERE, holder, wanted)
        else:
            await leads.arrived(HERE, holder, brought)
        return brought

    for number in range(300):
        chance = random.Random(number)
        leads = AloneLeads()
        copies = []
        for holder in range(12):
            wanted = chance.sample("abcdefgh", chance.randrange(1, 9))
            fails = chance.random() < 0.3
            copies.append(copy(leads, f"{number}/{holder}", wanted, fails))
        brought = Counter(one for some in await asyncio.gather(*copies) for one in some)
        assert set(brought.values()) <= {1}, number
        assert not leads._turns
        assert not leads._numbers
