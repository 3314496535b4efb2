"""How a process uses its part of a rate; the draws are recorded here, not made."""

from __future__ import annotations

import asyncio

import pytest

from transship_worker.fleet import budget_draw
from transship_worker.fleet.budget_draw import BATCH_S, LIFE_S, Allowance


class Clock:
    """A fake clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Draws:
    """A fake budget that grants everything, after ``wait_s``."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.sizes: list[int] = []
        self.wait_s = wait_s

    async def __call__(self, rate: float, count: int) -> float:
        self.sizes.append(count)
        # As a trip to Redis does, it lets others run.
        await asyncio.sleep(0)
        return self.wait_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(budget_draw, "time", made)
    return made


@pytest.mark.usefixtures("clock")
async def test_batches_grow_with_their_use_up_to_what_the_rate_gives() -> None:
    draws = Draws()

    allowance = Allowance(draws)
    for _ in range(200):
        await allowance.take(1, 100.0)
    most = int(100 * BATCH_S)
    assert draws.sizes[:6] == [1, 2, 4, 8, 16, most]
    assert set(draws.sizes[6:]) == {most}


async def test_what_is_not_used_in_time_is_lost_and_the_next_batch_is_smaller(clock: Clock) -> None:
    draws = Draws()

    allowance = Allowance(draws)
    for _ in range(10):
        await allowance.take(1, 100.0)
    # The last of 1, 2, 4 and 8: three of it were used.
    clock.now += LIFE_S
    await allowance.take(1, 100.0)
    assert draws.sizes == [1, 2, 4, 8, 3]


@pytest.mark.usefixtures("clock")
async def test_all_that_waits_is_drawn_at_once() -> None:
    draws = Draws()

    allowance = Allowance(draws)
    await asyncio.gather(*(allowance.take(1, 100.0) for _ in range(20)))
    assert draws.sizes == [1, 19]


@pytest.mark.usefixtures("clock")
async def test_a_piece_that_is_larger_than_any_batch_is_drawn_in_parts() -> None:
    draws = Draws()

    await Allowance(draws).take(100, 40.0)
    assert draws.sizes == [10] * 10


@pytest.mark.usefixtures("clock")
async def test_a_rate_below_one_a_second_still_gives_one() -> None:
    draws = Draws()

    allowance = Allowance(draws)
    for _ in range(3):
        await allowance.take(1, 0.01)
    assert draws.sizes == [1, 1, 1]


async def test_a_batch_is_left_to_the_next_when_who_waits_for_it_gives_up(clock: Clock) -> None:
    draws = Draws(wait_s=3600.0)

    allowance = Allowance(draws)
    first = asyncio.create_task(allowance.take(1, 1.0))
    # Until it sleeps.
    for _ in range(10):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    clock.now += 3600.0
    await allowance.take(1, 1.0)
    assert draws.sizes == [1]
