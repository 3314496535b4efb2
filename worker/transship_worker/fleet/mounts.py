"""Whose turn it is to mount blobs into a repository: one worker at a time for each blob.

All blobs of an image are asked for at once. Copies of one process hand a mount's outcome to each
other without asking Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Final

from transship.errors import RedisUnreachable, Stalled
from transship.ledger.keys import Keys
from transship_worker.fleet.port import Mounting, Place
from transship_worker.fleet.redis import FleetRedis

#: A lock whose holder died is free after this. A mount that takes longer may run beside another;
#: what that can spoil is noticed when the manifest is written. Unit: s.
HELD_AT_MOST_S: Final = 15.0
#: How long Redis may be away before a lock is left to end by itself. Unit: s.
RELEASE_PATIENCE_S: Final = 3.0
#: How long others are waited for: some requests, or one that died. Unit: s.
WAIT_AT_MOST_S: Final = 90.0
#: Between two tries, at first and at last; half of it by chance. Unit: s.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.01, 0.25

#: Registry, repository and digest.
_Mount = tuple[str, str, str]


class Mounts:
    """Mounts that one process takes part in. Used from the background loop."""

    def __init__(
        self,
        fleet: FleetRedis,
        keys: Keys,
        *,
        patience_s: float,
        hint_s: float,
        repositories: int,
    ) -> None:
        """Redis may be away for ``patience_s``; hints live for ``hint_s``. Units: s."""
        self._fleet = fleet
        self._keys = keys
        self._patience_s = patience_s
        self._hint_s = hint_s
        self._repositories = repositories
        self._take = fleet.script("mount_take")
        self._end = fleet.script("mount_end")
        #: Mounts of this process that run; they end with whether the blob is there.
        self._running: dict[_Mount, asyncio.Future[bool]] = {}

    @asynccontextmanager
    async def turn(self, place: Place, digests: Collection[str]) -> AsyncIterator[Mounting]:
        """See ``Leads.mounting``.

        Raises:
            Stalled: others held all of them for too long.
            RedisUnreachable: Redis does not answer.
        """
        token = secrets.token_hex(8)
        mine: dict[str, asyncio.Future[bool]] = {}
        mounting = Mounting(frozenset(), frozenset())
        try:
            try:
                async with asyncio.timeout(WAIT_AT_MOST_S):
                    mounting = await self._turn(place, digests, token, mine)
            except TimeoutError:
                raise Stalled(
                    f"others held the mounts into {place.registry}/{place.repository} for "
                    f"{WAIT_AT_MOST_S:.0f} s"
                ) from None
            yield mounting
        finally:
            try:
                if mine:
                    await self._release(place, token, mine, mounting.mounted)
            finally:
                self._tell(place, mine, mounting.mounted)

    async def _turn(
        self,
        place: Place,
        digests: Collection[str],
        token: str,
        mine: dict[str, asyncio.Future[bool]],
    ) -> Mounting:
        """Wait until some are here, or the caller's; what is taken is noted in ``mine``."""
        pause = PAUSE_LEAST_S
        while True:
            running = {
                d: self._running[self._of(place, d)] for d in digests if self._is_running(place, d)
            }
            free = [digest for digest in digests if digest not in running]
            if not free:
                # Of this process: their outcome is heard at once.
                await asyncio.wait(running.values(), return_when=asyncio.FIRST_COMPLETED)
                here = frozenset(d for d, one in running.items() if one.done() and one.result())
                if here:
                    return Mounting(here, frozenset())
                continue
            for digest in free:
                future = asyncio.get_running_loop().create_future()
                mine[digest] = self._running[self._of(place, digest)] = future
            found = await self._taken(place, free, token)
            here = frozenset(d for d, what in found.items() if what == "here")
            taken = frozenset(d for d, what in found.items() if what == "mine")
            self._tell(place, {d: mine.pop(d) for d in free if d not in taken}, here)
            if here or taken:
                return Mounting(here, taken)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - only spreads tries
            pause = min(pause * 2, PAUSE_MOST_S)

    async def _taken(self, place: Place, digests: list[str], token: str) -> dict[str, str]:
        args: list[str | int] = [token, int(HELD_AT_MOST_S * 1000), place.repository]
        for digest in digests:
            args += [self._lock(place, digest), self._keys.blob(place.shared, digest)]
        reply = await self._fleet.run(self._take, args, patience_s=self._patience_s)
        return dict(zip(digests, map(str, reply), strict=True))

    async def _release(
        self, place: Place, token: str, digests: Iterable[str], mounted: Collection[str]
    ) -> None:
        args: list[str | int] = [
            token,
            place.repository,
            int(self._hint_s * 1000),
            self._repositories,
        ]
        for digest in digests:
            args += [self._lock(place, digest), self._keys.blob(place.shared, digest)]
            args.append(int(digest in mounted))
        # Where Redis does not answer, the locks end by themselves.
        with contextlib.suppress(RedisUnreachable):
            await self._fleet.run(self._end, args, patience_s=RELEASE_PATIENCE_S)

    def _tell(
        self, place: Place, ended: dict[str, asyncio.Future[bool]], there: Collection[str]
    ) -> None:
        """Let the copies of this process that wait for these go on."""
        for digest, future in ended.items():
            self._running.pop(self._of(place, digest), None)
            if not future.done():
                future.set_result(digest in there)

    def _lock(self, place: Place, digest: str) -> str:
        return self._keys.lock(f"mount:{place.registry}/{place.repository}:{digest}")

    def _is_running(self, place: Place, digest: str) -> bool:
        return self._of(place, digest) in self._running

    @staticmethod
    def _of(place: Place, digest: str) -> _Mount:
        return place.registry, place.repository, digest
