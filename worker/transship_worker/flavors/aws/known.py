"""Repositories that were there not long ago, so that a migration asks once for each."""

from __future__ import annotations

import threading
import time


class Known:
    """Names, each remembered for ``keep_s`` seconds. Safe to use from several threads."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def add(self, name: str) -> None:
        """It is there now."""
        now = time.monotonic()
        with self._lock:
            # Those added first end first.
            while self._until and next(iter(self._until.values())) < now:
                del self._until[next(iter(self._until))]
            self._until.pop(name, None)
            self._until[name] = now + self._keep_s

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return self._until.get(name, 0.0) > time.monotonic()

    def drop(self, name: str) -> None:
        """It is said not to be there."""
        with self._lock:
            self._until.pop(name, None)
