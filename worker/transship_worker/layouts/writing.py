"""Files of a layout as they are written: whole or not at all, also when the machine stops.

A file is written beside its place under another name, synced, and renamed. ``index.json`` is
changed under a lock that all writers of the layout on one host (and, where the file system
carries locks, on several) take: an exclusive ``flock`` of ``oci-layout``, which is never replaced.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from transship.errors import PushCancelled, RegistryUnavailable

#: Content of ``oci-layout`` (OCI image-spec, image-layout.md).
LAYOUT_FILE: Final = b'{"imageLayoutVersion":"1.0.0"}'
#: For how long another writer may hold the index. Unit: s.
LOCK_PATIENCE_S: Final = 30.0
#: Pause between two tries to get the lock. Unit: s.
LOCK_PAUSE_S: Final = 0.01
#: A part that nobody holds is left over once it is this old. Unit: s.
LEFT_OVER_S: Final = 3_600.0
_PREFIX: Final = ".transship-"
_SUFFIX: Final = ".part"


class Limit:
    """Until when, and whether at all, a write may still come to its end. Safe between threads."""

    def __init__(self, timeout_s: float | None) -> None:
        """``timeout_s``: from now on; ``None``: as long as it takes to get the lock."""
        patience = LOCK_PATIENCE_S if timeout_s is None else min(timeout_s, LOCK_PATIENCE_S)
        self._waits_until = time.monotonic() + patience
        self._ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        """It may not any more."""
        self._stopped.set()

    def check(self, what: str) -> None:
        """Return if it may.

        Raises:
            RegistryUnavailable: its time is over.
            PushCancelled: it was stopped.
        """
        if self._stopped.is_set():
            raise PushCancelled(f"{what} was given up")
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            raise RegistryUnavailable(f"{what} could not be written in time")

    def pause(self, what: str) -> None:
        """Wait a little for another writer.

        Raises:
            RegistryUnavailable: it took too long.
            PushCancelled: the wait was stopped.
        """
        if not self._stopped.wait(LOCK_PAUSE_S) and time.monotonic() > self._waits_until:
            raise RegistryUnavailable(f"{what}: another writer holds its layout for too long")
        self.check(what)


@contextmanager
def locked(directory: int, limit: Limit, what: str) -> Iterator[None]:
    """Alone with the index of a layout, which becomes one if it was none."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    lock = os.open("oci-layout", flags, 0o666, dir_fd=directory)
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            limit.pause(what)
        if os.fstat(lock).st_size == 0:
            os.write(lock, LAYOUT_FILE)
            os.fsync(lock)
        yield
    finally:
        os.close(lock)


class Part:
    """A file that is being written, under a name of its own in a directory."""

    def __init__(self, directory: int) -> None:
        """The part keeps the directory open by itself."""
        self._directory = os.dup(directory)
        self._name: str | None = f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._name, flags, 0o666, dir_fd=self._directory)
        except OSError:
            os.close(self._directory)
            raise
        with suppress(OSError):
            # Tells who cleans up that it has a writer.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def fd(self) -> int:
        """The open file, also once it is at its place."""
        return self._fd

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes."""
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.write(self._fd, view[done:])

    def restart(self) -> None:
        """Forget all bytes."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def finish(self, directory: int, name: str) -> None:
        """Put it to its place, which holds either all of it or what it held."""
        os.fsync(self._fd)
        if self._name is not None:
            os.rename(self._name, name, src_dir_fd=self._directory, dst_dir_fd=directory)
            self._name = None
        os.fsync(directory)

    def close(self) -> None:
        """Close it; what was not finished is removed."""
        if self._name is not None:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory)
            self._name = None
        os.close(self._fd)
        os.close(self._directory)


def write_file(directory: int, target: int, name: str, data: bytes) -> None:
    """Write a small file to ``target``, by way of ``directory`` on the same file system."""
    part = Part(directory)
    try:
        part.write(data)
        part.finish(target, name)
    finally:
        part.close()


def clear_left_overs(directory: int) -> None:
    """Remove old parts whose writers died."""
    for name in os.listdir(directory):
        if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
            continue
        with suppress(OSError):
            if time.time() - os.lstat(name, dir_fd=directory).st_mtime < LEFT_OVER_S:
                continue
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=directory)
            finally:
                os.close(fd)
