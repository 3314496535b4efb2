"""File work beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_thread(
    work: Callable[[*Ts], T], *args: *Ts, stop: Callable[[], None] | None = None
) -> T:
    """Run blocking work in a thread; returns only when the thread has left it.

    Cancelled, it calls ``stop`` and still waits for the thread: what the caller closes next (a
    file) may not be in use then, or its number could be another file's by the time the thread
    uses it.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, so that nothing is said of an error that nobody fetched.
            task.exception()
        raise
