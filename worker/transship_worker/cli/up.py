"""``transship up``."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import click

from transship_config.errors import UsageError
from transship_config.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a part on standard output.")
def up(as_json: bool) -> None:
    """Run Redis, a worker and Flower on this machine.

    Redis is a private one, kept in your data folder, unless TRANSSHIP_URL names another.
    While this runs, every other command finds it when that variable is unset. Ctrl-C stops all
    of it; queued pushes are there again the next time.
    """
    if sys.platform == "win32":
        raise UsageError("`transship up` runs on Linux and macOS; on Windows use WSL or a server")
    for library in ("docker", "flower"):
        # Said now, and not by a part that dies; the command line names the extra.
        if find_spec(library) is None:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
    from transship_worker.local import up as local

    def report(started: local.Started) -> None:
        if as_json:
            click.echo(local.as_json(started))
            return
        log = f"log: {started.log}" if started.log else ""
        if started.part == "worker":
            log = "log: standard error"
        click.echo(f"{started.part:<8} {started.address:<28} {log}".rstrip())

    def ready() -> None:
        if as_json:
            click.echo(json.dumps({"part": "up", "url_file": str(stack.url_file)}))
            return
        click.echo(
            f"Ready. Commands find Redis and its password in {stack.url_file}; Ctrl-C stops all."
        )

    def say(text: str) -> None:
        click.echo(f"transship: {text}", err=True)

    stack = local.Up(Settings.from_environment(), report, say)
    stack.run(ready)
