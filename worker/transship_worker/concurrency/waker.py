"""Waking the worker's event loop from other threads, and counting who waits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass
class Parking:
    """How many copies wait without a slot; written by the background loop."""

    parked: int = 0


class Waker:
    """Wakes the worker's event loop from another thread or a signal handler."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def wake(self) -> None:
        """Make the loop turn once more, soon."""
        try:
            os.write(self._write, b".")
        except BlockingIOError:
            # The pipe is full of wake-ups that the loop has yet to see.
            return

    def listen(self, hub: Any) -> None:
        """Let a loop be woken by this."""
        hub.add_reader(self._read, self._drain)

    def _drain(self) -> None:
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return
