"""Bodies of requests and answers: bounded in size, and in how long nothing moves."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
import aiohttp.payload
from aiohttp.abc import AbstractStreamWriter

from transship.errors import PushError
from transship_worker.oci.deadlines import Deadline, Deadlines
from transship_worker.oci.errors import ERROR_LIMIT, too_large

#: The longest silence within an answer, before its first byte, and while a body is taken. Unit: s.
SILENCE_S: Final = 60.0

#: Turns of the event loop that a piece waits for what arrived before it.
TURNS_MOST: Final = 8
#: How much of a body in memory is one piece. Unit: bytes.
_PIECE: Final = 64 * 1024

#: Makes a body anew each time it is called.
Stream = Callable[[], AsyncIterator[bytes]]


class NoRoom(Exception):
    """The process has no room for more of a body just now."""


async def read_bounded(
    response: aiohttp.ClientResponse,
    limit: int,
    taken: Callable[[int], bool] | None = None,
) -> bytes:
    """The body, if it has no more than ``limit`` bytes.

    ``taken`` hears of bytes as they come, and says whether there is room for them.

    Raises:
        NoRoom: there is not.
        AnswerMalformed: it has more.
        aiohttp.ClientError: it broke off.
    """
    if response.method == "HEAD":
        return b""
    if (response.content_length or 0) > limit:
        raise too_large(response.url, limit, "the answer")
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            raise too_large(response.url, limit, "the answer")
        if taken is not None and not taken(len(piece)):
            raise NoRoom("its manifests take more memory than one copy may have")
        pieces.append(piece)
    return b"".join(pieces)


def let_go(response: aiohttp.ClientResponse) -> None:
    """Leave the connection to the next request if the body was read to its end."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


async def read_error(response: aiohttp.ClientResponse) -> bytes:
    """The body of an error as far as it is read; it may be cut off, the status is certain."""
    pieces = bytearray()
    try:
        async with asyncio.timeout(SILENCE_S):
            while len(pieces) < ERROR_LIMIT:
                piece = await response.content.read(ERROR_LIMIT - len(pieces))
                if not piece:
                    break
                pieces += piece
    except (aiohttp.ClientError, OSError):
        response.close()
    return bytes(pieces)


class Once:
    """A body that is streamed, and knows whether it was opened and how it failed."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.opened = False
        self.failure: PushError | None = None

    async def __call__(self) -> AsyncIterator[bytes]:
        """The pieces, from the first on."""
        self.opened = True
        try:
            async for piece in self._stream():
                yield piece
        except PushError as error:
            self.failure = error
            raise


class StreamedBody(aiohttp.payload.AsyncIterablePayload):
    """A body that looks for an answer before each piece of it is written.

    A registry, or a proxy before it, may refuse a request while its body is still on the way, and
    then reset the connection. A write into such a connection closes it before the answer is read,
    and the refusal would look like a broken connection. So whatever has arrived is read first.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._transport: asyncio.BaseTransport | None = None
        super().__init__(self._after_what_arrived(pieces))

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write the pieces; called by the HTTP library."""
        self._transport = writer.transport
        await super().write_with_length(writer, content_length)

    async def _after_what_arrived(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            # One turn of the loop reads what the kernel has; TLS may need a second.
            for _ in range(TURNS_MOST):
                await asyncio.sleep(0)
                if not _has_input(self._transport):
                    break
            yield piece


def _has_input(transport: asyncio.BaseTransport | None) -> bool:
    """Whether bytes, an end or an error of the connection wait to be read."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    descriptor = sock.fileno() if sock is not None else -1
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body as a stream."""
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


async def timely(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The pieces of a body, each of which must come in time.

    What a server sends besides (chunk extensions, trailers) counts for the HTTP library as a sign
    of life, and is no piece.

    Raises:
        TimeoutError: one did not.
    """
    while not content.at_eof():
        # What has come needs no clock.
        piece = content.read_nowait()
        if not piece:
            async with asyncio.timeout(SILENCE_S):
                piece = await content.readany()
        if piece:
            yield piece


class Stall(Deadline):
    """A limit on how long a registry may take to accept a piece of a body, and then to answer.

    Waiting for a piece is the source's silence, which has a limit of its own. An answer may
    come before the body's end, and ends the watch. Its head must be complete by then: what the
    HTTP library reads before it (1xx answers, single header fields) is not the answer.
    """

    def __init__(self, deadlines: Deadlines, silence_s: float, connect_s: float) -> None:
        """``connect_s``: what the connection may take besides. Unit: s."""
        super().__init__(deadlines)
        self._silence_s = silence_s
        self._connect_s = connect_s

    async def watched(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces, each with the limit on its being taken."""
        async for piece in pieces:
            self.set(self._silence_s)
            yield piece
            self.set(None)
        self.set(self._silence_s)

    def wait_for_answer(self) -> None:
        """Nothing is sent but the head of the request: the answer is to come."""
        self.set(self._connect_s + self._silence_s)
