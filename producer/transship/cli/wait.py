"""Waiting for jobs on the command line: progress, results, and what ends it early."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from transship.cli import INTERRUPTED
from transship.cli.display import SilentDisplay, display_for
from transship.cli.follow import Display, Follower
from transship.cli.job_text import failure
from transship.cli.output import complain, say, say_json, warn
from transship.errors import JobFailed, RedisUnreachable, WaitTimeout
from transship.formatting import duration
from transship.jobs import Job
from transship.model.jobs import State
from transship.model.records import JobEvent, JobRecord
from transship_config.errors import TransshipError

#: Jobs that are named one by one when a wait ends before they do.
NAMED = 5


class Results:
    """Prints how jobs ended: what succeeded on stdout, what did not on stderr.

    In the order of the images, whichever ended first: a script must know which is which.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.quiet = quiet
        self.failed = False
        self._as_json = as_json
        self._last_object = ""
        self._kept: dict[int, JobRecord] = {}
        self._next = 0
        self._held = False

    def hold(self) -> None:
        """Keep results back until ``release``: a live display has the terminal."""
        self._held = True

    def release(self) -> None:
        """Print what was kept, also behind an image whose job did not end."""
        self._held = False
        for index in sorted(self._kept):
            self._print(self._kept.pop(index))

    def add(self, index: int, record: JobRecord) -> None:
        """A job ended; it is printed when those before it are."""
        self.failed = self.failed or record.state is not State.SUCCEEDED
        self._kept[index] = record
        while not self._held and self._next in self._kept:
            self._print(self._kept.pop(self._next))
            self._next += 1

    def _print(self, record: JobRecord) -> None:
        if self._as_json:
            self.object(record)
        elif record.state is State.SUCCEEDED:
            there = " (was there already)" if record.skipped and not self.quiet else ""
            say(f"{record.pinned or record.image}{there}")
        for warning in record.warnings:
            warn(f"{record.image}: {warning}")
        if record.state is not State.SUCCEEDED:
            complain(failure(record))

    def object(self, record: JobRecord) -> None:
        """The job's object, unless the line before is the same."""
        line = record.to_json()
        if line != self._last_object:
            self._last_object = line
            say_json(line)


class JsonDisplay(SilentDisplay):
    """The job's object on stdout whenever it is another one (``watch --json``)."""

    def __init__(self, job: Job, results: Results) -> None:
        self._job = job
        self._results = results

    def changed(self, _index: int, _event: JobEvent, /) -> None:
        """Print the record as it is now; what is replayed from the past adds nothing."""
        # Between two reads Redis may go away; the follower then says so and waits for it.
        with suppress(RedisUnreachable):
            self._results.object(self._job.record())


class _Both:
    """A display, and the results as they come."""

    def __init__(self, display: Display, results: Results) -> None:
        self.changed = display.changed
        self.note = display.note
        self.tick = display.tick
        self._display = display
        self._results = results

    def ended(self, index: int, record: JobRecord) -> None:
        """Show the end, then print the result."""
        self._display.ended(index, record)
        self._results.add(index, record)


def wait_for(
    jobs: Sequence[Job],
    results: Results,
    *,
    timeout: float | None,
    display: Display | None = None,
) -> int:
    """Follow jobs to their end and print the results; the exit status comes back.

    Without ``display`` the one that fits standard error is used.

    Raises:
        RedisUnreachable: Redis stayed away; the jobs go on.
    """
    follower = Follower(jobs)
    try:
        if display is not None:
            follower.run(_Both(display, results), timeout)
        else:
            records = [job.record() for job in jobs]
            with display_for(records, quiet=results.quiet) as (fitting, live):
                if live:
                    results.hold()
                follower.run(_Both(fitting, results), timeout)
    except KeyboardInterrupt:
        results.release()
        _say_how_to_go_on(follower.unfinished, "interrupted")
        return INTERRUPTED
    except TransshipError:
        results.release()
        _say_how_to_go_on(follower.unfinished, "the wait ended early")
        raise
    results.release()
    if follower.unfinished:
        _say_how_to_go_on(follower.unfinished, f"still waiting after {duration(timeout or 0)}")
    if results.failed:
        return JobFailed.exit_status
    return WaitTimeout.exit_status if follower.unfinished else 0


def _say_how_to_go_on(jobs: Sequence[Job], why: str) -> None:
    """Ending a wait ends no job; say so, and how each is reached."""
    if not jobs:
        complain(why)
        return
    if len(jobs) == 1:
        job = jobs[0].id
        lines = [f"{why}; job {job} goes on"]
        lines += [f"watch it: transship watch {job}", f"stop it: transship cancel {job}"]
    else:
        lines = [f"{why}; {len(jobs)} jobs go on: transship jobs"]
        lines += [f"transship watch {job.id} · transship cancel {job.id}" for job in jobs[:NAMED]]
    complain("\n".join(lines))
