"""Following jobs to their end, any number at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transship.errors import RedisUnreachable, WaitTimeout
from transship.jobs import Job
from transship.model.records import JobEvent, JobRecord

#: Jobs that are read at the same time, a thread and a connection each. Others follow as these
#: end; their changes are kept in Redis, so none is missed.
AT_ONCE = 24
#: How long a wait goes on without Redis before it gives up. A restart takes seconds. Unit: s.
PATIENCE_S = 60.0
#: Pause between two looks for a Redis that went away. Unit: s.
PAUSE_S = 1.0
#: How often a display hears that time passes. Unit: s.
TICK_S = 0.5


class Display(Protocol):
    """Shows how followed jobs are doing; each is known by its place in the list."""

    def changed(self, index: int, event: JobEvent, /) -> None:
        """Something happened to a job."""

    def ended(self, index: int, record: JobRecord, /) -> None:
        """A job is final."""

    def note(self, text: str, /) -> None:
        """Something that concerns the wait itself."""

    def tick(self) -> None:
        """Time passed."""


@dataclass(frozen=True, slots=True)
class _Report:
    """What a reading thread found: exactly one of the parts but the index is set."""

    index: int
    event: JobEvent | None = None
    record: JobRecord | None = None
    note: str = ""
    late: bool = False
    error: Exception | None = None


class Follower:
    """Reads jobs in threads and tells a display of them in the caller's thread. Runs once.

    ``records`` holds the final record of each job that ended, by its place; after an
    interrupt, those that are missing go on.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self.records: dict[int, JobRecord] = {}
        self._inbox: queue.SimpleQueue[_Report] = queue.SimpleQueue()
        self._todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stop = threading.Event()
        #: Set while Redis does not answer, so that one thread says it and not all.
        self._away = threading.Event()

    @property
    def unfinished(self) -> list[Job]:
        """The jobs that go on."""
        return [job for index, job in enumerate(self.jobs) if index not in self.records]

    def run(self, display: Display, timeout: float | None = None) -> None:
        """Follow all jobs until they ended or ``timeout`` seconds are over.

        Raises:
            RedisUnreachable: Redis was away for longer than a restart takes.
        """
        end = None if timeout is None else time.monotonic() + timeout
        for index in range(len(self.jobs)):
            self._todo.put(index)
        for _ in range(min(AT_ONCE, len(self.jobs))):
            # Daemon threads: an interrupt need not wait for a blocking read.
            threading.Thread(target=self._read_jobs, args=(end,), daemon=True).start()
        try:
            self._listen(display)
        finally:
            self._stop.set()

    def _listen(self, display: Display) -> None:
        waiting = len(self.jobs)
        while waiting:
            try:
                report = self._inbox.get(timeout=TICK_S)
            except queue.Empty:
                display.tick()
                continue
            if report.error is not None:
                raise report.error
            if report.event is not None:
                display.changed(report.index, report.event)
            elif report.record is not None:
                self.records[report.index] = report.record
                display.ended(report.index, report.record)
            elif report.note:
                display.note(report.note)
            if report.record is not None or report.late:
                waiting -= 1

    def _read_jobs(self, end: float | None) -> None:
        while not self._stop.is_set():
            try:
                index = self._todo.get_nowait()
            except queue.Empty:
                return
            try:
                self._inbox.put(_Report(index, record=self._read(index, end)))
            except WaitTimeout:
                self._inbox.put(_Report(index, late=True))
            except Exception as error:  # noqa: BLE001
                # Whatever ends this thread is raised in the caller's instead.
                self._inbox.put(_Report(index, error=error))
                return

    def _read(self, index: int, end: float | None) -> JobRecord:
        """Tell every change of one job, and return how it ended."""
        job = self.jobs[index]
        told: set[str] = set()
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                for event in job.events(timeout=left):
                    # After a broken connection the stream is read from its start again.
                    if event.id and event.id in told:
                        continue
                    told.add(event.id)
                    self._inbox.put(_Report(index, event=event))
                return job.record()
            except RedisUnreachable as error:
                self._await_redis(index, end, error)

    def _await_redis(self, index: int, end: float | None, error: RedisUnreachable) -> None:
        """Return once Redis answers again."""
        if not self._away.is_set():
            self._away.set()
            self._inbox.put(_Report(index, note=f"{error.message}; still trying"))
        give_up = time.monotonic() + PATIENCE_S
        while not self._stop.wait(PAUSE_S):
            try:
                self.jobs[index].record()
            except RedisUnreachable:
                now = time.monotonic()
                if end is not None and now > end:
                    raise WaitTimeout(f"job {self.jobs[index].id} cannot be read") from error
                if now > give_up:
                    raise
            else:
                self._away.clear()
                return
        raise error
