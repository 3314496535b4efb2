"""Where planned rows go: to a producer that reads them, or into the ledger as jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from longshore_config.errors import LeaseLost, PlanFailed
from longshore_config.job import JobId
from longshore_config.keys import Keys
from longshore_config.migration.plan import PlanRow
from longshore_worker.claims import Claim, Claims, Due
from longshore_worker.fleet.redis import FleetRedis
from longshore_worker.migrate.requests import row_of
from longshore_worker.registries import Registries

#: Rows that wait for their reader at most.
MOST_UNREAD: Final = 1_000
#: Rows that nobody reads are kept so long; then the reader has left. Unit: s.
UNREAD_S: Final = 600
#: Between two looks whether the reader has read. Unit: s.
LOOK_S: Final = 0.05
#: Jobs that one script writes.
CHUNK: Final = 100


class Outlet(Protocol):
    """Takes planned rows."""

    async def give(self, rows: Sequence[PlanRow]) -> None:
        """Take more rows; waits where there is no room.

        Raises:
            PlanFailed: nobody takes them.
            LeaseLost: the planning is another worker's by now.
        """


class Reader:
    """A producer that takes rows out of a bounded list; implements ``Outlet``."""

    def __init__(self, fleet: FleetRedis, keys: Keys, migration: JobId) -> None:
        self._redis = fleet.client
        self._key = keys.plan(migration)

    async def give(self, rows: Sequence[PlanRow]) -> None:
        """Write rows as room is made for them."""
        lines = [row.to_json() for row in rows]
        while lines:
            room = await self._room()
            part, lines = lines[:room], lines[room:]
            await self._redis.rpush(self._key, *part)
            await self._redis.expire(self._key, UNREAD_S)

    async def _room(self) -> int:
        """How many rows fit, at least one."""
        loop = asyncio.get_running_loop()
        unread, end = MOST_UNREAD, loop.time() + UNREAD_S
        while True:
            length = int(await self._redis.llen(self._key))
            if length < MOST_UNREAD:
                return MOST_UNREAD - length
            if length < unread:
                # Somebody reads, however slowly.
                end = loop.time() + UNREAD_S
            unread = length
            if loop.time() > end:
                raise PlanFailed("nobody reads the plan's rows; plan it again")
            await asyncio.sleep(LOOK_S)


class Jobs:
    """The ledger, where each row becomes a job; implements ``Outlet``."""

    def __init__(
        self,
        claims: Claims,
        ring: Callable[[Sequence[Due]], None],
        claim: Claim,
        registries: Registries,
        *,
        fresh: bool,
    ) -> None:
        """``fresh``: the rows were planned just now."""
        self._claims = claims
        self._ring = ring
        self._claim = claim
        self._registries = registries
        self._fresh = fresh

    async def give(self, rows: Sequence[PlanRow]) -> None:
        """Write rows, and ring for those that find room on the queue."""
        await asyncio.to_thread(self._give, rows)

    def _give(self, rows: Sequence[PlanRow]) -> None:
        for start in range(0, len(rows), CHUNK):
            found = [
                row_of(row, self._claim.job, self._registries, fresh=self._fresh)
                for row in rows[start : start + CHUNK]
            ]
            held, due = self._claims.add_rows(self._claim, found)
            if not held:
                raise LeaseLost("another worker plans it")
            self._ring(due)
