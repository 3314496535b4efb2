"""Bytes of a file by their offset: of a plain file, and of what a gzip file holds.

What is in a gzip file can only be read from its beginning on. So its first reading sets marks,
each with the state of the decompression at an offset, from which later readings go on. Nothing is
unpacked to a disk. Format: RFC 1952; a file may have several members, one after another.
"""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from transship.errors import AnswerMalformed, NotAllowed

if TYPE_CHECKING:
    from zlib import _Decompress

#: How a gzip file begins.
GZIP: Final = b"\x1f\x8b"
#: The most that is read out of one gzip file. Unit: bytes.
UNPACKED_MOST: Final = 32 * 1024**3
#: Beyond ``RATIO_FROM`` bytes, how much larger content may be than the file that holds it.
RATIO_MOST: Final = 200
RATIO_FROM: Final = 1024**3
#: Marks of one file, and how far apart the first ones are; where there would be more, they are
#: twice as far apart. A mark is some 45 kB of memory. Unit of the distance: bytes.
MARKS_MOST: Final = 32
MARK_EVERY: Final = 16 * 1024**2
#: The most that is given at once. Unit: bytes.
_PIECE: Final = 1024 * 1024
#: Read at once from the file; a mark keeps some of it. Unit: bytes.
_INPUT: Final = 16 * 1024
#: zlib's ``wbits`` for a gzip header with any window.
_WBITS: Final = 31


class ByteSource(Protocol):
    """Something whose bytes are read by their offset. Blocks."""

    def read_at(self, size: int, offset: int) -> bytes:
        """At most ``size`` bytes from an offset on; none behind the end.

        Raises:
            OSError: the file cannot be read.
            AnswerMalformed, NotAllowed: it is damaged, or holds more than is read.
        """

    def reaches(self, offset: int) -> bool:
        """Whether there are so many bytes."""


@dataclass(frozen=True, slots=True)
class PlainFile:
    """An open file; implements ``ByteSource``."""

    fd: int

    def read_at(self, size: int, offset: int) -> bytes:
        """See ``ByteSource``."""
        return os.pread(self.fd, size, offset)

    def reaches(self, offset: int) -> bool:
        """See ``ByteSource``."""
        return offset <= os.fstat(self.fd).st_size


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a decompression can go on."""

    #: Of the content. Unit: bytes.
    offset: int
    #: Of the gzip file. Unit: bytes.
    consumed: int
    #: ``None``: a member of the file begins here.
    state: _Decompress | None


@dataclass(slots=True)
class Marks:
    """The marks of one gzip file, for all who read it. Safe between threads."""

    _marks: list[_Mark] = field(default_factory=lambda: [_Mark(0, 0, None)])
    _every: int = MARK_EVERY
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wants(self, offset: int) -> bool:
        """Whether a mark here is far enough behind the last one."""
        return offset >= self._marks[-1].offset + self._every

    def add(self, mark: _Mark) -> None:
        """Add a mark."""
        with self._lock:
            if not self.wants(mark.offset):
                return
            self._marks.append(mark)
            if len(self._marks) > MARKS_MOST:
                self._marks = self._marks[::2]
                self._every *= 2

    def before(self, offset: int) -> _Mark:
        """The last mark that is not behind an offset."""
        with self._lock:
            return self._marks[bisect_right(self._marks, offset, key=lambda one: one.offset) - 1]


class GzipFile:
    """The content of an open gzip file; implements ``ByteSource``. For one thread at a time."""

    def __init__(self, fd: int, what: str, marks: Marks) -> None:
        """``what`` names the file in messages."""
        self._fd = fd
        self._what = what
        self._marks = marks
        self._jump(marks.before(0))

    def read_at(self, size: int, offset: int) -> bytes:
        """See ``ByteSource``."""
        found = bytearray()
        if self._seek(offset):
            while len(found) < size:
                piece = self._next(min(size - len(found), _PIECE))
                if not piece:
                    break
                found += piece
        return bytes(found)

    def reaches(self, offset: int) -> bool:
        """See ``ByteSource``; reads up to there."""
        return self._seek(offset)

    def _jump(self, mark: _Mark) -> None:
        self._at = mark.offset
        #: Where the next byte is read from the file.
        self._position = mark.consumed
        #: Bytes that were read, and not decompressed.
        self._input = b""
        self._ended = False
        self._inflater = zlib.decompressobj(_WBITS) if mark.state is None else mark.state.copy()

    def _seek(self, offset: int) -> bool:
        """Go to an offset; whether there is one."""
        mark = self._marks.before(offset)
        if offset < self._at or mark.offset > self._at:
            self._jump(mark)
        while self._at < offset:
            if not self._next(min(offset - self._at, _PIECE)):
                return False
        return True

    def _next(self, most: int) -> bytes:
        """The next bytes, at most so many; none: it is the end."""
        while True:
            if self._inflater.eof and not self._next_member():
                return b""
            ended = not self._input and not self._read()
            try:
                piece = self._inflater.decompress(self._input, most)
            except zlib.error:
                raise AnswerMalformed(
                    f"{self._what} is damaged: its gzip data cannot be decompressed"
                ) from None
            self._input = self._inflater.unconsumed_tail
            if piece:
                self._advance(len(piece))
                return piece
            if ended and not self._inflater.eof:
                raise AnswerMalformed(f"{self._what} is cut off: its gzip data has no end")

    def _read(self) -> bool:
        self._input = os.pread(self._fd, _INPUT, self._position)
        self._position += len(self._input)
        return bool(self._input)

    def _next_member(self) -> bool:
        """Begin the next member of the file; whether there is one."""
        if self._ended:
            return False
        self._position -= len(self._inflater.unused_data)
        self._input = b""
        if os.pread(self._fd, len(GZIP), self._position) != GZIP:
            # What follows is no content, as the zeros that fill a tape's last block.
            self._ended = True
            return False
        self._inflater = zlib.decompressobj(_WBITS)
        return True

    def _advance(self, size: int) -> None:
        self._at += size
        consumed = self._position - len(self._input)
        if self._at > UNPACKED_MOST:
            raise NotAllowed(
                f"{self._what} holds more than {UNPACKED_MOST // 1024**3} GiB, which is not read "
                "out of a gzip file; unpack it once with gunzip"
            )
        if self._at > RATIO_FROM and self._at > RATIO_MOST * consumed:
            raise NotAllowed(
                f"{self._what} holds more than {RATIO_MOST} times the bytes of its file, as no "
                "image does; unpack it once with gunzip"
            )
        if self._marks.wants(self._at) and not self._inflater.eof:
            self._marks.add(_Mark(self._at, consumed, self._inflater.copy()))
