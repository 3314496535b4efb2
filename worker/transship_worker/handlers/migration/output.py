"""Where planned rows go: to a producer that reads them, or into the ledger as jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import redis

from transship.errors import LeaseLost, PlanFailed
from transship.ledger.connection import plain
from transship.ledger.keys import Keys
from transship.model.jobs import JobId
from transship.model.migration.plan import MOST_UNREAD, PlanRow
from transship.model.on_behalf_of import OnBehalfOf
from transship.model.rights import Rights
from transship_worker.fleet.redis import MAY_PASS, FleetRedis
from transship_worker.handlers.migration.requests import row_of
from transship_worker.handlers.registries import Registries
from transship_worker.jobs.claim_results import Claim
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.sweep import Due

logger = logging.getLogger("transship.worker")

T = TypeVar("T")

#: Rows that nobody reads are kept so long; then the reader has left. Unit: s.
UNREAD_S: Final = 600
#: Between two looks whether the reader has read. Unit: s.
LOOK_S: Final = 0.05
#: How long Redis may be away while rows are handed over. Unit: s.
PATIENCE_S: Final = 60.0
#: Between two tries while it is. Unit: s.
PAUSE_S: Final = 0.2
#: Jobs that one script writes.
CHUNK: Final = 100


def patiently(call: Callable[[], T], checkpoint: Callable[[], None]) -> T:
    """Make a call; while Redis is away, again and again for as long as the job may go on.

    Raises:
        PushError: why it may not.
    """
    while True:
        try:
            return call()
        except redis.RedisError as error:
            if isinstance(error, redis.ResponseError) and not isinstance(error, MAY_PASS):
                # A defect: no wait mends it.
                raise
            logger.debug("planning waits for Redis: %s", plain(error))
        checkpoint()
        time.sleep(PAUSE_S)


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
        self._fleet = fleet
        self._key = keys.plan(migration)

    async def give(self, rows: Sequence[PlanRow]) -> None:
        """Write rows as room is made for them."""
        lines = [row.to_json() for row in rows]
        while lines:
            room = await self._room()
            part, lines = lines[:room], lines[room:]
            # What is written twice, the reader takes once.
            await self._ask(partial(self._write, part))

    async def _write(self, lines: Sequence[str]) -> None:
        # Both or none: rows that nobody reads must not stay for ever.
        async with self._fleet.client.pipeline(transaction=True) as pipe:
            pipe.rpush(self._key, *lines)
            pipe.expire(self._key, UNREAD_S)
            await pipe.execute()

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self._fleet.ask(call, patience_s=PATIENCE_S)

    async def _room(self) -> int:
        """How many rows fit, at least one."""
        loop = asyncio.get_running_loop()
        unread, end = MOST_UNREAD, loop.time() + UNREAD_S
        while True:
            length = int(await self._ask(partial(self._fleet.client.llen, self._key)))
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
        checkpoint: Callable[[], None],
        *,
        fresh: bool,
        rights: Rights,
        on_behalf_of: OnBehalfOf | None,
    ) -> None:
        """``checkpoint`` raises when planning must end; the others are as in ``row_of``."""
        self._checkpoint = checkpoint
        self._claims = claims
        self._ring = ring
        self._claim = claim
        self._row_of = partial(
            row_of,
            migration=claim.job,
            registries=registries,
            fresh=fresh,
            rights=rights,
            on_behalf_of=on_behalf_of,
        )

    async def give(self, rows: Sequence[PlanRow]) -> None:
        """Write rows, and ring for those that find room on the queue."""
        await asyncio.to_thread(self._give, rows)

    def _give(self, rows: Sequence[PlanRow]) -> None:
        for start in range(0, len(rows), CHUNK):
            found = [self._row_of(row) for row in rows[start : start + CHUNK]]
            held, due = patiently(
                partial(self._claims.add_rows, self._claim, found), self._checkpoint
            )
            if not held:
                raise LeaseLost("another worker plans it")
            self._ring(due)
