"""``transship copy``."""

from __future__ import annotations

import click

from transship.cli.options import json_option, on_behalf_of_option, timeout_option
from transship.cli.output import say, say_json, warn
from transship.client import Client
from transship.jobs import Job

platform_option = click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="P",
    help="Only this platform, such as linux/arm64; may be repeated. The image must have it. The "
    "digest of an index changes with it.",
)


@click.command
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--from",
    "source_registry",
    metavar="NAME",
    help="The source's component, or a host that workers read without one; may be left out when "
    "exactly one fits.",
)
@click.option(
    "--to",
    "target_registry",
    metavar="NAME",
    help="The target's component; may be left out when exactly one covers it.",
)
@platform_option
@click.option("--referrers", is_flag=True, help="Take signatures, SBOMs and attestations along.")
@click.option(
    "--foreign-layers",
    type=click.Choice(["copy", "reference"]),
    default="copy",
    show_default=True,
    help="Nondistributable layers: copy those that the source holds, or leave all as references.",
)
@on_behalf_of_option
@click.option("--wait", is_flag=True, help="Wait for the end and show progress.")
@timeout_option
@click.option("-q", "quiet", is_flag=True, help="Print repository@digest (with --wait) or the id.")
@json_option
@click.pass_context
def copy(
    ctx: click.Context,
    source: str,
    target: str,
    source_registry: str | None,
    target_registry: str | None,
    platforms: tuple[str, ...],
    referrers: bool,
    foreign_layers: str,
    on_behalf_of: str | None,
    wait: bool,
    timeout: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Queue the copy of an image between registries.

    A worker reads SOURCE, for example docker.io/acme/cat:1.2, and writes TARGET; no Docker Engine
    takes part. All platforms are copied and the digest stays the same. TARGET without a tag gets
    the source's.
    """
    if quiet and as_json:
        raise click.UsageError("-q and --json print the same thing differently; choose one", ctx)
    if timeout is not None and not wait:
        raise click.UsageError("--timeout ends a wait; add --wait", ctx)
    with Client() as client:
        job = client.copy(
            source,
            target,
            source_registry=source_registry,
            target_registry=target_registry,
            platforms=platforms,
            referrers=referrers,
            foreign_layers=foreign_layers,
            on_behalf_of=on_behalf_of,
        )
        for warning in job.warnings:
            warn(warning)
        if wait:
            # Loaded here: what only enqueues is to start quickly.
            from transship.cli.wait import Results, wait_for

            ctx.exit(wait_for([job], Results(as_json=as_json, quiet=quiet), timeout=timeout))
        _print_enqueued(job, quiet=quiet, as_json=as_json)


def _print_enqueued(job: Job, *, quiet: bool, as_json: bool) -> None:
    if quiet:
        say(job.id)
        return
    record = job.record()
    if as_json:
        say_json(record.to_json())
        return
    same = " (an equal copy was still queued; this is it)" if job.deduplicated else ""
    say(f"{job.id} {record.state} {record.source} → {record.image}{same}")
