"""Waiting for a migration on the command line: progress, its end, and what ends the wait early."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Final, Protocol

import click

from transship.cli import INTERRUPTED
from transship.cli.follow import PATIENCE_S, PAUSE_S
from transship.cli.migratewords import bytes_words, counts, ending, failure, trouble
from transship.cli.output import complain, say, say_json, warn
from transship.cli.show import PROGRESS_EVERY_S
from transship.cli.text import clean, duration, size, terminal
from transship.migrations import Migration
from transship_config.errors import JobFailed, RedisUnreachable, TransshipError, WaitTimeout
from transship_config.job import State
from transship_config.migration.record import MigrationRecord

#: The least time between two looks, and between two objects that are printed. Unit: s.
EVERY_S: Final = 0.05
PRINT_EVERY_S: Final = 0.25
#: The time over which a rate is a mean. Unit: s.
RATE_OVER_S: Final = 30.0


class Display(Protocol):
    """Shows how a migration is doing."""

    def show(self, record: MigrationRecord, /) -> None:
        """It changed, or time passed."""

    def note(self, text: str, /) -> None:
        """Something that concerns the wait itself."""


class Pace:
    """How fast a migration goes, from what was seen of it in the last half minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, int, int]] = deque()

    def add(self, record: MigrationRecord) -> None:
        """Look at it once more."""
        now, sizes = self._clock(), record.bytes
        self._seen.append((now, sizes.moved, sizes.settled, record.images.finished))
        while len(self._seen) > 2 and self._seen[0][0] < now - RATE_OVER_S:
            self._seen.popleft()

    def _per_second(self, part: int) -> float:
        if len(self._seen) < 2:
            return 0.0
        first, last = self._seen[0], self._seen[-1]
        passed = last[0] - first[0]
        return max(0, last[part] - first[part]) / passed if passed > 0 else 0.0

    @property
    def rate(self) -> float:
        """Bytes that travel. Unit: bytes/s."""
        return self._per_second(1)

    def left(self, record: MigrationRecord) -> float | None:
        """How long the rest takes at this pace; ``None``: nobody knows. Unit: s."""
        if not record.planned or not record.images.unfinished:
            return None
        settled, ended = self._per_second(2), self._per_second(3)
        times = []
        if record.bytes.left and settled:
            times.append(record.bytes.left / settled)
        if ended:
            times.append(record.images.unfinished / ended)
        return max(times) if times else None

    def words(self, record: MigrationRecord) -> str:
        """``35.0 MB/s, 2m left``; empty while nothing moves."""
        words = [f"{size(int(self.rate))}/s"] if self.rate >= 1 else []
        left = self.left(record)
        if left is not None:
            words.append(f"{duration(left)} left")
        return ", ".join(words)


class PlainMigration:
    """A line for each change of state, and at most one line of progress in ten seconds."""

    def __init__(
        self,
        *,
        write: Callable[[str], None] = lambda line: click.echo(line, err=True),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self._pace = Pace(clock)
        self._state: State | None = None
        self._trouble = ""
        self._last_line = clock()

    def show(self, record: MigrationRecord) -> None:
        """Write what changed when it is time."""
        self._pace.add(record)
        now = self._clock()
        if record.state is not self._state:
            first, self._state = self._state is None, record.state
            self._last_line = now
            words = f"is migration {record.id}, {record.state}" if first else str(record.state)
            self.note(f"{record.name} {words}")
        # How it ended is told by whoever waited.
        wrong = trouble(record)
        if wrong not in {"", self._trouble} and not record.state.final:
            self._trouble = wrong
            self._last_line = now
            self.note(f"{record.name} {wrong}")
        elif now - self._last_line >= PROGRESS_EVERY_S and not record.state.final:
            self._last_line = now
            pace = self._pace.words(record)
            parts = [counts(record), bytes_words(record), pace]
            self.note(f"{record.name} {'; '.join(part for part in parts if part)}")

    def note(self, text: str) -> None:
        """Write it."""
        self._write(f"{datetime.now().astimezone():%H:%M:%S} {clean(text)}")


class JsonMigration:
    """The migration's object on stdout, whenever it is another one or only at its end."""

    def __init__(self, *, changes: bool) -> None:
        self._changes = changes
        self._last = ""

    def show(self, record: MigrationRecord) -> None:
        """Print it."""
        line = record.to_json()
        if line != self._last and (self._changes or record.state.final):
            self._last = line
            say_json(line)

    def note(self, text: str) -> None:
        """A line on stderr."""
        complain(text)


def display_for_migration() -> AbstractContextManager[Display]:
    """The display that fits standard error."""
    if terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        # Rich is loaded only for a person who looks on.
        from transship.cli.migratebars import live_migration

        return live_migration()
    return nullcontext(PlainMigration())


def wait_for_migration(
    migration: Migration,
    *,
    timeout: float | None,
    as_json: bool = False,
    changes: bool = False,
) -> int:
    """Follow a migration to its end and print how it ended; the exit status comes back.

    ``changes``: with ``as_json``, print the object each time it changes.

    Raises:
        RedisUnreachable: Redis stayed away; the migration goes on.
    """
    shown: AbstractContextManager[Display] = (
        nullcontext(JsonMigration(changes=changes)) if as_json else display_for_migration()
    )
    try:
        with shown as display:
            record = _follow(migration, display, timeout, PRINT_EVERY_S if changes else EVERY_S)
    except KeyboardInterrupt:
        _say_how_to_go_on(migration, "interrupted")
        return INTERRUPTED
    except WaitTimeout:
        _say_how_to_go_on(migration, f"still waiting after {duration(timeout or 0)}")
        return WaitTimeout.exit_status
    except TransshipError:
        _say_how_to_go_on(migration, "the wait ended early")
        raise
    for warning in record.warnings:
        warn(warning)
    for text in record.failures:
        complain(f"not planned: {text}")
    if record.state is State.SUCCEEDED:
        if not as_json:
            say(ending(record))
        return 0
    complain(failure(record))
    return JobFailed.exit_status


def _follow(
    migration: Migration, display: Display, timeout: float | None, every: float
) -> MigrationRecord:
    """Show every change; the final record comes back. A restart of Redis is waited for."""
    end = None if timeout is None else time.monotonic() + timeout
    record: MigrationRecord | None = None
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        try:
            for record in migration.events(timeout=left, every=every, unchanged=True):
                display.show(record)
            return record or migration.record()
        except RedisUnreachable as error:
            _await_redis(migration, display, end, error)


def _await_redis(
    migration: Migration, display: Display, end: float | None, error: RedisUnreachable
) -> None:
    """Return once Redis answers again."""
    display.note(f"{error.message}; still trying")
    give_up = time.monotonic() + PATIENCE_S
    while True:
        time.sleep(PAUSE_S)
        try:
            migration.record()
        except RedisUnreachable:
            now = time.monotonic()
            if end is not None and now > end:
                raise WaitTimeout(f"migration {migration.id} cannot be read") from error
            if now > give_up:
                raise
        else:
            return


def _say_how_to_go_on(migration: Migration, why: str) -> None:
    """Ending a wait ends no migration; say so, and how it is reached."""
    found = migration.id
    complain(
        f"{why}; migration {found} goes on\nwatch it: transship watch {found}\n"
        f"stop it: transship cancel {found}"
    )
