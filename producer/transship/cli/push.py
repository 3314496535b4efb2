"""``transship push``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from transship.cli import INTERRUPTED
from transship.cli.options import (
    Duration,
    json_option,
    label_option,
    on_behalf_of_option,
    timeout_option,
)
from transship.cli.output import complain, say, say_json, warn
from transship.client import Client
from transship.errors import SubmitInterrupted
from transship.jobs import Job
from transship.pushes import Push
from transship_config.errors import UsageError


@click.command
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--registry",
    metavar="NAME",
    help="The registry component; may be left out when exactly one covers the image.",
)
@click.option("--source", metavar="IMAGE", help="A local image (name or id) to tag as IMAGE first.")
@click.option(
    "--engine",
    metavar="NAME",
    help="The Docker Engine that has the image; may be left out when all workers share one.",
)
@label_option
@click.option(
    "--bulk", is_flag=True, help="Use the slots of bulk work, which never delay interactive pushes."
)
@click.option(
    "--deadline",
    type=Duration(),
    metavar="S",
    help="Give an attempt up after this long (seconds, or 90s, 10m, 6h). Default: 6h.",
)
@click.option(
    "--expires",
    type=Duration(),
    metavar="S",
    help="Give the job up when no worker started it after this long. Default: 24h.",
)
@click.option(
    "--via",
    type=click.Choice(["auto", "engine", "stream"]),
    default="auto",
    show_default=True,
    help="Let the Docker Engine push, or the worker compress and send what the engine exports; "
    "auto takes the faster.",
)
@click.option(
    "--platform",
    metavar="P",
    help="Push this platform of the image alone, such as linux/arm64; left out: all that the "
    "engine has.",
)
@click.option(
    "--require-all-platforms",
    is_flag=True,
    help="Fail if the engine does not have every platform of the image.",
)
@on_behalf_of_option
@click.option(
    "--wait", is_flag=True, help="Wait for the end and show progress; exit status 1 if any fails."
)
@timeout_option
@click.option("-q", "quiet", is_flag=True, help="Print repository@digest (with --wait) or the id.")
@json_option
@click.pass_context
def push(
    ctx: click.Context,
    images: tuple[str, ...],
    registry: str | None,
    source: str | None,
    engine: str | None,
    labels: dict[str, str],
    bulk: bool,
    deadline: int | None,
    expires: int | None,
    via: str,
    platform: str | None,
    require_all_platforms: bool,
    on_behalf_of: str | None,
    wait: bool,
    timeout: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Queue pushes of images.

    IMAGE is where it goes, for example registry.example.com/ml/train:42. The image is taken
    from the Docker Engine of a worker. With - the images are read from standard input, one a
    line.
    """
    if quiet and as_json:
        raise click.UsageError("-q and --json print the same thing differently; choose one", ctx)
    if timeout is not None and not wait:
        raise click.UsageError("--timeout ends a wait; add --wait", ctx)
    names = _names(images)
    if source is not None and len(names) > 1:
        raise click.UsageError("--source is tagged as one IMAGE; give one IMAGE with it", ctx)
    if platform is not None and require_all_platforms:
        raise click.UsageError("choose one: --platform or --require-all-platforms", ctx)
    options = (registry, source, engine, labels, bulk, deadline, expires, via)
    pushes = [Push(name, *options, platform, require_all_platforms, on_behalf_of) for name in names]
    with Client() as client:
        try:
            jobs = client.push_many(pushes)
        except SubmitInterrupted as error:
            complain(f"interrupted: {len(error.job_ids)} of {len(pushes)} jobs are queued")
            for job in error.job_ids:
                say(job)
            ctx.exit(INTERRUPTED)
        for warning in dict.fromkeys(w for job in jobs for w in job.warnings):
            warn(warning)
        if wait:
            # Loaded here: what only enqueues is to start quickly.
            from transship.cli.wait import Results, wait_for

            ctx.exit(wait_for(jobs, Results(as_json=as_json, quiet=quiet), timeout=timeout))
        _print_enqueued(jobs, quiet=quiet, as_json=as_json)


def _names(images: Sequence[str]) -> list[str]:
    """The images as given; a dash stands for standard input."""
    names: list[str] = []
    for image in images:
        if image != "-":
            names.append(image)
            continue
        lines = (line.strip() for line in sys.stdin)
        names += [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise UsageError("standard input names no image; write one a line")
    return names


def _print_enqueued(jobs: Sequence[Job], *, quiet: bool, as_json: bool) -> None:
    for job in jobs:
        if quiet:
            say(job.id)
            continue
        record = job.record()
        if as_json:
            say_json(record.to_json())
            continue
        same = " (an equal push was still queued; this is it)" if job.deduplicated else ""
        say(f"{job.id} {record.state} {record.image} → {record.registry}{same}")
