"""The command line: one lazy table from command to ``"module:attribute"``.

``transship --help`` and a mistyped command import no more than click: a command's module is
imported when the command runs.

Exit status: 0 done, 1 a waited job failed or a check failed, 2 bad input, 3 Redis cannot be
reached, 4 the wait timed out, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import click

from transship.cli.lazy import Entry, LazyGroup
from transship.cli.output import complain
from transship_config import __version__
from transship_config.errors import TransshipError

#: What a command exits with after Ctrl-C: 128 and the number of SIGINT.
INTERRUPTED = 130

COMMANDS = {
    "push": Entry("transship.cli.push:push", "Queue pushes of images."),
    "copy": Entry("transship.cli.copy:copy", "Queue the copy of an image between registries."),
    "migrate": Entry(
        "transship.cli.migration.command:migrate", "Copy many images between registries."
    ),
    "status": Entry("transship.cli.jobs:status", "Show a job or a migration."),
    "jobs": Entry("transship.cli.jobs:jobs", "List jobs, newest first."),
    "watch": Entry("transship.cli.jobs:watch", "Follow a job or a migration to its end."),
    "cancel": Entry("transship.cli.jobs:cancel", "Stop a job or a migration."),
    "retry": Entry("transship.cli.jobs:retry", "Queue again what failed."),
    "workers": Entry("transship.cli.workers:workers", "List live workers; fails when none is."),
    "doctor": Entry("transship.cli.workers:doctor", "Say what is missing and what mends it."),
    "registry": Entry("transship.cli.registry:registry", "Show and edit registry components."),
    "accounts": Entry("transship.cli.accounts:accounts", "Show accounts and their rights."),
    "worker": Entry(
        "transship_worker.cli.worker:worker",
        "Run a worker.",
    ),
    "up": Entry("transship_worker.cli.up:up", "Run Redis, a worker and Flower on this machine."),
}

cli = LazyGroup(
    name="transship",
    table=COMMANDS,
    help="Queue container image pushes, and see every one of them arrive.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(__version__, prog_name="transship", message="%(prog)s %(version)s")(cli)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; an error is one line on stderr."""
    # A terminal that cannot show a character must not end a command that did its work.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = cli.main(arguments, prog_name="transship", standalone_mode=False)
    except TransshipError as error:
        complain(error.message)
        return error.exit_status
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        complain(_usage_line(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        # The outermost frame: a person gets one line, and the traceback when it is asked for.
        if _debugging():
            raise
        complain(
            f"unexpected {type(error).__name__}: {error} "
            "(TRANSSHIP_LOG_LEVEL=debug shows where it happened)"
        )
        return 1
    # ``ctx.exit(status)`` comes back as a number; a command's own result is of no interest.
    return result if type(result) is int else 0


def _usage_line(error: click.ClickException) -> str:
    """Click's message in one line, with where to read on."""
    text = " ".join(error.format_message().split())
    # Click's sentences start with a capital; ours go on after "transship: ".
    text = text[:1].lower() + text[1:]
    ctx = getattr(error, "ctx", None)
    return f"{text} ({ctx.command_path} --help)" if ctx is not None else text


def _debugging() -> bool:
    return os.environ.get("TRANSSHIP_LOG_LEVEL", "").lower() == "debug"
