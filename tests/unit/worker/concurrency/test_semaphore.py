"""How many requests of a plan run at once, and in which order they do."""

from __future__ import annotations

import asyncio

import pytest

from transship_worker.concurrency.gather import both
from transship_worker.concurrency.semaphore import PrioritySemaphore

# A deadlock ends a test soon.
pytestmark = pytest.mark.timeout(30)


async def test_a_place_goes_to_the_lowest_order_that_waits() -> None:
    gate = PrioritySemaphore(1)
    served: list[int] = []

    async def use(order: int) -> None:
        async with gate.place(order):
            served.append(order)
            await asyncio.sleep(0)

    await gate.acquire(0)
    users = [asyncio.create_task(use(order)) for order in (5, 3, 9, 3, 1)]
    await asyncio.sleep(0)
    gate.release()
    await asyncio.gather(*users)
    assert served == [1, 3, 3, 5, 9]


async def test_a_cancelled_wait_loses_no_place_whenever_it_is_cancelled() -> None:
    gate = PrioritySemaphore(1)
    await gate.acquire(0)
    waiting = asyncio.create_task(gate.acquire(1))
    given = asyncio.create_task(gate.acquire(2))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    # Given in the same moment in which it is cancelled.
    gate.release()
    given.cancel()
    await asyncio.gather(waiting, given, return_exceptions=True)
    assert waiting.cancelled()
    assert given.cancelled()
    await gate.acquire(3)
    gate.release()


async def test_there_are_never_more_tasks_than_places() -> None:
    gate = PrioritySemaphore(4)
    most = 0
    # This one and the two that give work out.
    others = len(asyncio.all_tasks()) + 2
    done: set[int] = set()

    async def work(item: int) -> None:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()) - others)
        await asyncio.sleep(0)
        done.add(item)

    await asyncio.gather(gate.each(0, range(50), work), gate.each(1, range(50, 99), work))
    assert done == set(range(99))
    assert most == 4


async def test_the_first_error_ends_the_rest_and_gives_all_places_back() -> None:
    gate = PrioritySemaphore(3)
    done: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            raise LookupError("one")
        await asyncio.sleep(3600)
        done.append(item)

    with pytest.raises(LookupError, match="one"):
        await gate.each(0, range(10), work)
    assert done == []
    for _ in range(3):
        await gate.acquire(0)


async def test_of_two_at_once_the_error_of_either_cancels_the_other() -> None:
    ended: list[str] = []

    async def endless(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)

    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def value() -> int:
        return 1

    assert await both(value(), value()) == (1, 1)
    with pytest.raises(LookupError):
        await both(endless("first"), failing())
    with pytest.raises(LookupError):
        await asyncio.wait_for(both(failing(), endless("second")), 5)
    assert ended == ["first", "second"]
