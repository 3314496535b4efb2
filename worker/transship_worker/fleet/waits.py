"""The waits of one worker process: one task looks for all of them, with one script.

Redis is polled. Where leader and waiter share a process, as most do, the leader's end wakes the
poller at once. For the others 0.1 s counts little beside an upload, and a poll has no message to
miss, no connection of its own to lose, and notices by itself that a leader died. It costs one
script per period and process, and only while something waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from redis.commands.core import AsyncScript

from transship.errors import RedisUnreachable
from transship_worker.fleet.port import Found, Place, Where
from transship_worker.fleet.redis import FleetRedis

#: Between two looks at the waits whose leader is in another process. Unit: s.
POLL_S: Final = 0.1

#: A blob at a registry: the host and the digest.
Blob = tuple[str, str]


def found_of(where: str, detail: str, asked: float) -> Found:
    """What a script says of a blob.

    ``detail``: the age of a hint, in ms, or the repository to mount from. ``asked``: when the
    script was called, by the monotonic clock: a hint is rather taken for older than it is.
    """
    if where == Where.HERE:
        return Found(Where.HERE, written=asked - int(detail) / 1000)
    return Found(Where(where), detail)


@dataclass(frozen=True, slots=True, eq=False)
class _Wait:
    copy: str
    place: Place
    digest: str
    #: ``None``: the copy is dead.
    seen: asyncio.Future[Found | None]

    @property
    def blob(self) -> Blob:
        return self.place.registry, self.digest


class Waits:
    """Waits for blobs that others bring."""

    def __init__(
        self,
        fleet: FleetRedis,
        look: AsyncScript,
        prefix: tuple[str, int],
        *,
        patience_s: float,
        left: Callable[[str, Place, str], None],
    ) -> None:
        """Look with a script.

        Args:
            fleet: where the blobs' keys are.
            look: the script.
            prefix: its first arguments.
            patience_s: how long Redis may be away. Unit: s.
            left: called with the copy, place and digest of a wait that was cancelled during a
                look, which may have given it a place in line or the lead once more.
        """
        self._fleet = fleet
        self._look = look
        self._prefix = prefix
        self._patience_s = patience_s
        self._left = left
        self._waits: dict[_Wait, None] = {}
        self._woken: set[Blob] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, copy: str, place: Place, digest: str) -> Found | None:
        """Wait until the blob is no more to be waited for; ``None``: the copy is dead.

        Cancelled, it does not leave the line, and may have been given the lead just now.

        Raises:
            RedisUnreachable: Redis was away for longer than the patience.
        """
        wait = _Wait(copy, place, digest, asyncio.get_running_loop().create_future())
        self._waits[wait] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="transship-waits")
        self.wake([wait.blob])
        try:
            return await wait.seen
        finally:
            self._waits.pop(wait, None)

    def wake(self, blobs: Iterable[Blob]) -> None:
        """Something happened to these blobs: look at once."""
        self._woken.update(blobs)
        self._wake.set()

    def wake_all(self, registry: str) -> None:
        """Something happened that concerns all blobs of a registry."""
        self.wake([wait.blob for wait in self._waits if wait.place.registry == registry])

    async def close(self) -> None:
        """Stop looking; waits that are left are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for wait in list(self._waits):
            wait.seen.cancel()

    async def _watch(self) -> None:
        try:
            await self._watch_all()
        except Exception as error:  # noqa: BLE001 - whoever waits hears of any error
            for wait in list(self._waits):
                if not wait.seen.done():
                    wait.seen.set_exception(error)

    async def _watch_all(self) -> None:
        clock = asyncio.get_running_loop().time
        next_poll = clock()
        while self._waits:
            # Who has its answer leaves at its own next step.
            waits = [wait for wait in self._waits if not wait.seen.done()]
            if clock() < next_poll:
                waits = [wait for wait in waits if wait.blob in self._woken]
            else:
                next_poll = clock() + POLL_S
            self._woken.clear()
            self._wake.clear()
            if waits:
                await self._look_at(waits)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_poll):
                    await self._wake.wait()

    async def _look_at(self, waits: list[_Wait]) -> None:
        args: list[str | int] = [*self._prefix]
        for wait in waits:
            args += [wait.copy, wait.place.shared, wait.place.repository, wait.digest]
        asked = time.monotonic()
        try:
            reply = await self._fleet.run(self._look, args, patience_s=self._patience_s)
        except RedisUnreachable as error:
            for wait in waits:
                if not wait.seen.done():
                    wait.seen.set_exception(RedisUnreachable(error.message))
            return
        for wait, where, detail in zip(waits, reply[::2], reply[1::2], strict=True):
            if wait.seen.cancelled():
                self._left(wait.copy, wait.place, wait.digest)
            elif where != Where.WAIT:
                wait.seen.set_result(None if where == "lost" else found_of(where, detail, asked))
