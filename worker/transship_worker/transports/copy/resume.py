"""The bytes of one blob from a source, in order and hashed, over breaks on either side."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.errors import DigestMismatch, PushError, RegistryUnavailable, RegistryUnreachable
from transship_worker.oci import digests
from transship_worker.oci.content import BlobReader, ContentSource
from transship_worker.oci.descriptors import Descriptor

if TYPE_CHECKING:
    from hashlib import _Hash

#: Breaks of the source that are gone over for one blob.
BREAKS_MOST: Final = 8
#: Between a break and the next request: doubled each time, half of it by chance. Unit: s.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 5.0
#: How far apart the places are from which a hash can go on. Unit: bytes.
MARK_EVERY: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Mark:
    """The hash of all bytes before an offset."""

    offset: int
    hash: _Hash


def passes(error: PushError) -> bool:
    """Whether the same request may succeed at once: not where the registry named a time."""
    broke = isinstance(error, RegistryUnavailable | RegistryUnreachable)
    return broke and error.retry_after_s is None


async def pause(tried: int) -> None:
    """Wait after the break of this number, from 1 on."""
    longest = min(PAUSE_LEAST_S * 2 ** (tried - 1), PAUSE_MOST_S)
    await asyncio.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 - only spreads tries


class Resuming:
    """Reads a blob once; where the source breaks, it goes on from there.

    The last bytes are given only when the whole is known to be right, so that what is not
    the blob never becomes one at a target that is told a length.
    """

    def __init__(self, source: ContentSource, blob: Descriptor) -> None:
        self._source = source
        self._blob = blob
        self._hash = digests.new_hash(blob.digest)
        self._marks: list[_Mark] = []
        self._etag: str | None = None
        self._breaks = 0
        self._open: AsyncExitStack | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        #: Why it could not be opened ahead.
        self._early: PushError | None = None
        #: Bytes hashed so far. Unit: bytes.
        self._at = 0
        #: Bytes that were hashed and are still to be given, and where they begin.
        self._rest = b""
        #: Where the next byte that is given lies. Unit: bytes.
        self.offset = 0
        #: Whether the source failed for good.
        self.failed = False

    async def prepare(self) -> None:
        """Open the source; an error is one of the first byte's."""
        try:
            if self._pieces is None and self._blob.size > 0:
                await self._opened()
        except PushError as error:
            self._early = error

    async def pieces(self, length: int) -> AsyncIterator[bytes]:
        """The next ``length`` bytes, which are there.

        Raises:
            DigestMismatch: what the source gives is not the blob.
            PushError: the source failed too often, or for good.
        """
        end = self.offset + length
        while self.offset < end:
            piece = self._rest or await self._next()
            piece, self._rest = piece[: end - self.offset], piece[end - self.offset :]
            self.offset += len(piece)
            yield piece

    def check(self) -> None:
        """Return if a blob of no bytes is one.

        Raises:
            DigestMismatch: it is not.
        """
        self._verify()

    async def seek(self, offset: int) -> None:
        """Go on from another place, not behind the next byte."""
        await self.close()
        marks = [mark for mark in self._marks if mark.offset <= offset]
        self._marks = marks
        self._hash = marks[-1].hash.copy() if marks else digests.new_hash(self._blob.digest)
        self._at = marks[-1].offset if marks else 0
        self._rest = b""
        self.offset = self._at
        while self.offset < offset:
            piece = await self._next()
            self._rest = piece[offset - self.offset :]
            self.offset += len(piece) - len(self._rest)

    async def close(self) -> None:
        """Let the source go."""
        opened, self._open, self._pieces = self._open, None, None
        if opened is not None:
            await opened.aclose()

    async def _next(self) -> bytes:
        """The next bytes, never none; the last ones are given when the whole is right."""
        try:
            piece = await self._came()
            if self._at + len(piece) > self._blob.size:
                raise self._too_long()
            self._at += len(piece)
            self._hash.update(piece)
            if self._at == self._blob.size:
                await self._end()
        except PushError:
            self.failed = True
            raise
        if self._at - (self._marks[-1].offset if self._marks else 0) >= MARK_EVERY:
            self._marks.append(_Mark(self._at, self._hash.copy()))
        return piece

    async def _came(self) -> bytes:
        """The next piece, over breaks."""
        while True:
            try:
                return await self._read()
            except PushError as error:
                await self.close()
                self._breaks += 1
                if not passes(error) or self._breaks > BREAKS_MOST:
                    raise
                await pause(self._breaks)

    async def _read(self) -> bytes:
        """One piece, from a source that is opened where it is not."""
        early, self._early = self._early, None
        if early is not None:
            raise early
        pieces = self._pieces or await self._opened()
        async for piece in pieces:
            if piece:
                return piece
        raise DigestMismatch(f"{self} ended after {self._at} bytes, not {self._blob.size}")

    async def _opened(self) -> AsyncIterator[bytes]:
        opened = AsyncExitStack()
        reader: BlobReader = await opened.enter_async_context(
            self._source.blob(self._blob.digest, offset=self._at, etag=self._etag)
        )
        self._open = opened
        if reader.size is not None and reader.size != self._blob.size:
            raise DigestMismatch(f"{self} has {reader.size} bytes, not {self._blob.size}")
        self._etag = reader.etag
        self._pieces = reader.pieces()
        # A source without parts begins again.
        skip = self._at - reader.offset
        while skip > 0:
            piece = await anext(aiter(self._pieces), b"")
            if not piece:
                raise DigestMismatch(f"{self} ended before its byte {self._at}")
            if len(piece) > skip:
                self._pieces = _before(piece[skip:], self._pieces)
            skip -= len(piece)
        return self._pieces

    async def _end(self) -> None:
        """See that nothing comes after the last byte, and that the whole is the blob."""
        self._verify()
        pieces = self._pieces
        if pieces is not None:
            await self._nothing_more(pieces)
        await self.close()

    async def _nothing_more(self, pieces: AsyncIterator[bytes]) -> None:
        # A break does no harm now: all bytes are there.
        with suppress(RegistryUnavailable, RegistryUnreachable):
            async for piece in pieces:
                if piece:
                    raise self._too_long()

    def _too_long(self) -> DigestMismatch:
        return DigestMismatch(f"{self} has more than {self._blob.size} bytes")

    def _verify(self) -> None:
        digests.verify(self._hash, self._blob.digest, str(self))

    def __str__(self) -> str:
        return f"{self._source}@{self._blob.digest}"


async def _before(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
