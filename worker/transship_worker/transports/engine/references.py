"""One job at a time for a reference of an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

#: Between two looks at whether a job that waits for another may go on. Unit: s.
_PATIENCE_S: Final = 0.2


class References:
    """References that are in use. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def exclusive(self, key: str, wait: Callable[[], None]) -> Iterator[None]:
        """Run the block once no other block of this reference runs; until then call ``wait``."""
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            while not lock.acquire(timeout=_PATIENCE_S):
                wait()
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._lock:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1
