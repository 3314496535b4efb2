"""How many requests are in flight at a registry that was not asked before."""

from __future__ import annotations

import asyncio

import pytest

from transship_worker.oci.ramp import ANSWERS, FIRST, Ramp


class Registry:
    """A fake registry whose requests end one by one, when the test says so."""

    def __init__(self, ramp: Ramp) -> None:
        self._ramp = ramp
        self.in_flight: list[asyncio.Future[None]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, count: int) -> int:
        """Send so many; how many are in flight then."""
        self.tasks += [asyncio.create_task(self._exchange()) for _ in range(count)]
        return await self.settled()

    async def answer(self, error: Exception | None = None) -> int:
        """Answer the oldest; how many are in flight then."""
        first = self.in_flight.pop(0)
        if error is None:
            first.set_result(None)
        else:
            first.set_exception(error)
        return await self.settled()

    async def settled(self) -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        return len(self.in_flight)

    async def _exchange(self) -> None:
        async with self._ramp.place():
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.in_flight.append(done)
            await done


@pytest.fixture
def registry() -> Registry:
    return Registry(Ramp())


async def test_the_first_requests_are_few_and_answers_let_more_follow(registry: Registry) -> None:
    assert await registry.ask(100) == FIRST
    assert await registry.answer() == FIRST
    assert await registry.answer() == FIRST + 1
    for _ in range(8):
        await registry.answer()
    assert len(registry.in_flight) == FIRST + 5


async def test_an_error_lets_another_request_follow_and_no_more(registry: Registry) -> None:
    await registry.ask(20)
    for _ in range(6):
        assert await registry.answer(OSError("reset")) == FIRST
    await asyncio.gather(*registry.tasks[:6], return_exceptions=True)


async def test_after_some_answers_any_number_is_in_flight() -> None:
    ramp = Ramp()
    for _ in range(ANSWERS):
        async with ramp.place():
            pass
    assert ramp.is_open
    assert await Registry(ramp).ask(500) == 500


async def test_once_it_is_open_all_that_wait_go_on(registry: Registry) -> None:
    ramp = Ramp()
    registry = Registry(ramp)
    assert await registry.ask(50) == FIRST
    ramp.open()
    assert await registry.settled() == 50


async def test_who_is_cancelled_leaves_its_place_to_the_next(registry: Registry) -> None:
    await registry.ask(FIRST + 2)
    registry.tasks[FIRST].cancel()
    registry.tasks[0].cancel()
    assert await registry.settled() == FIRST + 1
    # One in flight was cancelled, and so was one that waited: the last one took its place.
    assert sum(not one.cancelled() for one in registry.in_flight) == FIRST
