"""A layer's gzip stream, made of pieces that several threads compress at once.

Each piece is a run of deflate blocks that ends at a byte's border (RFC 1951, 3.2.4: an empty
stored block), so that the pieces one after the other are one stream, and one member of a gzip
file (RFC 1952), as every reader of layers knows it. The same layer always gives the same bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

try:
    # ISA-L: more than ten times as fast as zlib at its default level, for an eighth more bytes.
    from isal import isal_zlib

    _fast: Any = isal_zlib
except ImportError:
    _fast = None

#: Bytes of a layer that are compressed at once; larger pieces save nothing. Unit: bytes.
PIECE: Final = 1024 * 1024
#: ISA-L's third of four levels: the largest that still outruns the engine's export.
_LEVEL: Final = 2
#: zlib's fastest, where ISA-L is not installed.
_SLOW_LEVEL: Final = 1
#: No name and no time, so that equal layers become equal blobs (RFC 1952, 2.3).
_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
#: An empty last block.
_LAST: Final = b"\x03\x00"
#: Threads that compress, for all pushes of a process; the reading thread and the loop need room.
THREADS: Final = max(1, min(8, (os.cpu_count() or 1) - 1))


def is_fast() -> bool:
    """Whether the library is installed without which this way is no faster than the engine's."""
    return _fast is not None


class Squeezer:
    """Compresses one layer; used from one thread."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._sum = 0
        self._size = 0

    def head(self) -> bytes:
        """What the stream begins with."""
        return _HEAD

    def piece(self, data: bytes) -> Future[bytes]:
        """The next bytes of the layer, compressed in another thread."""
        self._sum = (_fast or zlib).crc32(data, self._sum)
        self._size += len(data)
        return self._pool.submit(_deflated, data)

    def tail(self) -> bytes:
        """What the stream ends with, once all pieces were taken."""
        return _LAST + struct.pack("<II", self._sum, self._size & 0xFFFFFFFF)


def _deflated(data: bytes) -> bytes:
    if _fast is not None:
        squeezer = _fast.compressobj(_LEVEL, wbits=-15)
        return bytes(squeezer.compress(data) + squeezer.flush(_fast.Z_SYNC_FLUSH))
    slow = zlib.compressobj(_SLOW_LEVEL, wbits=-15)
    return slow.compress(data) + slow.flush(zlib.Z_SYNC_FLUSH)
