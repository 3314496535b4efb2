"""docs/cli.md shows every command's help as it is.

``python -m tests.unit.producer.cli.test_help_pages`` writes the help that commands have now
into the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
from click.testing import CliRunner

from tests.support.repository import ROOT
from transship.cli import cli
from transship.cli.diagnosis import diagnose
from transship.model.components import WorkerView
from transship.model.records import JobRecord

PAGE = ROOT / "docs" / "cli.md"
_BLOCK = re.compile(r"```\n\$ transship (?P<path>[^\n]*) --help\n(?P<text>.*?)```\n", re.DOTALL)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command below a group."""
    ctx = click.Context(group, info_name="transship")
    for name in group.list_commands(ctx):
        yield (*path, name)
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def shown(path: str) -> str:
    """What ``transship PATH --help`` prints on 80 columns."""
    arguments = [*path.split(), "--help"]
    done = CliRunner().invoke(cli, arguments, prog_name="transship", terminal_width=80)
    assert done.exit_code == 0, done
    return done.output


def rewritten(page: str) -> str:
    """The page with every command's help as it is now."""
    return _BLOCK.sub(
        lambda block: f"```\n$ transship {block['path']} --help\n{shown(block['path'])}```\n", page
    )


def test_the_page_shows_the_help_of_every_command() -> None:
    documented = [tuple(block["path"].split()) for block in _BLOCK.finditer(PAGE.read_text())]
    assert sorted(documented) == sorted(commands(cli))


def test_the_help_on_the_page_is_what_the_commands_print() -> None:
    page = PAGE.read_text()
    assert rewritten(page) == page, "run: python -m tests.unit.producer.cli.test_help_pages"


def test_every_field_of_a_job_and_of_a_worker_is_on_the_page() -> None:
    named = set(re.findall(r"`([a-z_]+)`", PAGE.read_text()))
    assert set(JobRecord.model_fields) | set(WorkerView.model_fields) <= named


def test_every_code_that_doctor_finds_is_on_the_page() -> None:
    import inspect

    source = inspect.getsource(inspect.getmodule(diagnose) or diagnose)
    codes = set(re.findall(r'(?:True|False), "([a-z_]+)"', source))
    assert {"ok", "no_worker", "eviction"} <= codes
    assert codes <= set(re.findall(r"`([a-z_]+)`", PAGE.read_text()))


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
