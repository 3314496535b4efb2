"""The handle of a migration."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from transship.errors import JobFailed, WaitTimeout
from transship.ledger.migrations import MigrationLedger
from transship.ledger.submit import Ledger
from transship.model.jobs import JobId, State
from transship.model.migration.plan import MOST_UNREAD, PlanRow
from transship.model.migration.record import MigrationRecord
from transship.model.migration.request import Mode
from transship.model.records import JobRecord
from transship_config.errors import TransshipError, UsageError

if TYPE_CHECKING:
    from transship.model.requests import Request
    from transship.report import Report

#: How long no row of a plan is read before a wait for its end is called vain. Unit: s.
UNREAD_S: Final = 10.0
#: The shortest and the longest pause between two looks at a migration. It grows with the wait:
#: a short migration is seen to end at once, a long one costs little. Unit: s.
LEAST_PAUSE_S: Final = 0.005
MOST_PAUSE_S: Final = 0.5
_PAUSE_SHARE: Final = 0.02
#: Redis looks ten times a second whether a blocking read is over, so shorter pauses are slept.
#: Unit: s.
_SHORT_PAUSE_S: Final = 0.1
#: The longest question to Redis: a reply is waited for a little longer. Unit: s.
_BLOCK_MOST_S: Final = 4.0

Ring = Callable[[Sequence[tuple[JobId, "Request"]]], tuple[str, ...]]


class MigrationFailed(JobFailed):
    """A migration that ended as failed or cancelled; ``record`` says all that is known of it."""

    def __init__(self, record: MigrationRecord) -> None:
        error, images = record.error, record.images
        text = f"{error.code}: {error.message}" if error and error.code != record.state else ""
        if not text and images.failed:
            text = f"{images.failed} of {images.planned} images failed"
        super().__init__(f"migration {record.id} {record.state}: {text}".removesuffix(": "))
        self.record = record

    def __reduce__(self) -> tuple[type[MigrationFailed], tuple[MigrationRecord]]:
        """Pickle with the record."""
        return (type(self), (self.record,))


class Migration:
    """One migration: read it, wait for it, follow it, cancel it, retry what failed."""

    def __init__(
        self,
        ledger: MigrationLedger,
        jobs: Ledger,
        ring: Ring,
        migration_id: JobId,
        *,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._ring = ring
        #: The migration's name, for ``Client.migration`` and the command line.
        self.id = migration_id
        #: What a person should know about the submit, for example that no worker is alive.
        self.warnings = warnings

    def __repr__(self) -> str:
        return f"Migration({self.id!r})"

    def record(self) -> MigrationRecord:
        """What is known of the migration now.

        Raises:
            UnknownJob: its retention ended.
        """
        return self._ledger.record(self.id)

    def wait(self, timeout: float | None = None) -> MigrationRecord:
        """Wait until all images are there; ``timeout`` in seconds, ``None``: for ever.

        Of one that is only planned ``rows()`` are to be read instead: nobody plans on while many
        rows are unread.

        Raises:
            JobFailed: planning or an image failed, or it was cancelled; ``.record`` has it.
            UsageError: so many planned rows wait to be read that this would never end. They can
                still be read.
            WaitTimeout: the time is over; the migration goes on.
        """
        record, first, since = None, "", 0.0
        for record in self.events(timeout=timeout, unchanged=True):
            if record.mode is not Mode.PLAN or record.state.final:
                continue
            before, (unread, first) = first, self._ledger.unread_rows(self.id)
            if unread < MOST_UNREAD or first != before:
                # There is room, or somebody else reads them.
                since = time.monotonic()
            elif time.monotonic() > since + UNREAD_S:
                raise UsageError(
                    f"{MOST_UNREAD:,} rows of the plan {self.id} wait to be read, and no more are "
                    "planned until they are: iterate over rows() instead of wait()"
                )
        record = self.with_image_warnings(record or self.record())
        if record.state is not State.SUCCEEDED:
            raise MigrationFailed(record)
        return record

    def with_image_warnings(self, record: MigrationRecord) -> MigrationRecord:
        """The record with the warnings of its images, of which the first few are named.

        ``report`` has all of them.
        """
        return record.model_copy(update={"image_warnings": self._ledger.warned(self.id)})

    def events(
        self,
        *,
        timeout: float | None = None,
        every: float = LEAST_PAUSE_S,
        unchanged: bool = False,
    ) -> Iterator[MigrationRecord]:
        """The record now and each time that it is another one, until it is final.

        ``every``: the least time between two of them, in seconds. ``unchanged``: also a record
        that is the same as before, so that whoever shows it sees time pass.

        Raises:
            WaitTimeout: ``timeout`` seconds are over; the migration goes on.
        """
        start = time.monotonic()
        shown, last = None, "0"
        while True:
            record = self.record()
            if unchanged or record != shown:
                shown = record
                yield record
            if record.state.final:
                return
            passed = time.monotonic() - start
            if timeout is not None and passed >= timeout:
                raise WaitTimeout(
                    f"migration {self.id} is still {record.state} after {timeout:g} s; it goes on"
                )
            pause = max(every, min(MOST_PAUSE_S, passed * _PAUSE_SHARE))
            if timeout is not None:
                pause = min(pause, timeout - passed)
            last = self._pause(last, pause, every)

    def _pause(self, last: str, pause: float, every: float) -> str:
        """Wait, but not much longer than to the next change of the planning itself."""
        if pause < _SHORT_PAUSE_S:
            time.sleep(pause)
            return last
        began = time.monotonic()
        fresh = self._jobs.events(self.id, last, int(min(pause, _BLOCK_MOST_S) * 1000))
        left = every - (time.monotonic() - began)
        if left > 0:
            time.sleep(left)
        return fresh[-1].id if fresh else last

    def rows(
        self, *, waiting: Callable[[MigrationRecord], None] = lambda _: None
    ) -> Generator[PlanRow]:
        """The planned rows as they come, of a migration that was only to be planned.

        They are taken out of Redis: there is one reader. Whoever leaves off ends the planning.
        ``waiting`` gets the record again and again while no row is there.

        Raises:
            JobFailed: at the end: planning failed or was cancelled, and the rows so far are no
                whole plan; or, where the record is ``planned``, a part could not be planned.
        """
        seen: set[str] = set()
        began = time.monotonic()
        record = self.record()
        try:
            while True:
                rows = self._ledger.take_rows(self.id)
                if not rows:
                    record = self.record()
                    # What was written before it became final is still there.
                    rows = self._ledger.take_rows(self.id)
                if not rows and record.state.final:
                    break
                if not rows:
                    waiting(record)
                for row in rows or self._next_rows(time.monotonic() - began):
                    # A planner that died begins anew, and makes the same rows again.
                    if row.id not in seen:
                        seen.add(row.id)
                        yield row
        finally:
            if not record.state.final:
                with suppress(TransshipError):
                    self.cancel()
        if record.state is not State.SUCCEEDED:
            raise MigrationFailed(record)

    def _next_rows(self, passed: float) -> list[PlanRow]:
        """Wait a moment for a row; a short one at first, as its end is not told by a row."""
        pause = max(LEAST_PAUSE_S, min(MOST_PAUSE_S, passed * _PAUSE_SHARE))
        if pause < _SHORT_PAUSE_S:
            time.sleep(pause)
            return []
        return self._ledger.await_rows(self.id, pause)

    def jobs(self, *, state: State | None = None) -> Iterator[JobRecord]:
        """The jobs of its images in the order in which they were planned.

        Images that needed nothing have none.
        """
        for record in self._ledger.jobs(self.id):
            if state is None or record.state is state:
                yield record

    def report(self) -> Report:
        """All that is known of the migration and of each image; also while it runs."""
        from transship.report import Report

        return Report.of(self.record(), self.jobs())

    def cancel(self) -> MigrationRecord:
        """Ask for it to be cancelled: what runs is stopped, what waits does not start.

        Raises:
            NotYours: another account submitted it.
            UsageError: it is final already.
        """
        record = self.record()
        if record.state.final:
            raise UsageError(f"migration {self.id} already {record.state}; nothing to cancel")
        self._ring([(self.id, self._jobs.cancel(self.id))])
        return self.record()

    def retry(self) -> MigrationRecord:
        """Try what failed again: the planning, and each image that failed.

        Raises:
            NotYours: another account submitted it.
            UsageError: it was only to be planned, it was cancelled, or nothing failed.
        """
        record = self.record()
        if record.mode is Mode.PLAN:
            raise UsageError(
                f"migration {self.id} was only to be planned; plan its specification again"
            )
        if record.state is State.CANCELLED and record.images.planned:
            raise UsageError(
                f"migration {self.id} was cancelled; run its specification or plan again, which "
                "costs only the comparison of what is there"
            )
        asked: list[tuple[JobId, Request]] = []
        planning = self._ledger.planning(self.id)
        if planning is not None and planning.state in {State.FAILED, State.CANCELLED}:
            asked.append((self.id, self._jobs.retry(self.id)))
        failed = [JobId(job.id) for job in self.jobs(state=State.FAILED)]
        asked += self._jobs.retry_many(failed)
        if not asked and record.failures:
            raise UsageError(
                f"no image of migration {self.id} failed; what could not be planned is planned "
                "anew when its specification is run again"
            )
        if not asked:
            raise UsageError(
                f"migration {self.id} is {record.state} and nothing of it failed; nothing to retry"
            )
        self._ring(asked)
        return self.record()
