"""``transship workers`` and ``transship doctor``."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import click

from transship.cli.diagnosis import diagnose
from transship.cli.finding import Finding
from transship.cli.options import json_option
from transship.cli.output import complain, say, say_json, say_table
from transship.client import Client
from transship.errors import RedisUnreachable
from transship.formatting import age
from transship.model.components import WorkerView
from transship.model.engines import Store

#: The columns of ``transship workers``.
HEAD: Final = (
    *("WORKER", "ENGINE", "VERSION", "RUNNING", "PUSH/BULK/COPY", "COMPONENTS", "UP", "STATE"),
)


@click.command
@click.option("--here", is_flag=True, help="Only workers of this machine (or container).")
@json_option
@click.pass_context
def workers(ctx: click.Context, here: bool, as_json: bool) -> None:
    """List live workers; fails when none is.

    This is also the health check: the exit status is 1 when no worker is alive.
    """
    with Client() as client:
        views: Sequence[WorkerView] = client.fleet().workers
    if here:
        views = [view for view in views if _is_here(view)]
    if as_json:
        for view in views:
            say_json(view.model_dump_json())
    elif views:
        say_table(HEAD, [_row(view) for view in views])
    if not views:
        where = " on this machine" if here else ""
        complain(f"no live worker{where}; start one: transship worker (or transship up)")
        ctx.exit(1)


def _is_here(view: WorkerView) -> bool:
    """Whether the worker's name, ``transship@HOST.…``, names this machine."""
    # The last part is the process id; the host's own name may have dots.
    return view.name.partition("@")[2].rpartition(".")[0] == socket.gethostname()


def _row(view: WorkerView) -> list[str]:
    state = "draining" if view.draining else "ok"
    if view.lacks_engine:
        state = "no engine"
    elif view.catalog_error:
        state = "catalogue broken"
    elif view.slots_lowered and not view.draining:
        state = "fewer slots"
    return [
        view.name,
        view.engine or "-",
        _engine_version(view),
        str(view.running),
        f"{view.interactive_slots}/{view.bulk_slots}/{view.copy_slots}",
        str(len(view.components)),
        age(view.started_at),
        state,
    ]


def _engine_version(view: WorkerView) -> str:
    """``Docker 28.5.2, containerd``: the engine's product, version and image store."""
    info = view.engine_info
    if info is None:
        return "-"
    name = " ".join(filter(None, [info.product, info.version]))
    return name if info.store == Store.PODMAN else f"{name}, {info.store}"


@click.command
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is missing and what mends it.

    Looks at Redis, the workers, their engines, their catalogues and their credentials. The
    exit status is 1 when something is missing, 3 when Redis cannot be reached.
    """
    with Client() as client:
        findings = diagnose(client)
    for finding in findings:
        if as_json:
            say_json(json.dumps(asdict(finding)))
        else:
            _say_finding(finding)
    if not all(finding.ok for finding in findings):
        redis_is_away = findings[0].code == RedisUnreachable.code
        ctx.exit(RedisUnreachable.exit_status if redis_is_away else 1)


def _say_finding(finding: Finding) -> None:
    say(f"{'ok     ' if finding.ok else 'missing'}  {finding.check:<11}  {finding.message}")
    if finding.mend:
        say(f"{'':22}to mend it: {finding.mend}")
