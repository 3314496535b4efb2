"""All blobs of one image to the target: present, mounted, waited for or uploaded."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from transship.errors import (
    AnswerMalformed,
    BlobMissing,
    Denied,
    ImageNotFound,
    PushRejected,
    RepositoryMissing,
    UploadLost,
)
from transship_worker.concurrency.gather import together
from transship_worker.fleet.port import Found, Leads, Place, Where
from transship_worker.oci.content import ContentSource, ContentTarget
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.transports.copy.port import CopyControl

T = TypeVar("T")

#: Blobs of one image that are uploaded at once.
UPLOADS_AT_ONCE: Final = 4
#: Small requests of one image that run at once; also uploads of blobs that are no larger.
REQUESTS_AT_ONCE: Final = 16
SMALL: Final = 256 * 1024
#: Refused mounts of one blob after which it is uploaded, whoever else may bring it.
MOUNTS_MOST: Final = 3
#: A hint that is older is asked for before it is believed: long enough for a running fleet not to
#: ask for its own work, and nobody tells of what is deleted at a registry. Unit: s.
BELIEVED_S: Final = 300.0
#: How often the job hears of a look that reads a blob. Unit: s.
ALIVE_EVERY_S: Final = 5.0
#: What a registry says to a mount that this login or this registry cannot do.
_NO_MOUNT: Final = (
    # Accepted, and not said where the upload is that stands for it.
    AnswerMalformed,
    BlobMissing,
    Denied,
    ImageNotFound,
    PushRejected,
    RepositoryMissing,
)


@dataclass(slots=True, eq=False)
class _Blob:
    """One blob on its way."""

    what: Descriptor
    #: An upload that a refused mount left open.
    opened: object | None = None
    mounts: int = 0


#: Blobs to go on with, and what is known of each.
_Further = list[tuple[_Blob, Found]]


class Bringing:
    """Brings the blobs of one copy, and ends its leads."""

    def __init__(
        self,
        place: Place,
        source: ContentSource,
        target: ContentTarget,
        leads: Leads,
        control: CopyControl,
        holder: str,
        *,
        fresh: bool = False,
        since: float = -math.inf,
    ) -> None:
        """Bring blobs for one copy.

        ``place``: the target, for ``leads``.
        ``fresh``: the target's repository holds nothing that the fleet does not know of.
        ``since``: see ``CopyTask``.
        """
        self._fresh = fresh
        self._since = since
        #: The target refused a manifest: what hints say is asked for, and so is what a fresh
        #: repository is not asked for otherwise.
        self._doubts = False
        #: Blobs whose mount did not bring them here, whatever the registry said.
        self._not_mounted: set[str] = set()
        self._source = source
        self._target = target
        self._leads = leads
        self._control = control
        self._holder = holder
        self._place = place
        self._requests = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._working: set[asyncio.Task[_Further]] = set()
        self._waiting: set[asyncio.Task[_Further]] = set()
        #: All that was taken, by digest.
        self._taken: dict[str, Descriptor] = {}
        #: Blobs that are said to be there; ``True``: by a mount.
        self._believed: dict[str, bool] = {}
        #: Blobs to be made known once a manifest references them.
        self._later: set[str] = set()
        #: Manifests that are to be written, and those of them that another copy writes now.
        self._manifests: set[str] = set()
        self._theirs: set[str] = set()

    async def bring(self, blobs: Mapping[str, Descriptor], manifests: Collection[str] = ()) -> None:
        """Have all of these at the target. To be called again only for what was not there.

        ``manifests``: digests that are to be written then, each by one copy at a time.

        Raises:
            PushError: one of them could not be brought; nothing is led or waited for any more.
        """
        if not blobs and not manifests:
            return
        registry = self._place.registry
        if not self._target.can_mount and await self._leads.can_mount(registry):
            await self._leads.cannot_mount(registry)
        self._taken.update(blobs)
        self._manifests.update(manifests)
        names = {self._place.manifest(digest): digest for digest in manifests}
        try:
            found = await self._leads.take(self._place, self._holder, [*blobs, *names])
            self._theirs.update(
                digest for name, digest in names.items() if found[name].where is Where.WAIT
            )
            self._begin([(_Blob(blob), found[digest]) for digest, blob in blobs.items()])
            while self._working or self._waiting:
                for task in await self._done():
                    further = task.result()
                    self._working.discard(task)
                    self._waiting.discard(task)
                    self._begin(further)
        except BaseException:
            await self.give_up()
            raise

    async def give_up(self) -> None:
        """End all that runs, is led or is waited for."""
        tasks = [*self._working, *self._waiting]
        for task in tasks:
            task.cancel()
        try:
            # Others need not wait until the cancelled requests are closed.
            names = map(self._place.manifest, self._manifests)
            await self._leads.give_up(self._place, self._holder, [*self._taken, *names])
        finally:
            self._working.clear()
            self._waiting.clear()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def turn(self) -> frozenset[str]:
        """Wait until no other copy writes the manifests; those that others wrote meanwhile.

        distribution 2.8 rewrites the link of a manifest with each write. Whoever reads the
        manifest in that moment, also to check an index, finds a link that is empty.
        """
        theirs, self._theirs = self._theirs, set()
        if not theirs:
            return frozenset()
        async with self._control.parked():
            await together(self._turn_of(digest) for digest in theirs)
        there = await together(self._is_written(digest) for digest in theirs)
        return frozenset(d for d, here in zip(theirs, there, strict=True) if here)

    async def _turn_of(self, digest: str) -> None:
        await self._leads.wait(self._place, self._holder, self._place.manifest(digest))

    async def _is_written(self, digest: str) -> bool:
        async with self._requests:
            head = await self._target.head(digest)
        return head is not None and head.complete

    async def end(self) -> None:
        """All manifests are written: others may write them, too."""
        later, self._later = self._later, set()
        manifests, self._manifests = self._manifests, set()
        names = [self._place.manifest(digest) for digest in manifests]
        if later:
            await self._leads.arrived(self._place, self._holder, later, ended=names)
        elif names:
            await self._leads.give_up(self._place, self._holder, names)

    async def written(self, manifests: Iterable[Manifest]) -> None:
        """These manifests are at the target: what they reference can be mounted from it."""
        if not self._target.mounts_need_manifest:
            return
        named = {blob.digest for one in manifests for blob in (*one.blobs, *one.foreign_layers)}
        arrived = self._later & named
        self._later -= arrived
        if arrived:
            await self._leads.arrived(self._place, self._holder, arrived)

    async def again(self, named: Collection[str] = ()) -> bool:
        """Look whether what was only believed to be there is, and bring it where it is not.

        ``named``: digests that the target said it lacks. Of these, what was mounted is uploaded
        even where a look finds it. From now on no hint is believed.

        Returns whether anything was brought.
        """
        self._doubts = True
        believed = list(self._believed)
        there = await together(self._is_there(self._taken[digest]) for digest in believed)
        lacking = [
            digest
            for digest, here in zip(believed, there, strict=True)
            if not here or (self._believed[digest] and digest in named)
        ]
        for digest in lacking:
            blob = self._taken[digest]
            mounted = self._believed.pop(digest)
            if mounted:
                self._not_mounted.add(digest)
            told = self._control.mounted if mounted else self._control.present
            told(-blob.size)
            self._later.discard(digest)
            await self._leads.forget(self._place, digest)
        await self.bring({digest: self._taken[digest] for digest in lacking})
        return bool(lacking)

    async def check(self) -> None:
        """See that blobs are there that were uploaded, and that manifests name by now.

        Raises:
            UploadLost: one is not, although the target took it.
        """
        lost = await self._target.lost()
        for digest in lost:
            self._later.discard(digest)
            await self._leads.forget(self._place, digest)
        if lost:
            raise UploadLost(
                f"{self._target}@{lost[0]}: the registry answered its upload with 201, took the "
                "manifest that names it, and does not have it"
            )

    def _begin(self, blobs: _Further) -> None:
        """Go on with blobs of which this is known."""
        elsewhere = []
        for blob, found in blobs:
            if found.where is Where.WAIT:
                self._waiting.add(asyncio.create_task(self._awaited(blob)))
            elif found.where is Where.ELSEWHERE and self._may_mount(blob):
                elsewhere.append((blob, found))
            else:
                self._working.add(asyncio.create_task(self._work(blob, found)))
        if elsewhere:
            self._working.add(asyncio.create_task(self._mounted(elsewhere)))

    def _may_mount(self, blob: _Blob) -> bool:
        return blob.mounts < MOUNTS_MOST and blob.what.digest not in self._not_mounted

    def _believes(self, found: Found) -> bool:
        """Whether a blob need not be asked for that is said to be here.

        It was brought or seen while this copy's job was there, and not long ago: then it was by
        the same work as this copy. What was there before may have been deleted, and a registry
        may take a manifest without its blobs (go-containerregistry's does).
        """
        fresh = found.written >= max(self._since, time.monotonic() - BELIEVED_S)
        return fresh and self._target.believes_hints and not self._doubts

    async def _awaited(self, blob: _Blob) -> _Further:
        """What is known of a blob when it need not be waited for any more."""
        return [(blob, await self._leads.wait(self._place, self._holder, blob.what.digest))]

    async def _done(self) -> set[asyncio.Task[_Further]]:
        """Some that are done; a slot is held only where something is worked on."""
        if self._working:
            tasks = {*self._working, *self._waiting}
            return (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0]
        waiting = set(self._waiting)
        async with self._control.parked():
            return (await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))[0]

    async def _work(self, blob: _Blob, found: Found) -> _Further:
        """Bring one blob that need not be mounted."""
        digest = blob.what.digest
        if found.where is Where.HERE:
            if not self._believes(found):
                if not await self._is_there(blob.what):
                    # It was there, and was deleted or damaged since.
                    await self._leads.forget(self._place, digest)
                    return [(blob, Found(Where.WAIT))]
                # The hint is as good as new: told with the end, in a call that is made anyway.
                self._later.add(digest)
            self._believed[digest] = False
            self._control.present(blob.what.size)
        else:
            await self._led(blob)
        self._ended()
        return []

    def _ended(self) -> None:
        self._control.blob_done()
        self._control.alive()

    async def _led(self, blob: _Blob) -> None:
        """Bring a blob that this copy leads."""
        digest = blob.what.digest
        looks = (not self._fresh or self._doubts) and digest not in self._not_mounted
        if looks and await self._is_there(blob.what):
            self._control.present(blob.what.size)
        else:
            async with self._room(blob.what.size):
                self._control.checkpoint()
                await self._target.write_blob(
                    blob.what, self._source, self._control.moved, opened=blob.opened
                )
        # Nothing is left to do but to write manifests: that this blob came is told with their
        # end, in one call.
        last = len(self._working) == 1 and not self._waiting and bool(self._manifests)
        if self._target.mounts_need_manifest or last:
            self._later.add(digest)
        else:
            await self._leads.arrived(self._place, self._holder, [digest])

    async def _mounted(self, blobs: _Further) -> _Further:
        """Mount blobs from where they are said to be; those that were refused go on otherwise."""
        left = {blob.what.digest: (blob, found.repository) for blob, found in blobs}
        refused: list[_Blob] = []
        while left:
            async with self._leads.mounting(self._place, left.keys()) as turn:
                mine = [left[digest] for digest in turn.mine]
                came = await together(self._mount(*one) for one in mine)
                for (blob, _), done in zip(mine, came, strict=True):
                    if not done:
                        refused.append(blob)
                    elif self._target.mounts_need_manifest:
                        # A hint now would send others here too early.
                        self._later.add(blob.what.digest)
                    else:
                        turn.mounted.add(blob.what.digest)
            for digest in turn.here | turn.mine:
                blob, _ = left.pop(digest)
                if blob in refused:
                    continue
                # What another copy mounted meanwhile is there, and is that copy's to count.
                self._believed[digest] = digest in turn.mine
                told = self._control.mounted if digest in turn.mine else self._control.present
                told(blob.what.size)
                self._ended()
        return [(blob, Found(Where.WAIT)) for blob in refused]

    async def _mount(self, blob: _Blob, repository: str) -> bool:
        """Mount one blob; where that is refused, the hint is dropped, or all hints are."""
        blob.mounts += 1
        try:
            async with self._requests:
                blob.opened = await self._target.mount(blob.what.digest, repository)
            if blob.opened is None:
                return True
        except _NO_MOUNT:
            blob.opened = None
        if self._target.can_mount:
            place = replace(self._place, repository=repository)
            await self._leads.forget(place, blob.what.digest)
        else:
            await self._leads.cannot_mount(self._place.registry)
        return False

    async def _is_there(self, blob: Descriptor) -> bool:
        async with self._requests:
            if self._target.believes_hints:
                head = await self._target.blob_head(blob.digest)
            else:
                # All of the blob may be read for that.
                head = await self._alive_while(self._target.blob_head(blob.digest))
        # One of another size is not all of it, whatever it is called.
        return head is not None and head.size in (None, blob.size)

    async def _alive_while(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of some work that is no stall, however long it takes."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=ALIVE_EVERY_S))[0]:
                self._control.alive()
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        return task.result()

    def _room(self, size: int) -> AbstractAsyncContextManager[None]:
        return self._requests if size <= SMALL else self._uploads
