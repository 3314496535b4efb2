"""Bounds on what a server sends around the bodies of its answers.

aiohttp bounds each line and the number of header fields: that is 1 MiB for each head, which stays
in memory for as long as the answer's body, and as much for its trailers. It bounds neither the
number of informational (1xx) answers nor that of answers to requests that nobody sent, and parses
them faster than they are read. A connection that goes over a bound here is closed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import set_exception
from aiohttp.http_exceptions import HttpProcessingError

#: All heads of one answer: its own, and those of the informational answers before it. Also what is
#: between two bytes of its body, or behind the last one: chunk extensions, trailers. Unit: bytes.
HEADS_LONGEST: Final = 64 * 1024
#: Informational answers before one answer.
INFORMATIONAL_MOST: Final = 32
#: So much is parsed at once until the answer's own head is complete, and of a body in chunks.
#: Unit: bytes.
_PIECE: Final = 8 * 1024
_CHUNKED_PIECE: Final = 64 * 1024
_SWITCHING_PROTOCOLS: Final = 101


class BoundedHandler(ResponseHandler):
    """The protocol of one connection to a server that may send anything."""

    _left = HEADS_LONGEST
    _informational = 0
    _answered = False
    _chunked = False

    def set_response_params(self, **params: Any) -> None:
        """Begin an exchange; ``params``: those of aiohttp."""
        self._left, self._informational = HEADS_LONGEST, 0
        self._answered = self._chunked = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Take what came; called by the event loop."""
        if not data:
            super().data_received(data)
        while data and self._exception is None:
            size = len(data)
            if not self._answered:
                size = _PIECE
            elif self._chunked:
                size = _CHUNKED_PIECE
            piece, data = data[:size], data[size:]
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        before = self._body()
        super().data_received(piece)
        if self._body() != before:
            # The head is complete, or some of the body came.
            self._left = HEADS_LONGEST if self._answered else self._left - len(piece)
        elif not self._reading_paused:
            # Else the parser holds it until the body is read.
            self._left -= len(piece)
        if self._left < 0 and self._exception is None:
            what = "a head" if not self._answered else "chunk extensions or trailers"
            self._refuse(f"{what} of more than {HEADS_LONGEST // 1024} KiB")

    def _body(self) -> tuple[int, int]:
        """Which body comes just now, and how much of it came."""
        return id(self._payload), self._payload.total_bytes if self._payload is not None else 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take the head of an answer, with its body to come; called by the parser's caller."""
        message = data[0]
        if self._exception is not None:
            return
        if self._answered:
            self._refuse("an answer without a request")
            return
        if 100 <= message.code < 200 and message.code != _SWITCHING_PROTOCOLS:
            self._informational += 1
            if self._informational > INFORMATIONAL_MOST:
                self._refuse(f"more than {INFORMATIONAL_MOST} informational (1xx) answers")
                return
        else:
            self._answered, self._chunked = True, message.chunked
        super().feed_data(data, size)

    def _refuse(self, what: str) -> None:
        self.set_exception(HttpProcessingError(code=0, message=what))
        if self._answered and self._payload is not None and not self._payload.is_eof():
            set_exception(self._payload, ClientPayloadError(what))
        if self.transport is not None:
            self.transport.abort()


def bound_heads(connector: aiohttp.BaseConnector) -> None:
    """Have all connections that a connector will make obey the bounds."""
    factory = partial(BoundedHandler, loop=connector._loop)
    connector._factory = cast("partial[ResponseHandler]", factory)
