"""How the wait for a migration is shown: plain lines, JSON, and its pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import click

from transship.cli.display import PROGRESS_EVERY_S
from transship.cli.migration.text import bytes_words, counts, trouble
from transship.cli.output import complain, say_json
from transship.formatting import clean, duration, size
from transship.model.jobs import State
from transship.model.migration.record import MigrationRecord

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
