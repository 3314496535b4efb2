"""Which files of a layout were compared with their digests, so that none is read twice for that.

A blob that lies in a layout is content from outside: a disk that was full, a copy that was broken
off or a bad medium can have damaged it. A name that looks like a digest proves nothing.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Final

from transship_worker.oci import digests

#: How much is read at once. Unit: bytes.
PIECE: Final = 1024 * 1024
#: Files that are remembered, for the whole process.
FILES_KEPT: Final = 65_536
#: Files that are read at once, each by one thread: other threads wait for its result.
_READS_AT_ONCE: Final = 16


class VerifiedFiles:
    """Files whose content has their digest, for as long as they stay as they were.

    A file is known by its number, size and modification time. Not by the time of its last change,
    which each further hard link sets anew. Safe between threads.
    """

    def __init__(self, most: int = FILES_KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, int, int, int, int], None] = OrderedDict()
        self._reads = tuple(threading.Lock() for _ in range(_READS_AT_ONCE))

    def add(self, fd: int, digest: str) -> None:
        """Remember an open file whose bytes were hashed as they were written."""
        self._add(_key(fd, digest))

    def has(self, fd: int, digest: str) -> bool:
        """Whether an open file has the content of a digest; reads it once. Blocks."""
        key = _key(fd, digest)
        with self._reads[hash(key) % _READS_AT_ONCE]:
            with self._lock:
                if key in self._known:
                    self._known.move_to_end(key)
                    return True
            if _digest_of(fd, digest) != digest:
                return False
            self._add(key)
            return True

    def clear(self) -> None:
        """Forget all files."""
        with self._lock:
            self._known.clear()

    def _add(self, key: tuple[str, int, int, int, int]) -> None:
        with self._lock:
            self._known[key] = None
            while len(self._known) > self._most:
                self._known.popitem(last=False)


def _key(fd: int, digest: str) -> tuple[str, int, int, int, int]:
    stat = os.fstat(fd)
    return digest, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _digest_of(fd: int, digest: str) -> str:
    """The digest of an open file, by the algorithm of another digest."""
    found, at = digests.new_hash(digest), 0
    while piece := os.pread(fd, PIECE, at):
        found.update(piece)
        at += len(piece)
    return f"{digests.algorithm_of(digest)}:{found.hexdigest()}"


#: The files of all layouts of this process.
verified_files: Final = VerifiedFiles()
