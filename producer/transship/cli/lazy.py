"""A click group whose commands are imported when they are run, not when they are listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from transship_config.errors import UsageError

_OURS = frozenset({"transship", "transship_config", "transship_worker"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the command table."""

    #: ``module:attribute`` of the click command.
    target: str
    #: What ``--help`` of the group says of it: how the command's own help begins.
    summary: str

    @property
    def needs_worker(self) -> bool:
        """Whether it is a worker's command, whose libraries come with the extra ``worker``."""
        return self.target.startswith("transship_worker.")


class LazyGroup(click.Group):
    """A group made from a table of names and entries; listing it imports nothing."""

    def __init__(self, *, table: Mapping[str, Entry], **settings: Any) -> None:
        super().__init__(**settings)
        self.table = dict(table)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names in the order of the table: the most used first."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; ``None`` for a name that is not in the table.

        Raises:
            UsageError: a worker's command without the extra that brings its libraries.
        """
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise _explained(error, entry, f"{ctx.command_path} {cmd_name}") from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.target} is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        name = args[0]
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            from transship_config.text import did_you_mean

            raise UsageError(f"no command {name!r};{did_you_mean(name, list(self.table))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a library that it imports only then may be missing, too."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            entry = self.table.get(ctx.invoked_subcommand or "")
            if entry is None:
                raise
            command = f"{ctx.command_path} {ctx.invoked_subcommand}"
            raise _explained(error, entry, command) from error

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the table as ``--help`` shows it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table, without importing the commands."""
        found = [
            CompletionItem(name, help=entry.summary)
            for name, entry in self.table.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


def _explained(error: ModuleNotFoundError, entry: Entry, command: str) -> Exception:
    missing = error.name or "a library"
    if not entry.needs_worker or missing.partition(".")[0] in _OURS:
        return error
    # Reads package metadata, which no other command line needs.
    from transship.installation import extra_hint

    return UsageError(
        f"`{command}` needs the extra 'worker' (no module {missing!r}); hint: "
        f"{extra_hint('worker')}"
    )
