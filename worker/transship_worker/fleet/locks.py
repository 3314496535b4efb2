"""Locks in Redis that are held for one request, such as the writing of a list."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from transship.errors import RedisUnreachable, Stalled
from transship.ledger.keys import Keys
from transship_worker.fleet.redis import FleetRedis

#: A lock whose holder died is free after this; no request takes as long. Unit: s.
HELD_AT_MOST_S: Final = 60.0
#: How long a lock is waited for: some requests, or one that died. Unit: s.
WAIT_AT_MOST_S: Final = 90.0
#: Between two tries, at first and at last; half of it by chance. Unit: s.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.01, 0.25


class Locks:
    """Locks that one process takes part in. Within the process they are handed on in order."""

    def __init__(self, fleet: FleetRedis, keys: Keys, *, patience_s: float) -> None:
        """Redis may be away for ``patience_s`` seconds."""
        self._fleet = fleet
        self._keys = keys
        self._patience_s = patience_s
        self._take = fleet.script("lock_take")
        self._end = fleet.script("lock_end")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(
        self,
        what: str,
        *,
        wait_s: float = WAIT_AT_MOST_S,
        held_s: float = HELD_AT_MOST_S,
    ) -> AsyncIterator[None]:
        """Hold the lock of this name while the block runs; for ``held_s`` seconds at most.

        Raises:
            Stalled: others held it for ``wait_s`` seconds.
            RedisUnreachable: Redis does not answer.
        """
        key, token = self._keys.lock(what), secrets.token_hex(8)
        async with self._turn(what, wait_s) as end:
            try:
                async with self._bounded(what, end, wait_s):
                    await self._acquire(key, token, held_s)
                yield
            finally:
                # Also if it was not taken: only the answer may have been lost.
                await self._release(key, token)

    @asynccontextmanager
    async def _turn(self, what: str, wait_s: float) -> AsyncIterator[float]:
        """This process's turn; until when the lock itself may be waited for."""
        turn = self._turns.setdefault(what, asyncio.Lock())
        end = asyncio.get_running_loop().time() + wait_s
        async with self._bounded(what, end, wait_s):
            await turn.acquire()
        try:
            yield end
        finally:
            turn.release()

    @asynccontextmanager
    async def _bounded(self, what: str, end: float, wait_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(end):
                yield
        except TimeoutError:
            raise Stalled(f"others held the lock of {what} for {wait_s:.0f} s") from None

    async def _acquire(self, key: str, token: str, held_s: float) -> None:
        pause = PAUSE_LEAST_S
        args: list[str | int] = [key, token, int(held_s * 1000)]
        while not await self._fleet.run(self._take, args, patience_s=self._patience_s):
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - only spreads tries
            pause = min(pause * 2, PAUSE_MOST_S)

    async def _release(self, key: str, token: str) -> None:
        # Where Redis does not answer, the lock ends by itself.
        with contextlib.suppress(RedisUnreachable):
            await self._fleet.run(self._end, [key, token])
