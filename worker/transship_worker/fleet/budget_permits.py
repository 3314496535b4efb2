"""Permits for transfers in the background loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from transship.errors import RedisUnreachable
from transship.ledger.connection import plain
from transship.ledger.keys import Keys
from transship_worker.fleet.budget_pots import PERMIT_S, Line, Pots
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci.login import Login

logger = logging.getLogger("transship.worker")

#: Between two tries while Redis is away. Unit: s.
AWAY_S: Final = 0.5
#: How long one call may take, and the last one of a process that ends. Unit: s.
CALL_S: Final = 3.0
GOODBYE_S: Final = 1.0

_Line = Line[asyncio.Future[None]]


class Permits:
    """One process's permits; one task renews and asks for all of them."""

    def __init__(
        self, fleet: FleetRedis, keys: Keys, process: str, *, permit_s: float = PERMIT_S
    ) -> None:
        self._fleet = fleet
        self._pots = Pots(keys, process, permit_s=permit_s)
        self._lines: dict[Login, _Line] = {}
        self._script = fleet.script("budget_permits")
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def permit(self, login: Login, limit: int) -> AsyncIterator[None]:
        """Hold one of ``limit`` permits, from when there is one; first come, first served.

        While Redis is away one begins only where another ended.
        """
        pot = self._pots.of(login, limit)
        line = self._lines.setdefault(login, _Line(pot))
        await self._start(line)
        try:
            yield
        finally:
            self._end(line)

    async def close(self) -> None:
        """Stop renewing and give all back; to be called when no transfer runs any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._pots.busy:
            return
        self._pots.abandon()
        with contextlib.suppress(RedisUnreachable, TimeoutError):
            await self._ask(GOODBYE_S)

    async def _start(self, line: _Line) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.join(turn)
        self._move(line)
        if turn.done():
            return
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            line.leave(turn)
            if not turn.cancelled():
                # It was given in the same moment.
                self._end(line)
            raise

    def _end(self, line: _Line) -> None:
        line.pot.ended()
        self._move(line)
        if line.pot.gives_back:
            self._changed.set()

    def _move(self, line: _Line) -> None:
        # A call on its way would not count what begins now; its reply lets them begin.
        if not self._pots.asking:
            line.move()

    def _wake(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        """Call as long as anything is held or wanted."""
        away = False
        while self._pots.busy:
            self._changed.clear()
            try:
                await self._ask(CALL_S)
            except (RedisUnreachable, TimeoutError) as error:
                if not away:
                    logger.warning("permits for transfers cannot be renewed: %s", plain(error))
                away = True
            else:
                away = False
            for line in self._lines.values():
                self._move(line)
            if away:
                await asyncio.sleep(AWAY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pots.pause_s):
                    await self._changed.wait()

    async def _ask(self, patience_s: float) -> None:
        keys, args = self._pots.question()
        try:
            async with asyncio.timeout(patience_s):
                reply = await self._fleet.ask(lambda: self._script(keys=keys, args=args))
            self._pots.answer(reply)
        finally:
            self._pots.unanswered()
