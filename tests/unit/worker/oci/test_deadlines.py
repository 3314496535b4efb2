"""Deadlines: many, with one timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from transship_worker.oci.bodies import Stall
from transship_worker.oci.deadlines import Deadline, Deadlines

#: Longer than any test. Unit: s.
NEVER_S = 600.0


async def until_expired(deadlines: Deadlines, *after_s: float | None) -> float:
    """How long a block ran whose deadline was set to each of these in turn. Unit: s."""
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def block() -> None:
        async with Deadline(deadlines) as deadline:
            for one in after_s:
                deadline.set(one)
            await asyncio.sleep(NEVER_S)

    with pytest.raises(TimeoutError):
        await block()
    return loop.time() - begin


@pytest.mark.parametrize("after_s", [(0.05,), (NEVER_S, 0.05), (0.01, None, 0.05)])
async def test_a_block_ends_at_its_deadline(after_s: tuple[float | None, ...]) -> None:
    assert 0.045 <= await until_expired(Deadlines(), *after_s) < 5


async def test_a_deadline_that_is_put_off_does_not_end_its_block() -> None:
    deadlines = Deadlines()
    async with Deadline(deadlines) as deadline:
        deadline.set(0.01)
        deadline.set(NEVER_S)
        # The timer was for the time before.
        assert await until_expired(deadlines, 0.03) >= 0.025


async def test_a_deadline_that_is_taken_back_does_not_end_its_block() -> None:
    deadlines = Deadlines()
    async with Deadline(deadlines) as deadline:
        deadline.set(0.01)
        deadline.set(None)
        assert deadlines.is_idle
        await until_expired(deadlines, 0.03)


async def test_each_of_many_blocks_ends_at_its_own_deadline() -> None:
    deadlines = Deadlines()
    times = [0.12, 0.04, 0.16, 0.08, 0.04]
    took = await asyncio.gather(*(until_expired(deadlines, after_s) for after_s in times))
    for after_s, ran_s in zip(times, took, strict=True):
        assert after_s - 0.005 <= ran_s < after_s + 5
    assert deadlines.is_idle


async def test_a_deadline_that_passed_is_forgotten_while_its_block_cleans_up() -> None:
    deadlines = Deadlines()

    async def block() -> None:
        async with Deadline(deadlines) as deadline:
            deadline.set(0.01)
            try:
                await asyncio.sleep(NEVER_S)
            finally:
                deadline.set(0.01)
                await until_expired(deadlines, 0.05)

    with pytest.raises(TimeoutError):
        await block()


async def test_a_block_that_ended_leaves_nothing_behind() -> None:
    deadlines = Deadlines()
    async with Deadline(deadlines) as deadline:
        deadline.set(0.01)
    deadline.set(0.01)
    await until_expired(deadlines, 0.05)
    assert deadlines.is_idle


async def test_a_cancelled_block_is_cancelled_and_not_timed_out() -> None:
    deadlines = Deadlines()
    entered = asyncio.Event()

    async def block() -> None:
        async with Deadline(deadlines) as deadline:
            deadline.set(NEVER_S)
            entered.set()
            await asyncio.sleep(NEVER_S)

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_source_of_a_body_is_waited_for_and_not_counted() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.1)
        yield b"b"

    async with Stall(Deadlines(), silence_s=0.02, connect_s=0) as stall:
        assert [piece async for piece in stall.watched(slow())] == [b"a", b"b"]


async def test_a_piece_that_is_not_taken_ends_the_request() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"

    async def request() -> None:
        async with Stall(Deadlines(), silence_s=0.02, connect_s=0) as stall:
            async for _ in stall.watched(pieces()):
                await asyncio.sleep(NEVER_S)

    with pytest.raises(TimeoutError):
        await request()
