"""What a job is told while one of its requests waits for a registry that asks for fewer.

Requests are sent deep below the code that knows the job, so the context carries who is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: Between two calls of ``telling``, well within the limit of stalls. Unit: s.
TELL_S: Final = 5.0
#: A block that is open while a request waits.
Wait = Callable[[], AbstractAsyncContextManager[None]]

_told: ContextVar[tuple[Wait, ...]] = ContextVar("transship_waiting", default=())


@contextmanager
def told_of_waits(wait: Wait) -> Iterator[None]:
    """Open ``wait`` around each wait of a request of this block, and of the tasks that it makes."""
    token = _told.set((*_told.get(), wait))
    try:
        yield
    finally:
        _told.reset(token)


@contextmanager
def patient(patience: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """``told_of_waits`` for a job's own ``patient``: a request that waits is no stall."""

    @asynccontextmanager
    async def wait() -> AsyncIterator[None]:
        with patience():
            yield

    with told_of_waits(wait):
        yield


async def telling(tell: Callable[[], None], work: Coroutine[Any, Any, T]) -> T:
    """Do some work; while a request of it waits, ``tell`` is called again and again."""

    @asynccontextmanager
    async def wait() -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def tick() -> None:
            nonlocal timer
            tell()
            timer = loop.call_later(TELL_S, tick)

        tick()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    with told_of_waits(wait):
        return await work


@asynccontextmanager
async def waiting() -> AsyncIterator[None]:
    """While the block runs, a request waits; what was said of it ends in reverse order."""
    async with AsyncExitStack() as stack:
        for wait in _told.get():
            await stack.enter_async_context(wait())
        yield
