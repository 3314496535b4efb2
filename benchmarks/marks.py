"""When jobs that do nothing were done: the same few lines of code on all sides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.processes import PATIENCE_S

#: Between two looks. Unit: s.
_LOOK_S = 0.0005


class Marks:
    """A file with a line for each job: its name and the time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str) -> None:
        """Note that a job is at work now."""
        line = f"{name} {time.time_ns()}\n".encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            # One write, appended whole: several threads note at once.
            os.write(file, line)
        finally:
            os.close(file)

    def read(self) -> dict[str, int]:
        """When each job was at work. Unit: ns since the epoch."""
        if not self.path.exists():
            return {}
        whole, _, _ = self.path.read_text().rpartition("\n")
        pairs = (line.rpartition(" ") for line in whole.splitlines())
        return {name: int(at) for name, _, at in pairs}

    def size(self) -> int:
        """Unit: bytes; whether something was added is seen by it."""
        return self.path.stat().st_size if self.path.exists() else 0


def watch(look: Callable[[], bool], *, within: float = PATIENCE_S, every: float = _LOOK_S) -> None:
    """Look again and again, closely or every so many seconds, until it is true.

    Raises:
        TimeoutError: it did not come true.
    """
    end = time.monotonic() + within
    while not look():
        if time.monotonic() > end:
            raise TimeoutError(f"it did not happen within {within:.0f} s")
        time.sleep(every)
