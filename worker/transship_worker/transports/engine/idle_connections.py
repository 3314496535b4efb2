"""Lines to the Docker Engine that short questions share.

To open one takes longer than most answers.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from transship_worker.transports.engine.connection import Line

#: Lines that are kept open while nobody asks, and for how long: what lies between may forget a
#: connection without a word. Unit: s.
MOST_IDLE: Final = 8
IDLE_S: Final = 20.0


class Question:
    """Cuts a line as long as its question lasts, and not when it is another's already."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._over = False
        self._whole = True

    def cut(self) -> None:
        """End it at once; from any thread."""
        with self._lock:
            if not self._over:
                self._whole = False
                self._line.cut()

    def end(self) -> bool:
        """It is answered; whether it was not cut before."""
        with self._lock:
            self._over = True
        return self._whole


class IdleLines:
    """Lines that nobody uses. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[tuple[Line, float]] = []

    def take(self) -> Line | None:
        """The line that was used last, if it is not too old."""
        with self._lock:
            line, since = self._lines.pop() if self._lines else (None, 0.0)
        if line is not None and time.monotonic() > since + IDLE_S:
            line.hang_up()
            # The others wait even longer.
            self.close()
            return None
        return line

    def keep(self, line: Line) -> bool:
        """Keep a line for whoever asks next; whether there was room."""
        with self._lock:
            if room := len(self._lines) < MOST_IDLE:
                self._lines.append((line, time.monotonic()))
        return room

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            lines, self._lines = self._lines, []
        for line, _ in lines:
            line.hang_up()
