"""What a call to Redis makes of a cancellation."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from transship_worker.fleet.redis import FleetRedis


async def test_a_cancellation_that_the_library_swallowed_still_cancels() -> None:
    begun = asyncio.Event()

    async def deaf() -> str:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "an answer"

    async with FleetRedis("redis://127.0.0.1:1/0") as fleet:
        task = asyncio.create_task(fleet.ask(deaf))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
