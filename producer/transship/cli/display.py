"""How a wait is shown: plain lines or nothing; live bars are in ``bars``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

import click

from transship.cli.follow import Display
from transship.cli.job_text import event_text, introduction, progress_text, took
from transship.cli.terminal import terminal
from transship.formatting import clean
from transship.model.jobs import State
from transship.model.records import JobEvent, JobRecord, Progress

#: The least time between two lines of progress. Unit: s.
PROGRESS_EVERY_S = 10.0
#: After this long without a line, one says that the wait goes on: many CI systems end a job
#: that says nothing for some minutes. Unit: s.
STILL_EVERY_S = 120.0


class SilentDisplay:
    """Shows nothing (``-q``)."""

    def changed(self, _index: int, _event: JobEvent, /) -> None:
        """Nothing."""

    def ended(self, _index: int, _record: JobRecord, /) -> None:
        """Nothing."""

    def note(self, _text: str, /) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""


class PlainDisplay:
    """A line for each change of state, and at most one line of progress in ten seconds."""

    def __init__(
        self,
        records: Sequence[JobRecord],
        *,
        write: Callable[[str], None] = lambda line: click.echo(line, err=True),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._titles = [record.image for record in records]
        self._write = write
        self._clock = clock
        self._states: dict[int, State] = {}
        self._running: dict[int, JobEvent] = {}
        self._ended = 0
        self._last_line = clock()
        for index, record in enumerate(records):
            self._line(index, introduction(record))

    def changed(self, index: int, event: JobEvent) -> None:
        """Write a change of state; remember progress for the next line of it."""
        if event.state is State.RUNNING:
            self._running[index] = event
        else:
            self._running.pop(index, None)
        if event.kind == "note":
            self._line(index, event_text(event), event.at)
        elif event.kind == "state":
            self._states[index] = event.state
            # How it ended is the result, which stands on its own.
            self._line(index, event.state if event.state.final else event_text(event), event.at)
        else:
            self.tick()

    def ended(self, index: int, record: JobRecord) -> None:
        """Write the end unless its event was there; a job that never started has none."""
        self._ended += 1
        self._running.pop(index, None)
        if self._states.get(index) is not record.state:
            self._line(index, f"{record.state} {took(record)}".rstrip())

    def note(self, text: str) -> None:
        """Write it."""
        self._write(f"{datetime.now().astimezone():%H:%M:%S} {clean(text)}")

    def tick(self) -> None:
        """Write a line of progress when the last line is long enough ago."""
        quiet = self._clock() - self._last_line
        if quiet >= (PROGRESS_EVERY_S if self._running else STILL_EVERY_S):
            self._progress()

    def _progress(self) -> None:
        if len(self._titles) == 1:
            event = self._running.get(0)
            state = self._states.get(0, State.QUEUED)
            self._line(0, _doing(event) if event else f"still {state}")
            return
        total = sum((e.progress.bytes_total for e in self._running.values() if e.progress), 0)
        done = sum((e.progress.bytes_done for e in self._running.values() if e.progress), 0)
        words = f"{self._ended} of {len(self._titles)} done, {len(self._running)} running"
        sizes = progress_text(Progress(bytes_done=done, bytes_total=total))
        self._last_line = self._clock()
        self.note(f"{words}: {sizes}" if sizes else words)

    def _line(self, index: int, text: str, at: datetime | None = None) -> None:
        self._last_line = self._clock()
        moment = (at or datetime.now().astimezone()).astimezone()
        self._write(f"{moment:%H:%M:%S} {clean(self._titles[index])} {clean(text)}")


def _doing(event: JobEvent) -> str:
    doing = event.step.text if event.step else str(event.state)
    words = [doing, progress_text(event.progress or Progress())]
    return " ".join(word for word in words if word)


def display_for(
    records: Sequence[JobRecord], *, quiet: bool
) -> AbstractContextManager[tuple[Display, bool]]:
    """The display that fits standard error, and whether it is a live one."""
    if quiet:
        return nullcontext((SilentDisplay(), False))
    if terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        # Rich is loaded only for a person who looks on.
        from transship.cli.bars import live_display

        return live_display(records)
    return nullcontext((PlainDisplay(records), False))
