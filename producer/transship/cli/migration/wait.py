"""Waiting for a migration on the command line: progress, its end, and what ends the wait early."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from transship.cli import INTERRUPTED
from transship.cli.follow import PATIENCE_S, PAUSE_S
from transship.cli.migration.display import PRINT_EVERY_S, Display, JsonMigration, PlainMigration
from transship.cli.migration.text import ending, failure, image_warnings
from transship.cli.output import complain, say, warn
from transship.cli.terminal import terminal
from transship.errors import JobFailed, RedisUnreachable, WaitTimeout
from transship.formatting import duration
from transship.migrations import Migration
from transship.model.jobs import State
from transship.model.migration.record import MigrationRecord
from transship_config.errors import TransshipError

#: The least time between two looks, and between two objects that are printed. Unit: s.
EVERY_S: Final = 0.05


def display_for_migration() -> AbstractContextManager[Display]:
    """The display that fits standard error."""
    if terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        # Rich is loaded only for a person who looks on.
        from transship.cli.migration.bars import live_migration

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
    for warning in record.warnings + image_warnings(record):
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
                if record.state.final:
                    record = migration.with_image_warnings(record)
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
