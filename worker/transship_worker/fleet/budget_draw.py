"""Requests and bytes a second: drawn in batches for a process, not one Redis trip each.

A batch is as large as what waits and as the last one was used, at most what the rate gives in
``BATCH_S``. What is not used within ``LIFE_S`` is lost, so that an idle process hoards
nothing. In any span of t seconds the fleet so uses no more than the rate times
(t + ``LIFE_S``) and one batch, whatever the number of its processes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

#: The longest batch, as the time that the rate takes to give it. Unit: s.
BATCH_S: Final = 0.25
#: How long a batch may be used. Unit: s.
LIFE_S: Final = 1.0

#: Draws so many at a rate (1/s); returns for how long they must not be used yet (s).
Draw = Callable[[float, int], Awaitable[float]]


class Allowance:
    """One process's part of a rate. Callers are served in their order."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._turn = asyncio.Lock()
        self._wanted = 0
        self._drawn = 0
        self._left = 0
        self._from = 0.0
        self._until = 0.0

    async def take(self, count: int, rate: float) -> None:
        """Wait until so many may be used; what the caller took and does not use is lost.

        Raises:
            RedisUnreachable: nothing can be drawn.
        """
        if (
            self._left >= count
            and not self._wanted
            and self._from <= time.monotonic() < self._until
        ):
            self._left -= count
            return
        self._wanted += count
        missing = count
        try:
            async with self._turn:
                while missing:
                    await self._ready(rate)
                    used = min(missing, self._left)
                    self._left -= used
                    self._wanted -= used
                    missing -= used
        finally:
            self._wanted -= missing

    async def _ready(self, rate: float) -> None:
        """Return with something left that may be used now."""
        while True:
            now = time.monotonic()
            if not self._left or now >= self._until:
                await self._fill(rate)
            elif now < self._from:
                # Whoever is cancelled here leaves the batch to the next.
                await asyncio.sleep(self._from - now)
            else:
                return

    async def _fill(self, rate: float) -> None:
        most = max(1, int(rate * BATCH_S))
        # All used: more is needed. Else as much as was.
        guess = 2 * self._drawn if not self._left else self._drawn - self._left
        size = min(most, max(1, guess, self._wanted))
        wait_s = await self._draw(rate, size)
        self._drawn = self._left = size
        # Counted from after the reply, so that nothing is used too early.
        self._from = time.monotonic() + wait_s
        self._until = self._from + LIFE_S
