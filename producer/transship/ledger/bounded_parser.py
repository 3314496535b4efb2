"""Replies of Redis of which one value may be as long as anybody made it.

A producer may put a value of 512 MiB into a queue, and whoever takes it would have to hold it. The
parser here drops what is longer than any message while it comes, and goes on behind it.

Relied on of redis-py: ``_RESP3Parser`` and its ``_buffer``, ``SocketBuffer.read`` and what that
reads from (``_buffer``, ``_sock``).
"""

from __future__ import annotations

from typing import Any, Final

from redis._parsers.resp3 import _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.exceptions import ConnectionError as RedisConnectionError

#: The longest value that is read. Unit: bytes.
LONGEST_VALUE: Final = 1024 * 1024
#: What stands in place of a longer one.
DROPPED: Final = b"(a value that is too long was dropped)"
_END: Final = 2
_PIECE: Final = 64 * 1024


class _Buffer(SocketBuffer):
    def read(self, length: int, *args: Any, **options: Any) -> bytes:
        if length <= LONGEST_VALUE:
            found: bytes = super().read(length, *args, **options)
            return found
        left = length + _END
        left -= len(self._buffer.read(left))
        while left:
            piece = len(self._sock.recv(min(left, _PIECE)))
            if not piece:
                raise RedisConnectionError("Redis closed the connection within a value")
            left -= piece
        return DROPPED


class BoundedParser(_RESP3Parser):
    """The parser of redis-py, with a bound on each value."""

    def on_connect(self, connection: Any) -> None:
        """Begin to read from a connection."""
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._buffer = _Buffer(connection._sock, self.socket_read_size, connection.socket_timeout)
