"""``transship status``, ``jobs``, ``watch``, ``cancel`` and ``retry``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from transship.cli.job_text import detail, fields
from transship.cli.options import json_option, label_option, timeout_option
from transship.cli.output import complain, own_only, say, say_fields, say_json, say_table
from transship.client import Client
from transship.formatting import age
from transship.jobs import Job
from transship.model.jobs import State
from transship.model.records import JobRecord
from transship_config.names import DEFAULT_ACCOUNT

_id_argument = click.argument("some_id", metavar="ID")


@click.command
@_id_argument
@json_option
def status(some_id: str, as_json: bool) -> None:
    """Show a job or a migration.

    The exit status says nothing of its own end; `transship watch ID` does.
    """
    with Client() as client:
        record = client.find(some_id).record()
    if as_json:
        say_json(record.to_json())
    elif isinstance(record, JobRecord):
        say_fields(fields(record))
    else:
        from transship.cli.migration import text

        say_fields(text.fields(record))


@click.command
@click.option(
    "--state",
    type=click.Choice([str(s) for s in State]),
    metavar="S",
    help=f"Only jobs in this state: {', '.join(State)}.",
)
@click.option("--registry", metavar="NAME", help="Only jobs for this component.")
@label_option
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    metavar="N",
    help="At most this many.",
)
@json_option
def jobs(
    state: str | None, registry: str | None, labels: dict[str, str], limit: int, as_json: bool
) -> None:
    """List jobs, newest first.

    An account that may not read the jobs of others sees its own.
    """
    with Client() as client:
        records = client.jobs(
            state=State(state) if state else None, registry=registry, labels=labels, limit=limit
        )
        own = own_only(client, "jobs")
    if as_json:
        for record in records:
            say_json(record.to_json())
    elif records:
        _say_jobs(records)
    else:
        complain("no jobs" if not (state or registry or labels) else "no jobs like that")
    if own:
        complain(own)


def _say_jobs(records: Sequence[JobRecord]) -> None:
    """A table; it names who submitted what as soon as one of them is not ``default``."""
    rows = [
        [
            *(record.id, str(record.state), age(record.created_at)),
            *(record.image, record.registry, record.submitted_by, detail(record)),
        ]
        for record in records
    ]
    head = ["ID", "STATE", "AGE", "IMAGE", "REGISTRY", "SUBMITTED BY", "DETAIL"]
    if {record.submitted_by for record in records} == {DEFAULT_ACCOUNT}:
        by = head.index("SUBMITTED BY")
        for row in (head, *rows):
            del row[by]
    say_table(head, rows)


@click.command
@_id_argument
@timeout_option
@json_option
@click.pass_context
def watch(ctx: click.Context, some_id: str, timeout: int | None, as_json: bool) -> None:
    """Follow a job or a migration to its end.

    The exit status is that of `push --wait`: 0 succeeded, 1 failed or cancelled. With --json
    the object is printed each time it changes.
    """
    from transship.cli.wait import JsonDisplay, Results, wait_for

    results = Results(as_json=as_json)
    with Client() as client:
        found = client.find(some_id)
        if not isinstance(found, Job):
            from transship.cli.migration.wait import wait_for_migration

            ctx.exit(wait_for_migration(found, timeout=timeout, as_json=as_json, changes=True))
        display = JsonDisplay(found, results) if as_json else None
        if as_json:
            results.object(found.record())
        ctx.exit(wait_for([found], results, timeout=timeout, display=display))


@click.command
@_id_argument
@json_option
def cancel(some_id: str, as_json: bool) -> None:
    """Stop a job or a migration.

    What waits is taken off the queue, and what runs is stopped by its worker within moments. Only
    the Redis account that submitted it can cancel it.
    """
    with Client() as client:
        record = client.find(some_id).cancel()
    title = record.image if isinstance(record, JobRecord) else record.name
    if as_json:
        say_json(record.to_json())
    elif record.state is State.CANCELLED:
        say(f"{record.id} cancelled {title}")
    else:
        say(f"{record.id} {record.state} {title}: asked to stop")


@click.command
@_id_argument
@json_option
def retry(some_id: str, as_json: bool) -> None:
    """Queue again what failed.

    A failed or cancelled job keeps its id and its history, and its attempts are counted anew. Of
    a migration, the images that failed are tried again, and no others. Only the Redis account
    that submitted it can retry it.
    """
    with Client() as client:
        record = client.find(some_id).retry()
    if as_json:
        say_json(record.to_json())
    elif isinstance(record, JobRecord):
        say(f"{record.id} {record.state} {record.image} → {record.registry}")
    else:
        say(f"{record.id} {record.state} {record.name}: {record.images.unfinished} images again")
