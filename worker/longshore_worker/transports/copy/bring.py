"""All blobs of one image to the target: present, mounted, waited for or uploaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from longshore_config.errors import (
    BlobMissing,
    Denied,
    ImageNotFound,
    PushRejected,
    RepositoryMissing,
)
from longshore_worker.fleet.port import Found, Leads, Place, Where
from longshore_worker.oci.descriptors import Descriptor, Manifest
from longshore_worker.transports.copy.port import ContentSource, ContentTarget, CopyControl
from longshore_worker.transports.copy.together import together

#: Blobs of one image that are uploaded at once.
UPLOADS_AT_ONCE: Final = 4
#: Small requests of one image that run at once; also uploads of blobs that are no larger.
REQUESTS_AT_ONCE: Final = 16
SMALL: Final = 256 * 1024
#: Refused mounts of one blob after which it is uploaded, whoever else may bring it.
MOUNTS_MOST: Final = 3
#: What a registry says to a mount that this login or this registry cannot do.
_NO_MOUNT: Final = (BlobMissing, Denied, ImageNotFound, PushRejected, RepositoryMissing)


@dataclass(slots=True, eq=False)
class _Blob:
    """One blob on its way."""

    what: Descriptor
    #: An upload that a refused mount left open.
    opened: object | None = None
    mounts: int = 0


class Bringing:
    """Brings the blobs of one copy, and ends its leads."""

    def __init__(
        self,
        source: ContentSource,
        target: ContentTarget,
        leads: Leads,
        control: CopyControl,
        holder: str,
    ) -> None:
        self._source = source
        self._target = target
        self._leads = leads
        self._control = control
        self._holder = holder
        self._place = Place(target.registry, target.repository)
        self._requests = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._working: dict[asyncio.Task[Found | None], _Blob] = {}
        self._waiting: dict[asyncio.Task[Found | None], _Blob] = {}
        #: All that was taken, by digest.
        self._taken: dict[str, Descriptor] = {}
        #: Blobs that are said to be there; ``True``: by a mount.
        self._believed: dict[str, bool] = {}
        #: Blobs to be made known once a manifest references them.
        self._later: set[str] = set()

    async def bring(self, blobs: Mapping[str, Descriptor]) -> None:
        """Have all of these at the target. To be called again only for what was not there.

        Raises:
            PushError: one of them could not be brought; nothing is led or waited for any more.
        """
        if not blobs:
            return
        registry = self._place.registry
        if not self._target.can_mount and await self._leads.can_mount(registry):
            await self._leads.cannot_mount(registry)
        self._taken.update(blobs)
        try:
            found = await self._leads.take(self._place, self._holder, blobs)
            for digest, blob in blobs.items():
                self._begin(_Blob(blob), found[digest])
            while self._working or self._waiting:
                for task in await self._done():
                    tasks = self._working if task in self._working else self._waiting
                    further = task.result()
                    going = tasks.pop(task)
                    if further is not None:
                        self._begin(going, further)
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
            await self._leads.give_up(self._place, self._holder, self._taken)
        finally:
            self._working.clear()
            self._waiting.clear()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def written(self, manifests: Iterable[Manifest]) -> None:
        """These manifests are at the target: what they reference can be mounted from it."""
        named = {blob.digest for one in manifests for blob in one.blobs}
        arrived = self._later & named
        self._later -= arrived
        if arrived:
            await self._leads.arrived(self._place, self._holder, arrived)

    async def again(self) -> bool:
        """Look whether what was only believed to be there is, and bring it where it is not.

        Returns whether anything was brought.
        """
        believed = list(self._believed)
        there = await together(map(self._is_there, believed))
        lacking = [digest for digest, here in zip(believed, there, strict=True) if not here]
        for digest in lacking:
            blob = self._taken[digest]
            told = self._control.mounted if self._believed.pop(digest) else self._control.present
            told(-blob.size)
            await self._leads.forget(self._place, digest)
        await self.bring({digest: self._taken[digest] for digest in lacking})
        return bool(lacking)

    def _begin(self, blob: _Blob, found: Found) -> None:
        """Go on with a blob of which this is known."""
        if found.where is Where.WAIT:
            wait = self._leads.wait(self._place, self._holder, blob.what.digest)
            self._waiting[asyncio.ensure_future(wait)] = blob
        else:
            self._working[asyncio.create_task(self._work(blob, found))] = blob

    async def _done(self) -> set[asyncio.Task[Found | None]]:
        """Some that are done; a slot is held only where something is worked on."""
        if self._working:
            tasks = {*self._working, *self._waiting}
            return (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0]
        waiting = set(self._waiting)
        async with self._control.parked():
            return (await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))[0]

    async def _work(self, blob: _Blob, found: Found) -> Found | None:
        """Bring one blob; what is known of it now, or ``None`` where it is there."""
        digest, size = blob.what.digest, blob.what.size
        if found.where is Where.HERE:
            self._believed[digest] = False
            self._control.present(size)
        elif found.where is Where.ELSEWHERE and blob.mounts < MOUNTS_MOST:
            if not await self._mounted(blob, found.repository):
                return Found(Where.WAIT)
            self._believed[digest] = True
            self._later.add(digest)
            self._control.mounted(size)
        else:
            await self._led(blob)
        self._control.blob_done()
        self._control.alive()
        return None

    async def _led(self, blob: _Blob) -> None:
        """Bring a blob that this copy leads."""
        digest = blob.what.digest
        if await self._is_there(digest):
            self._control.present(blob.what.size)
        else:
            async with self._room(blob.what.size):
                self._control.checkpoint()
                await self._target.write_blob(
                    blob.what, self._source, self._control.moved, opened=blob.opened
                )
        if self._target.mounts_need_manifest:
            self._later.add(digest)
        else:
            await self._leads.arrived(self._place, self._holder, [digest])

    async def _mounted(self, blob: _Blob, repository: str) -> bool:
        """Mount a blob; where that is refused, the hint is dropped, or all hints are."""
        blob.mounts += 1
        digest = blob.what.digest
        try:
            async with (
                self._requests,
                self._leads.mounting(self._place, digest) as mounting,
            ):
                if mounting.here:
                    return True
                blob.opened = await self._target.mount(digest, repository)
                # Where a manifest is needed, the hint would send others here too early.
                mounted = blob.opened is None
                mounting.mounted = mounted and not self._target.mounts_need_manifest
            if mounted:
                return True
        except _NO_MOUNT:
            blob.opened = None
        if self._target.can_mount:
            await self._leads.forget(Place(self._place.registry, repository), digest)
        else:
            await self._leads.cannot_mount(self._place.registry)
        return False

    async def _is_there(self, digest: str) -> bool:
        async with self._requests:
            return await self._target.blob_head(digest) is not None

    def _room(self, size: int) -> AbstractAsyncContextManager[None]:
        return self._requests if size <= SMALL else self._uploads
