"""One blob on its way from a source into a file: hashed, counted, resumed after a break."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from transship.errors import DigestMismatch, RegistryUnavailable, RegistryUnreachable
from transship_worker.concurrency.threads import in_thread
from transship_worker.layouts.folder import told, translate
from transship_worker.layouts.stored import PIECE
from transship_worker.layouts.writing import Part
from transship_worker.oci import digests
from transship_worker.oci.descriptors import Descriptor

if TYPE_CHECKING:
    from transship_worker.oci.content import ContentSource, Moved

#: How often a source is asked for one blob before its last error counts.
TRIES: Final = 4
#: Pause before the second time, doubled for each further one. Unit: s.
FIRST_PAUSE_S: Final = 0.25


class Inflow:
    """Fills a part with a blob."""

    def __init__(self, blob: Descriptor, what: str, part: Part, moved: Moved) -> None:
        """``what`` names the blob in messages."""
        self._blob = blob
        self._what = what
        self._part = part
        self._moved = moved
        self._hash = digests.new_hash(blob.digest)
        #: Bytes that came, those that wait in memory included. Unit: bytes.
        self._came = 0
        self._waiting = bytearray()
        #: The piece before, which is hashed and written while the next one comes.
        self._writing: asyncio.Task[None] | None = None
        #: Nobody knows how much of a piece was written: there is no going on.
        self._disk_failed = False

    async def run(self, source: ContentSource) -> None:
        """Read all of the blob, going on where the source broke.

        Raises:
            DigestMismatch: what came is not the blob.
            PushError: the source failed too often or for good, or the disk did.
        """
        try:
            await self._run(source)
        finally:
            if self._writing is not None:
                # Whoever closes the part must know that nothing uses it. Something else failed
                # already, which is told instead of what this comes to.
                await asyncio.gather(self._writing, return_exceptions=True)

    async def _run(self, source: ContentSource) -> None:
        etag: str | None = None
        for tried in range(1, TRIES + 1):
            resumed = self._came > 0
            try:
                etag = await self._once(source, etag)
                self._verify()
            except (RegistryUnavailable, RegistryUnreachable) as error:
                if self._disk_failed or tried == TRIES or error.retry_after_s is not None:
                    raise
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (tried - 1))
            except DigestMismatch:
                # The parts may be of two versions of what the source has.
                if tried == TRIES or not resumed:
                    raise
                await self._restart()
            else:
                return

    async def _once(self, source: ContentSource, etag: str | None) -> str | None:
        async with source.blob(self._blob.digest, offset=self._came, etag=etag) as reader:
            if reader.offset != self._came:
                await self._restart()
            if reader.offset != self._came:
                raise DigestMismatch(
                    f"{self._what}: its source gave another part than was asked for"
                )
            async for piece in reader.pieces():
                self._came += len(piece)
                if self._came > self._blob.size:
                    raise DigestMismatch(
                        f"{self._what}: {source} sends more than its {self._blob.size} bytes"
                    )
                self._waiting += piece
                self._moved(len(piece))
                if len(self._waiting) >= PIECE:
                    await self._flush()
            await self._flush()
            await self._written()
            return reader.etag

    async def _flush(self) -> None:
        await self._written()
        full, self._waiting = self._waiting, bytearray()
        self._writing = asyncio.create_task(in_thread(self._take, full))

    async def _written(self) -> None:
        """Return when the piece before is in the file."""
        if self._writing is not None:
            await self._writing
            self._writing = None

    def _take(self, data: bytearray) -> None:
        self._hash.update(data)
        try:
            self._part.write(data)
        except OSError as error:
            self._disk_failed = True
            raise translate(error, self._what) from error

    async def _restart(self) -> None:
        await self._written()
        self._moved(-self._came)
        self._came, self._waiting = 0, bytearray()
        self._hash = digests.new_hash(self._blob.digest)
        with told(self._what):
            await in_thread(self._part.restart)

    def _verify(self) -> None:
        if self._came < self._blob.size:
            raise DigestMismatch(f"{self._what}: {self._came} of its {self._blob.size} bytes came")
        digests.verify(self._hash, self._blob.digest, self._what)
