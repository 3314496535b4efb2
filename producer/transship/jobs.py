"""The handle of a submitted job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from transship.errors import JobFailed, WaitTimeout
from transship.ledger.submit import Ledger
from transship.model.jobs import JobId, State
from transship.model.records import JobEvent, JobRecord
from transship_config.errors import UsageError

if TYPE_CHECKING:
    from transship.model.requests import Request

#: How long one blocking read for changes lasts; progress is looked at in between. Unit: ms.
BLOCK_MS = 500


class PushFailed(JobFailed):
    """A waited job ended as failed or cancelled; ``record`` says all that is known of it."""

    def __init__(self, record: JobRecord) -> None:
        error = record.error
        text = error.message if error else ""
        if error and error.code != record.state:
            text = f"{error.code}: {error.message}"
        super().__init__(f"job {record.id} {record.state}: {text}".removesuffix(": "))
        self.record = record

    def __reduce__(self) -> tuple[type[PushFailed], tuple[JobRecord]]:
        """Pickle with the record."""
        return (type(self), (self.record,))


class Job:
    """One job: read it, wait for it, follow it, cancel it, retry it."""

    def __init__(
        self,
        ledger: Ledger,
        ring: Callable[[JobId, Request], None],
        job_id: JobId,
        *,
        deduplicated: bool = False,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._ledger = ledger
        self._ring = ring
        #: The job's name, for ``Client.job`` and the command line.
        self.id = job_id
        #: The submit found an equal job that was still queued, and this is it.
        self.deduplicated = deduplicated
        #: What a person should know about the submit, for example that no worker is alive.
        self.warnings = warnings

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def record(self) -> JobRecord:
        """What the ledger says of the job now.

        Raises:
            UnknownJob: its retention ended.
        """
        record = self._ledger.record(self.id)
        return record.model_copy(update={"deduplicated": self.deduplicated})

    def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait until the job succeeded; ``timeout`` in seconds, ``None``: for ever.

        Raises:
            JobFailed: it failed or was cancelled; ``.record`` holds it with its error.
            WaitTimeout: the time is over; the job goes on.
        """
        for _ in self.events(timeout=timeout, progress=False):
            pass
        record = self.record()
        if record.state is not State.SUCCEEDED:
            raise PushFailed(record)
        return record

    def events(self, *, timeout: float | None = None, progress: bool = True) -> Iterator[JobEvent]:
        """Every change from the first one on, until the job is final.

        With ``progress`` also events of kind ``progress``, about two a second while it moves.

        Raises:
            WaitTimeout: ``timeout`` seconds are over; the job goes on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        last, shown = "0", None
        while True:
            record = self.record()
            fresh = self._ledger.events(self.id, last, self._block_ms(record, end))
            for event in fresh:
                last = event.id
                yield event
            if record.state.final and not fresh:
                return
            moved = record.state is State.RUNNING and record.progress != shown
            if progress and moved and not fresh:
                shown = record.progress
                yield _progress_event(record)
            if end is not None and time.monotonic() >= end and not record.state.final:
                raise WaitTimeout(
                    f"job {self.id} is still {record.state} after {timeout:g} s; it goes on"
                )

    @staticmethod
    def _block_ms(record: JobRecord, end: float | None) -> int:
        if record.state.final:
            return 1
        if end is None:
            return BLOCK_MS
        return max(1, min(BLOCK_MS, int((end - time.monotonic()) * 1000)))

    def cancel(self) -> JobRecord:
        """Ask for the job to be cancelled; one that no worker claimed is cancelled at once.

        Raises:
            NotYours: another account submitted it.
            UsageError: it is final already.
        """
        record = self.record()
        if record.state.final:
            raise UsageError(f"job {self.id} already {record.state}; nothing to cancel")
        self._ring(self.id, self._ledger.cancel(self.id))
        return self.record()

    def retry(self) -> JobRecord:
        """Try a failed or cancelled job again: same id, same history, a new count of attempts.

        Raises:
            NotYours: another account submitted it.
            UsageError: it is not final, or it succeeded.
        """
        record = self.record()
        if record.state not in {State.FAILED, State.CANCELLED}:
            raise UsageError(
                f"job {self.id} is {record.state}; only a failed or cancelled job can be retried"
            )
        self._ring(self.id, self._ledger.retry(self.id))
        return self.record()


def _progress_event(record: JobRecord) -> JobEvent:
    return JobEvent(
        kind="progress",
        at=datetime.now(UTC),
        state=record.state,
        step=record.step,
        progress=record.progress,
        attempt=record.attempts,
        worker=record.worker,
    )
