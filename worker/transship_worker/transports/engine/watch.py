"""Whether the worker's Docker Engine answers, known without asking it."""

from __future__ import annotations

import threading
import time

from transship.errors import PushError
from transship_worker.transports.engine.client import Engine

#: How often the engine is asked, and after how long without an answer it counts as hung.
#: Units: s.
EVERY_S, HUNG_S = 3.0, 6.0


class EngineWatch:
    """A thread that asks the engine again and again, so that nobody else waits for a hung one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._error: str | None = None
        self._asked_at: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Stop asking. A question that hangs is left behind; it holds nothing."""
        self._ended.set()

    @property
    def problem(self) -> str | None:
        """Why no push can go through the engine now; ``None``: it answered just now."""
        asked_at = self._asked_at
        if asked_at is not None and (silent := time.monotonic() - asked_at) > HUNG_S:
            return f"engine {self._engine.label} has not answered for {silent:.0f} s"
        return self._error

    def away(self, problem: str) -> None:
        """Somebody else found it away; that counts until it answers here."""
        self._error = problem

    def _run(self) -> None:
        while not self._ended.is_set():
            self._asked_at = time.monotonic()
            try:
                self._engine.ping()
                self._error = None
            except PushError as error:
                self._error = error.message
            self._asked_at = None
            self._ended.wait(EVERY_S)
