"""A migration as live bars on a terminal; loads rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from transship.cli.bars import COLOURS
from transship.cli.migration.display import Display, Pace
from transship.cli.migration.text import counts
from transship.formatting import clean, size
from transship.model.migration.record import MigrationRecord


@contextmanager
def live_migration(console: Console | None = None) -> Iterator[Display]:
    """Bars on standard error while the block runs; they stay there in their last state."""
    # NO_COLOR, TERM and the width are looked at by rich.
    console = console or Console(stderr=True, highlight=False)
    with Live(
        console=console, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False
    ) as live:
        yield LiveMigration(live)


class LiveMigration:
    """Images and bytes as bars, and below them what moved, what was saved, and the pace."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._pace = Pace()

    def show(self, record: MigrationRecord) -> None:
        """Draw it anew."""
        self._pace.add(record)
        self._live.update(picture(record, self._pace), refresh=record.state.final)

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._live.console.print(Text(clean(text)))


def picture(record: MigrationRecord, pace: Pace) -> RenderableType:
    """What a terminal shows of a migration."""
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(clean(record.name), style="bold")
    head.append(f" {record.state}", style=COLOURS[record.state])
    head.append(f"  {record.id}", style="dim")
    images, sizes = record.images, record.bytes
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, min_width=8)
    grid.add_column(no_wrap=True)
    grid.add_row("images", _bar(images.finished, images.planned), counts(record).split(",")[0])
    grid.add_row(
        "bytes",
        _bar(sizes.settled, sizes.planned),
        f"{size(sizes.settled)} of {size(sizes.planned)}",
    )
    details = Text(style="dim")
    saved = f"{size(sizes.mounted + sizes.present)} saved"
    details.append(f"{size(sizes.moved)} moved, {saved} ({size(sizes.mounted)} by mounts)")
    words = pace.words(record) if not record.state.final else ""
    details.append(f", {words}" if words else "")
    states = counts(record).partition(", ")[2]
    parts: list[RenderableType] = [head, grid, details]
    if states:
        style = "red" if images.failed else "yellow" if images.retrying else "dim"
        parts.append(Text(states, style=style))
    if record.error is not None and not record.state.final:
        parts.append(Text(clean(f"{record.error.code}: {record.error.message}"), style="yellow"))
    return Group(*parts)


def _bar(done: int, total: int) -> ProgressBar:
    # Referrers that no plan knew of may make it more than all.
    return ProgressBar(total=max(total, done, 1), completed=done)
