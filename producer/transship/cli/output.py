"""What commands write: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from transship.cli.terminal import coloured, terminal_width
from transship.formatting import clean, clean_json, table

if TYPE_CHECKING:
    from transship.client import Client


def complain(message: str) -> None:
    """An error's line (seldom lines) on stderr; control characters are escaped."""
    first, *others = message.splitlines() or [""]
    click.echo(f"transship: {clean(first)}", err=True)
    for line in others:
        click.echo(f"  {clean(line)}", err=True)


def warn(message: str) -> None:
    """One line on stderr that a person should read although the command goes on."""
    complain(f"warning: {message}")


def own_only(client: Client, what: str) -> str:
    """That a list holds what is the account's own; empty: it may read what others have, too."""
    if client.reads_all:
        return ""
    return f"only {what} of account {client.account} are listed: it may not read those of others"


def say(line: str) -> None:
    """One line of a result on stdout."""
    click.echo(clean(line))


def say_json(line: str) -> None:
    """One JSON object on stdout; what is not printable in it is escaped as JSON does."""
    click.echo(clean_json(line))


def say_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: cut to the terminal's width, whole when it goes elsewhere."""
    lines = table(head, rows, width=terminal_width(sys.stdout))
    if coloured(sys.stdout):
        lines[0] = click.style(lines[0], bold=True)
    for line in lines:
        click.echo(line)


def say_fields(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values on stdout, one a line, the values aligned."""
    widest = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        say(f"{name:<{widest}}  {text}")
