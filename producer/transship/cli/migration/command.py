"""``transship migrate``: plan, run, list and report migrations."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from transship.cli import INTERRUPTED
from transship.cli.lazy import Entry, LazyGroup
from transship.cli.migration.text import (
    ending,
    format_of,
    migration_table,
    summary_lines,
    trouble,
)
from transship.cli.options import json_option, on_behalf_of_option, timeout_option
from transship.cli.output import complain, own_only, say, say_json, say_table, warn
from transship.client import Client
from transship.formatting import clean, clean_json
from transship.migrations import Migration, MigrationFailed
from transship.model.migration.record import MigrationRecord
from transship.report.render import FORMATS, Format, render
from transship.specification_files import PlanLines, SpecText, read_file, read_stream
from transship_config.errors import UsageError

_HERE = "transship.cli.migration.command"

COMMANDS = {
    "plan": Entry(f"{_HERE}:plan", "Say what a migration would do."),
    "run": Entry(f"{_HERE}:run", "Carry out a specification or a plan."),
    "list": Entry(f"{_HERE}:list_migrations", "List migrations, newest first."),
    "report": Entry(f"{_HERE}:report", "Say what became of a migration."),
}

migrate = LazyGroup(
    name="migrate",
    table=COMMANDS,
    help="Copy many images between registries.\n\n"
    "status, watch, cancel and retry of `transship` take a migration's id, too.",
)


@click.command
@click.argument("spec", metavar="SPEC")
@click.option(
    "-o", "out", metavar="PLAN", help="Write the rows to this file, which is whole or not there."
)
@on_behalf_of_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.pass_context
def plan(
    ctx: click.Context, spec: str, out: str | None, on_behalf_of: str | None, as_json: bool
) -> None:
    """Say what a migration would do.

    A worker reads both sides and writes nothing to the target. SPEC is a YAML or JSON file, or -
    for standard input. The plan is JSON lines, one row an image and target: it can be reviewed,
    cut and given to `transship migrate run`. It goes to standard output and the summary to
    standard error; with -o the summary goes to standard output. The exit status is 1 when a
    part could not be planned.
    """
    found = _read(spec)
    if isinstance(found, PlanLines):
        raise UsageError(f"{found.name} is a plan already; run it: transship migrate run {spec}")
    with Client() as client:
        migration = client.plan(found, on_behalf_of=on_behalf_of)
        for warning in migration.warnings:
            warn(warning)
        try:
            record = _write_rows(migration, out)
        except KeyboardInterrupt:
            complain("interrupted; the planning was cancelled, and the plan is not whole")
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            # What Python would still write at its end has nowhere to go, either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            complain("standard output was closed; the planning was cancelled")
            ctx.exit(1)
    lines = [clean_json(record.summary.model_dump_json())] if record.summary and as_json else []
    for line in lines or map(clean, summary_lines(record)):
        click.echo(line, err=out is None)
    for warning in record.warnings:
        warn(warning)
    for failure in record.failures:
        complain(failure)
    ctx.exit(1 if record.failures else 0)


def _write_rows(migration: Migration, out: str | None) -> MigrationRecord:
    """Write the rows as they come; the record of the planning that ended comes back.

    Raises:
        MigrationFailed: there is no whole plan; a file was not written.
    """
    told: set[str] = set()

    def waiting(record: MigrationRecord) -> None:
        wrong = trouble(record)
        if wrong and wrong not in told and not record.state.final:
            told.add(wrong)
            warn(f"{wrong}; the planning is tried again")

    with (
        _whole_file(out) if out else _stdout() as stream,
        closing(migration.rows(waiting=waiting)) as rows,
    ):
        try:
            for row in rows:
                stream.write(f"{row.to_json()}\n".encode())
        except MigrationFailed as error:
            # Where all that can be planned is planned, the rows are worth having.
            if not error.record.planned:
                raise
            return error.record
    return migration.record()


@contextmanager
def _stdout() -> Iterator[IO[bytes]]:
    stream = sys.stdout.buffer
    yield stream
    stream.flush()


@contextmanager
def _whole_file(name: str) -> Iterator[IO[bytes]]:
    """A file that takes the place of another when the block ends without an error."""
    path = Path(name)
    # Beside it: only within one file system a rename is whole.
    beside = path.with_name(f".{path.name}.{id(path):x}.part")
    try:
        with beside.open("xb") as stream:
            yield stream
        beside.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"{name} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@click.command
@click.argument("source", metavar="SPEC|PLAN|-")
@on_behalf_of_option
@click.option("--wait", is_flag=True, help="Wait for the end and show progress.")
@timeout_option
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    source: str,
    on_behalf_of: str | None,
    wait: bool,
    timeout: int | None,
    as_json: bool,
) -> None:
    """Carry out a specification or a plan.

    The content says which of them it is. Of a plan the planned digests are copied. Each run is a
    migration of its own; what the target has already costs only the comparison. With - it is
    read from standard input.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout ends a wait; add --wait", ctx)
    found = _read(source)
    with Client() as client:
        migration = client.migrate(found, on_behalf_of=on_behalf_of)
        for warning in migration.warnings:
            warn(warning)
        if wait:
            from transship.cli.migration.wait import wait_for_migration

            ctx.exit(wait_for_migration(migration, timeout=timeout, as_json=as_json))
        record = migration.record()
    if as_json:
        say_json(record.to_json())
    else:
        say(f"{record.id} {record.state} {record.name}")


def _read(name: str) -> SpecText | PlanLines:
    if name == "-":
        return read_stream(sys.stdin.buffer, "standard input")
    return read_file(name)


@click.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="At most this many.",
)
@json_option
def list_migrations(limit: int, as_json: bool) -> None:
    """List migrations, newest first.

    An account that may not read the migrations of others sees its own.
    """
    with Client() as client:
        records = client.migrations(limit=limit)
        own = own_only(client, "migrations")
    if as_json:
        for record in records:
            say_json(record.to_json())
    elif records:
        say_table(*migration_table(records))
    else:
        complain("no migrations")
    if own:
        complain(own)


@click.command
@click.argument("migration_id", metavar="ID")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    metavar="F",
    help=f"One of {', '.join(FORMATS)}. Default: as the end of FILE's name says, else text.",
)
@click.option("-o", "out", metavar="FILE", help="Write it to this file.")
def report(migration_id: str, kind: Format | None, out: str | None) -> None:
    """Say what became of a migration.

    Also while it runs. csv has a line for each image, json all there is, html is one page with
    charts that needs nothing else.
    """
    with Client() as client:
        found = client.migration(migration_id).report()
    text = render(found, kind or format_of(out))
    if not text.endswith("\n"):
        text += "\n"
    if out is None:
        # Unlike a table it is not for the terminal's width; what is foreign in it is escaped.
        click.echo(text, nl=False)
        return
    with _whole_file(out) as stream:
        stream.write(text.encode())
    say(f"{out}: {ending(found.record)}")
