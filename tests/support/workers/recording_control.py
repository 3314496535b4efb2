"""A JobControl for tests: it remembers what it was told, and stops the job on command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from transship.errors import PushCancelled, PushError
from transship.model.jobs import Step
from transship.model.records import Progress


class RecordingControl:
    """What a transport told, in order; ``stop`` ends the job as a worker would."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.seen: list[Progress] = []
        self.warnings: list[str] = []
        #: Why it was decided that the worker streams the image; empty: it was not.
        self.streams_since = ""
        self.alive_count = 0
        #: What is left of the lease. Unit: s.
        self.lease_s = 60.0
        #: Called at each checkpoint, before it lets the job on.
        self.at_checkpoint: Callable[[], None] = lambda: None
        #: Called with each step.
        self.at_step: Callable[[Step], None] = lambda step: None
        self._reason: PushError | None = None
        self._closers: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def last(self) -> Progress:
        """The newest progress."""
        return self.seen[-1] if self.seen else Progress()

    @property
    def last_progress(self) -> Progress:
        """As a worker's own control calls it."""
        return self.last

    def stop(self, reason: PushError | None = None) -> None:
        """Cancel the job (or end it for another reason), from any thread."""
        with self._lock:
            self._reason = reason or PushCancelled("cancelled by a test")
            closers, self._closers = self._closers, []
        for close in closers:
            close()

    def lease_left_s(self) -> float:
        return self.lease_s

    def step(self, step: Step) -> None:
        self.steps.append(step)
        self.at_step(step)

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)

    def alive(self) -> None:
        self.alive_count += 1

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @property
    def prefers_stream(self) -> bool:
        return bool(self.streams_since)

    def prefer_stream(self, reason: str) -> None:
        self.streams_since = reason

    def settled(self) -> None:
        self.checkpoint()

    def checkpoint(self) -> None:
        self.at_checkpoint()
        if self._reason is not None:
            raise self._reason

    @contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            stopped = self._reason is not None
            if not stopped:
                self._closers.append(close)
        if stopped:
            close()
        try:
            yield
        finally:
            with self._lock:
                if close in self._closers:
                    self._closers.remove(close)
