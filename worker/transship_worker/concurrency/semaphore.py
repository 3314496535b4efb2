"""So many requests at once, and what was begun first is finished first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from transship_worker.concurrency.gather import first_of

T = TypeVar("T")


class PrioritySemaphore:
    """A semaphore whose places go to the lowest order that waits.

    Without an order, all repositories of a plan would be ready at its end only.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    async def acquire(self, order: int) -> None:
        """Wait for a place."""
        if self._free:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (order, next(self._numbers), place))
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                # It was given just now, to nobody.
                self.release()
            raise

    def release(self) -> None:
        """Give a place back."""
        while self._waiting:
            *_, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    @asynccontextmanager
    async def place(self, order: int) -> AsyncIterator[None]:
        """Hold a place for a block; who holds one must not wait for a second."""
        await self.acquire(order)
        try:
            yield
        finally:
            self.release()

    async def each(
        self, order: int, items: Iterable[T], work: Callable[[T], Coroutine[Any, Any, None]]
    ) -> None:
        """Do some work for each item, each in a place of its own; the first error ends it all.

        There are never more tasks than places, however many items there are.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for item in items:
                    await self.acquire(order)
                    task = group.create_task(work(item))
                    # Also of a task that is cancelled before it starts.
                    task.add_done_callback(lambda _: self.release())
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None
