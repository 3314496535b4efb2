"""How many requests are in flight at a registry that was not asked before: more with each answer.

A registry that limits requests is so met with a few that it refuses, and not with as many as a
planner has. Nothing of it is left after some round trips.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

#: Requests in flight before the first answer.
FIRST: Final = 8
#: Two answers let one request more be in flight; after so many, any number is.
ANSWERS: Final = 128


class Ramp:
    """A window that opens with answers, or at once. First come, first served."""

    def __init__(self) -> None:
        #: Whether any number may be in flight.
        self.is_open = False
        self._in_flight = 0
        self._answers = 0
        self._turns: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Be in flight while the block runs; one that ends without an error is an answer."""
        await self._enter()
        try:
            yield
            self._answers += 1
        finally:
            self._in_flight -= 1
            if self._answers >= ANSWERS:
                self.is_open = True
            self._move()

    def open(self) -> None:
        """Let any number be in flight from now on."""
        self.is_open = True
        self._move()

    @property
    def _has_room(self) -> bool:
        return self.is_open or self._in_flight < FIRST + self._answers // 2

    async def _enter(self) -> None:
        if not self._turns and self._has_room:
            self._in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # It was given just now, to nobody.
                self._in_flight -= 1
                self._move()
            raise

    def _move(self) -> None:
        while self._turns and self._has_room:
            turn = self._turns.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)
