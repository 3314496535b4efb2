"""Leads within one process, without Redis: for whoever copies alone.

The promises are those of the fleet's leads, and so is the reason why nobody waits for ever: a
copy gets a number at its first take, and waits only for copies with lower ones.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from transship_worker.fleet.port import Found, Leads, Mounting, Place, Where

#: Blobs whose places are remembered, the newest.
HINTS_MOST: Final = 100_000

#: A registry, or one repository of it where mounts are refused, and a digest.
_Key = tuple[str, str]


@dataclass(slots=True)
class _Turn:
    """Who brings one blob, and who waits for it."""

    leader: str | None = None
    line: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class AloneLeads(Leads):
    """Leads of copies that all run in one event loop."""

    def __init__(self) -> None:
        self._hints: OrderedDict[_Key, dict[str, float]] = OrderedDict()
        self._turns: dict[_Key, _Turn] = {}
        self._numbers: dict[str, int] = {}
        self._next = itertools.count()
        self._refusing: set[str] = set()
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def take(self, place: Place, holder: str, digests: Iterable[str]) -> dict[str, Found]:
        """See ``Leads``."""
        self._numbers.setdefault(holder, next(self._next))
        found = {digest: self._look(place, holder, digest) for digest in digests}
        self._sweep(holder)
        return found

    async def arrived(
        self, place: Place, holder: str, digests: Iterable[str], *, ended: Collection[str] = ()
    ) -> None:
        """See ``Leads``."""
        for digest in ended:
            self._leave(place, holder, digest)
        for digest in digests:
            repositories = self._hints.setdefault((place.shared, digest), {})
            repositories.pop(place.repository, None)
            repositories[place.repository] = time.monotonic()
            self._hints.move_to_end((place.shared, digest))
            self._leave(place, holder, digest)
        while len(self._hints) > HINTS_MOST:
            self._hints.popitem(last=False)
        self._sweep(holder)

    async def give_up(self, place: Place, holder: str, digests: Iterable[str]) -> None:
        """See ``Leads``."""
        for digest in digests:
            self._leave(place, holder, digest)
        self._sweep(holder)

    async def wait(self, place: Place, holder: str, digest: str) -> Found:
        """See ``Leads``."""
        self._numbers.setdefault(holder, next(self._next))
        try:
            while True:
                found = self._look(place, holder, digest)
                if found.where is not Where.WAIT:
                    return found
                await self._turns[self._key(place, digest)].changed.wait()
        except BaseException:
            self._leave(place, holder, digest)
            raise
        finally:
            self._sweep(holder)

    async def forget(self, place: Place, digest: str) -> None:
        """See ``Leads``."""
        self._hints.get((place.shared, digest), {}).pop(place.repository, None)

    @asynccontextmanager
    async def mounting(self, place: Place, digests: Collection[str]) -> AsyncIterator[Mounting]:
        """See ``Leads``; all of the blobs are waited for, in one order everywhere."""
        async with AsyncExitStack() as stack:
            for digest in sorted(digests):
                await stack.enter_async_context(
                    self._held("mount", place.registry, place.repository, digest)
                )
            here = frozenset(
                digest
                for digest in digests
                if place.repository in self._hints.get((place.shared, digest), {})
            )
            mounting = Mounting(here, frozenset(digests) - here)
            try:
                yield mounting
            finally:
                for digest in mounting.mounted:
                    hints = self._hints.setdefault((place.shared, digest), {})
                    hints[place.repository] = time.monotonic()

    def attaching(self, place: Place, subject: str) -> AbstractAsyncContextManager[None]:
        """See ``Leads``."""
        return self._held("referrers", place.registry, place.repository, subject)

    async def can_mount(self, registry: str) -> bool:
        """See ``Leads``."""
        return registry not in self._refusing

    async def cannot_mount(self, registry: str) -> None:
        """See ``Leads``; it counts until the process ends."""
        self._refusing.add(registry)
        for turn in self._turns.values():
            _wake(turn)

    def _look(self, place: Place, holder: str, digest: str) -> Found:
        """What is known of a blob; the holder leads it, or is in line for it, from now on."""
        repositories = self._hints.get((place.shared, digest), {})
        found = None
        if place.repository in repositories:
            found = Found(Where.HERE, written=repositories[place.repository])
        elif repositories and place.registry not in self._refusing:
            found = Found(Where.ELSEWHERE, next(reversed(repositories)))
        if found is not None:
            self._leave(place, holder, digest)
            return found
        turn = self._turns.setdefault(self._key(place, digest), _Turn())
        ahead = {turn.leader} if turn.leader is not None else turn.line
        number = self._numbers[holder]
        if any(one != holder and self._numbers[one] < number for one in ahead):
            turn.line.add(holder)
            return Found(Where.WAIT)
        turn.line.discard(holder)
        if turn.leader is None:
            turn.leader = holder
        return Found(Where.LEAD)

    def _leave(self, place: Place, holder: str, digest: str) -> None:
        """The holder has no more to do with a blob, whoever can share it."""
        for scope in {*self._scopes(place, digest)}:
            turn = self._turns.get((scope, digest))
            if turn is None:
                continue
            turn.line.discard(holder)
            if turn.leader == holder:
                # At once, so that nobody who comes meanwhile overtakes who waits longest.
                turn.leader = min(turn.line, key=self._numbers.__getitem__, default=None)
            _wake(turn)
            if turn.leader is None and not turn.line:
                del self._turns[scope, digest]

    def _sweep(self, holder: str) -> None:
        """Forget the number of a holder that leads nothing and waits for nothing."""
        turns = self._turns.values()
        if not any(holder == turn.leader or holder in turn.line for turn in turns):
            self._numbers.pop(holder, None)

    def _key(self, place: Place, digest: str) -> _Key:
        whole, one = self._scopes(place, digest)
        return (one if place.registry in self._refusing else whole), digest

    @staticmethod
    def _scopes(place: Place, digest: str) -> tuple[str, str]:
        """Who may share a blob: a registry, or one repository; a manifest has one writer."""
        shared = place.registry if digest.startswith("manifest/") else place.shared
        return shared, f"{shared}/{place.repository}"

    @asynccontextmanager
    async def _held(self, *what: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(what, asyncio.Lock())
        async with lock:
            yield


def _wake(turn: _Turn) -> None:
    turn.changed.set()
    turn.changed = asyncio.Event()
