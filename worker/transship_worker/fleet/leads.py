"""Each blob once: who uploads it, who waits for it, and where it is, for the whole fleet.

All of it stands in Redis. A *copy* (one holder in one process) has a key that its process
renews; its leads and its places in line count for as long as that key is there, so they die
with the process, all at the same moment.

Why nobody waits for ever. A copy gets a number at its first take, higher than the numbers of
all copies that the take meets, as leaders or in line; and it only ever waits for copies with a
lower number than its own. So the waits form no circle, whatever a lead's end depends on:

- Usually a lead ends when its blob is uploaded, and every lead is uploaded at once, by a task
  that waits for no other blob.
- Where mounts need a manifest (Amazon ECR), a lead ends after the manifest, which needs all
  blobs of the image: also those that the copy waits for. These were taken before its own take.
  A lead that ends without its blob goes to the lowest number in line, so that this stays so for
  all who go on waiting; also when that copy is not looking yet, since it uploads other blobs.
- A copy that takes again while it leads keeps its number. What a higher number leads it does
  not wait for: it uploads that blob beside the other. A blob then travels twice; no copy hangs.

What dies is never revived: a copy that was silent for longer than the lease comes back as
another one, with a new number and no leads. Its uploads go on, and harm nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from transship.errors import RedisUnreachable
from transship.ledger.keys import Keys
from transship_worker.fleet.locks import Locks
from transship_worker.fleet.mounts import Mounts
from transship_worker.fleet.port import Found, Leads, Mounting, Place, Where
from transship_worker.fleet.redis import FleetRedis
from transship_worker.fleet.waits import Blob, Waits, found_of

T = TypeVar("T")

#: How long it is remembered where a blob is. Unit: s.
HINT_S: Final = 7 * 24 * 3600
#: Repositories remembered for one blob, the newest.
REPOSITORIES_MOST: Final = 32
#: How long it is remembered that a registry refuses mounts. Unit: s.
REFUSES_S: Final = 24 * 3600
#: How long a process trusts what it heard of that. Unit: s.
REFUSES_CACHED_S: Final = 5.0
#: How long the end of a lead may take when Redis hangs. Unit: s.
GIVE_UP_S: Final = 5.0
#: Between two tries to renew while Redis is away. Unit: s.
RENEW_PAUSE_S: Final = 1.0


@dataclass(eq=False, slots=True)
class _Copy:
    """What one holder has in this process."""

    #: Its name in Redis: another one after it died there.
    name: str
    led: set[Blob] = field(default_factory=set)
    lined: set[Blob] = field(default_factory=set)
    #: Whether it is known to be in Redis.
    begun: bool = False
    #: Calls that run, and so need its key.
    calls: int = 0
    #: When it last called; the loop's clock. Unit: s.
    called: float = 0.0

    @property
    def over(self) -> bool:
        """Whether it has nothing in Redis and asks for nothing."""
        return not (self.led or self.lined or self.calls)

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """While the block runs the copy is not over."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1


class RedisLeads(Leads):
    """The leads of one worker process. Made and used in the background loop.

    Redis may be away for as long as a lease: calls wait for it. Then they end in
    ``RedisUnreachable``, which is retried like any error that passes.
    """

    def __init__(self, fleet: FleetRedis, keys: Keys, *, lease_s: float) -> None:
        """``lease_s``: how long the leads of a process that died still count. Unit: s."""
        self._fleet = fleet
        self._keys = keys
        self._lease_s = lease_s
        self._prefix = (keys.namespace, max(1, int(lease_s * 1000)))
        self._scripts = {
            name: fleet.script("lead_common", f"lead_{name}")
            for name in ("take", "look", "arrived", "end", "renew")
        }
        self._copies: dict[str, _Copy] = {}
        self._waits = Waits(
            fleet, self._scripts["look"], self._prefix, patience_s=lease_s, left=self._left
        )
        self._locks = Locks(fleet, keys, patience_s=lease_s)
        self._mounts = Mounts(
            fleet, keys, patience_s=lease_s, hint_s=HINT_S, repositories=REPOSITORIES_MOST
        )
        self._refuses: dict[str, tuple[float, bool]] = {}
        self._renewer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, place: Place, holder: str, digests: Iterable[str]) -> dict[str, Found]:
        """See ``Leads``. Raises ``RedisUnreachable``."""
        wanted = list(dict.fromkeys(digests))
        if not wanted:
            return {}
        while True:
            copy = self._copies.get(holder)
            if copy is None:
                copy = self._copies[holder] = _Copy(f"{holder}.{secrets.token_hex(6)}")
            asked = time.monotonic()
            reply = await self._take(copy, place, wanted)
            if reply != ["lost"]:
                break
            self._forget_copy(copy)
        found = {
            digest: found_of(where, detail, asked)
            for digest, where, detail in zip(wanted, reply[::2], reply[1::2], strict=True)
        }
        for digest, what in found.items():
            self._note(copy, (place.registry, digest), what.where)
        if not copy.over:
            copy.begun = True
            self._renew_copies()
        elif copy.begun:
            # Another task of this holder took meanwhile, and what it took has ended by now.
            self._abandon(copy)
        else:
            self._forget_copy(copy)
        return found

    async def arrived(
        self, place: Place, holder: str, digests: Iterable[str], *, ended: Collection[str] = ()
    ) -> None:
        """See ``Leads``. Raises ``RedisUnreachable``; the leads then end by themselves."""
        arrived = list(dict.fromkeys(digests))
        if not arrived:
            return
        copy = self._copies.get(holder)
        over = self._dismiss(copy, place, [*arrived, *ended])
        args = (copy.name if copy else "", over, place.shared, place.repository)
        try:
            with copy.calling() if copy else contextlib.nullcontext():
                ends: list[str | int] = [len(ended), *ended]
                bounds = (HINT_S * 1000, REPOSITORIES_MOST)
                await self._ask("arrived", *args, *bounds, *ends, *arrived)
        except BaseException:
            if copy is not None:
                self._abandon(copy)
            raise
        finally:
            self._waits.wake([(place.registry, digest) for digest in (*arrived, *ended)])
        if copy is not None and copy.over and not over:
            # What else it had ended meanwhile.
            self._abandon(copy)

    async def give_up(self, place: Place, holder: str, digests: Iterable[str]) -> None:
        """See ``Leads``. Ends the copy's places in line for these blobs, too.

        A copy that gives up, leads nothing more and waits for nothing leaves all lines.
        """
        copy = self._copies.get(holder)
        if copy is None:
            return
        given = list(dict.fromkeys(digests))
        if not copy.calls and copy.led <= {(place.registry, digest) for digest in given}:
            copy.lined.clear()
        await self._leave(copy, place, given)

    async def wait(self, place: Place, holder: str, digest: str) -> Found:
        """See ``Leads``. Raises ``RedisUnreachable``."""
        blob = (place.registry, digest)
        while True:
            copy = self._copies.get(holder)
            if copy is None or not copy.begun:
                # It never took the blob, or was silent for so long that it died in Redis. Where
                # another task of this holder takes again at this moment, a look that overtakes
                # that call would find no copy and forget the new one, which nobody then ends.
                found = (await self.take(place, holder, [digest]))[digest]
                if found.where is not Where.WAIT:
                    return found
                continue
            copy.lined.add(blob)
            try:
                with copy.calling():
                    seen = await self._waits.wait(copy.name, place, digest)
            except BaseException:
                await self._leave(copy, place, [digest])
                raise
            if seen is None:
                self._forget_copy(copy)
                continue
            self._note(copy, blob, seen.where)
            if copy.over:
                self._abandon(copy)
            return seen

    async def forget(self, place: Place, digest: str) -> None:
        """See ``Leads``. Raises ``RedisUnreachable``."""
        key = self._keys.blob(place.shared, digest)
        await self._patiently(lambda: self._fleet.client.zrem(key, place.repository))

    def mounting(
        self, place: Place, digests: Collection[str]
    ) -> AbstractAsyncContextManager[Mounting]:
        """See ``Leads``. Raises ``Stalled`` when others hold all of them for too long."""
        return self._mounts.turn(place, digests)

    def attaching(self, place: Place, subject: str) -> AbstractAsyncContextManager[None]:
        """See ``Leads``. Raises ``Stalled`` when others hold the lock for too long."""
        return self._locks.held(f"referrers:{place.registry}/{place.repository}:{subject}")

    async def can_mount(self, registry: str) -> bool:
        """See ``Leads``. Raises ``RedisUnreachable``."""
        now = asyncio.get_running_loop().time()
        until, refuses = self._refuses.get(registry, (0.0, False))
        if now >= until:
            key = self._keys.mounts(registry)
            refuses = bool(await self._patiently(lambda: self._fleet.client.exists(key)))
            self._refuses[registry] = (now + REFUSES_CACHED_S, refuses)
        return not refuses

    async def cannot_mount(self, registry: str) -> None:
        """See ``Leads``. Raises ``RedisUnreachable``."""
        until = asyncio.get_running_loop().time() + REFUSES_CACHED_S
        self._refuses[registry] = (until, True)
        key = self._keys.mounts(registry)
        await self._patiently(lambda: self._fleet.client.set(key, "1", ex=REFUSES_S))
        self._waits.wake_all(registry)

    async def close(self) -> None:
        """End all that this process leads and waits for."""
        if self._renewer is not None:
            self._renewer.cancel()
            await asyncio.wait([self._renewer])
        await self._waits.close()
        for copy in list(self._copies.values()):
            self._abandon(copy)
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, name: str, *args: str | int, patient: bool = True) -> Any:
        patience_s = self._lease_s if patient else 0
        args = (*self._prefix, *args)
        return await self._fleet.run(self._scripts[name], args, patience_s=patience_s)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self._fleet.ask(call, patience_s=self._lease_s)

    async def _take(self, copy: _Copy, place: Place, digests: list[str]) -> Any:
        args = (copy.name, int(copy.begun), place.shared, place.repository)
        try:
            with copy.calling():
                return await self._ask("take", *args, *digests)
        except BaseException:
            # Redis may have given it leads all the same.
            self._abandon(copy)
            raise

    def _note(self, copy: _Copy, blob: Blob, where: Where) -> None:
        """Keep what a copy has now in Redis."""
        copy.called = asyncio.get_running_loop().time()
        for having, state in ((copy.led, Where.LEAD), (copy.lined, Where.WAIT)):
            if where is state:
                having.add(blob)
            else:
                having.discard(blob)

    def _dismiss(self, copy: _Copy | None, place: Place, digests: list[str]) -> int:
        """A copy has no more to do with blobs; 1: nor with any other, so it is over."""
        if copy is None:
            return 0
        blobs = {(place.registry, digest) for digest in digests}
        copy.led -= blobs
        copy.lined -= blobs
        copy.called = asyncio.get_running_loop().time()
        if copy.over:
            self._forget_copy(copy)
        return int(copy.over)

    async def _leave(self, copy: _Copy, place: Place, digests: list[str]) -> None:
        """End leads and places in line; where Redis does not answer, they end by themselves."""
        over = self._dismiss(copy, place, digests)
        try:
            async with asyncio.timeout(GIVE_UP_S):
                args = (copy.name, over, place.shared, place.repository)
                await self._ask("end", *args, *digests, patient=False)
        except (RedisUnreachable, TimeoutError):
            self._abandon(copy)
        except BaseException:
            self._abandon(copy)
            raise
        finally:
            self._waits.wake([(place.registry, digest) for digest in digests])

    def _left(self, name: str, place: Place, digest: str) -> None:
        """A wait was cancelled while Redis was asked about it."""
        blob = (place.registry, digest)
        for copy in self._copies.values():
            if copy.name == name:
                if blob not in copy.led | copy.lined:
                    self._start(self._leave(copy, place, [digest]))
                return

    def _forget_copy(self, copy: _Copy) -> None:
        """Renew a copy no more."""
        for holder, known in list(self._copies.items()):
            if known is copy:
                del self._copies[holder]

    def _abandon(self, copy: _Copy) -> None:
        """Renew a copy no more, and end all that it has in Redis as soon as that can be said."""
        self._forget_copy(copy)
        self._start(self._end(copy))

    async def _end(self, copy: _Copy) -> None:
        key = self._keys.copy(copy.name)
        with contextlib.suppress(RedisUnreachable, TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                await self._fleet.ask(lambda: self._fleet.client.delete(key))
        self._waits.wake(copy.led | copy.lined)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _renew_copies(self) -> None:
        if self._renewer is None or self._renewer.done():
            self._renewer = asyncio.create_task(self._renew(), name="transship-leads")

    async def _renew(self) -> None:
        """Renew all copies of the process together, for as long as there are any."""
        pause = self._lease_s / 3
        while self._copies:
            await asyncio.sleep(pause)
            now = asyncio.get_running_loop().time()
            for copy in list(self._copies.values()):
                # A place in line that nobody waits in holds up those behind it.
                if not copy.led and not copy.calls and now - copy.called > self._lease_s:
                    self._abandon(copy)
            copies = [copy for copy in self._copies.values() if copy.begun]
            if not copies:
                continue
            try:
                alive = await self._ask("renew", *(copy.name for copy in copies), patient=False)
            except RedisUnreachable:
                pause = min(RENEW_PAUSE_S, self._lease_s / 3)
                continue
            pause = self._lease_s / 3
            for copy, lives in zip(copies, alive, strict=True):
                if not lives:
                    self._forget_copy(copy)
