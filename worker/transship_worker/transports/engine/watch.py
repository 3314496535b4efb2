"""Whether the worker's Docker Engine answers, and what it is, known without asking it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from transship.errors import PushError
from transship.model.engines import EngineInfo
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.describe import describe

logger = logging.getLogger("transship.worker")

#: How often the engine is asked, and after how long without an answer it counts as hung.
#: Units: s.
EVERY_S, HUNG_S = 3.0, 6.0
#: How often it is asked what it is, besides each time when it comes back. Unit: s.
DESCRIBE_EVERY_S: Final = 300.0


class EngineWatch:
    """A thread that asks the engine again and again, so that nobody else waits for a hung one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._error: str | None = None
        self._asked_at: float | None = None
        self._info: EngineInfo | None = None
        self._describe_at = 0.0
        self._describing: threading.Thread | None = None
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

    @property
    def info(self) -> EngineInfo | None:
        """What the engine said of itself when it was last asked; ``None``: nothing yet."""
        return self._info

    def away(self, problem: str) -> None:
        """Somebody else found it away; that counts until it answers here."""
        self._error = problem

    def _run(self) -> None:
        while not self._ended.is_set():
            self._asked_at = time.monotonic()
            try:
                self._engine.ping()
                self._error = None
                self._begin_describing()
            except PushError as error:
                self._error = error.message
                # It may come back as another version.
                self._describe_at = 0.0
            self._asked_at = None
            self._ended.wait(EVERY_S)

    def _begin_describing(self) -> None:
        """Ask what it is, if that is due, in a thread of its own.

        A busy engine may take long to count its containers for ``GET /info``; it is not hung.
        """
        running = self._describing is not None and self._describing.is_alive()
        if running or time.monotonic() < self._describe_at:
            return
        self._describe_at = time.monotonic() + DESCRIBE_EVERY_S
        self._describing = threading.Thread(target=self._describe, name="engine-info", daemon=True)
        self._describing.start()

    def _describe(self) -> None:
        try:
            info = describe(self._engine)
        except PushError as error:
            # A proxy before the engine's socket may refuse it; pushes need not.
            logger.debug("engine %s does not say what it is: %s", self._engine.label, error)
            return
        if info != self._info:
            logger.info("engine %s is %s: %s", self._engine.label, info.title, info.support)
        self._info = info
