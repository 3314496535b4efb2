"""A live bar for each image, on a terminal. The only module that loads rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from transship.cli.follow import Display
from transship.cli.job_text import detail
from transship.formatting import clean, columns, size
from transship.model.jobs import State
from transship.model.records import JobEvent, JobRecord

#: The colour of each state.
COLOURS = {
    State.QUEUED: "dim",
    State.RUNNING: "cyan",
    State.RETRYING: "yellow",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.CANCELLED: "magenta",
}


@contextmanager
def live_display(records: Sequence[JobRecord]) -> Iterator[tuple[Display, bool]]:
    """Bars on standard error while the block runs; they stay there in their last state."""
    # NO_COLOR, TERM and the width are looked at by rich.
    console = Console(stderr=True, highlight=False)
    progress = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        _Status(table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        _Amount(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        console=console,
        expand=True,
        # Results on stdout are not this display's.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    display = LiveDisplay([record.image for record in records], progress)
    with progress:
        yield display, True


class LiveDisplay:
    """Rows of a rich progress table; no more of them than fit, unfinished ones first."""

    def __init__(self, titles: Sequence[str], progress: Progress) -> None:
        self._progress = progress
        self._room = max(3, progress.console.size.height - 2)
        widest = max(16, progress.console.size.width // 2 - 4)
        self._tasks = [
            progress.add_task(_tail(clean(title), widest), total=None, start=False)
            for title in titles
        ]
        for task in self._tasks:
            progress.update(task, state=State.QUEUED, words="")
        self._over: set[int] = set()
        self._rest = progress.add_task("", visible=False, total=0, state=None, words="")
        self._fit()

    def changed(self, index: int, event: JobEvent) -> None:
        """Move the bar."""
        task = self._tasks[index]
        if event.kind == "note":
            self.note(event.message)
            return
        if event.state is State.RUNNING and self._task(index).start_time is None:
            self._progress.start_task(task)
        words = event.step.text if event.step else ""
        if event.state is State.RETRYING and event.error is not None:
            words = event.error.code
        self._progress.update(task, state=event.state, words=words)
        if event.progress is not None and event.progress.bytes_total:
            self._progress.update(
                task, total=event.progress.bytes_total, completed=event.progress.bytes_done
            )

    def ended(self, index: int, record: JobRecord) -> None:
        """Leave the bar as the job ended."""
        task = self._tasks[index]
        total = record.progress.bytes_total or 1
        done = total if record.state is State.SUCCEEDED else record.progress.bytes_done
        self._progress.update(
            task,
            state=record.state,
            words="" if record.state is State.SUCCEEDED and not record.skipped else detail(record),
            total=total,
            completed=done,
        )
        if self._task(index).start_time is None:
            self._progress.start_task(task)
        self._progress.stop_task(task)
        self._over.add(index)
        self._fit()

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(Text(clean(text)))

    def tick(self) -> None:
        """Rich refreshes by itself."""

    def _task(self, index: int) -> Task:
        return self._progress.tasks[index]

    def _fit(self) -> None:
        """Show as many rows as fit: unfinished ones first, then those that ended."""
        everything = range(len(self._tasks))
        if len(self._tasks) <= self._room:
            return
        order = [i for i in everything if i not in self._over]
        order += [i for i in everything if i in self._over]
        shown = set(order[: self._room - 1])
        for index in everything:
            self._progress.update(self._tasks[index], visible=index in shown)
        hidden = len(self._tasks) - len(shown)
        self._progress.update(
            self._rest,
            visible=True,
            total=len(self._tasks),
            completed=len(self._over),
            description=f"… {hidden} more; {len(self._over)} of {len(self._tasks)} ended",
        )


class _Status(ProgressColumn):
    """State, and the step or the error's code."""

    #: Rich would else redraw each column at its own pace.
    max_refresh = None

    def render(self, task: Task) -> Text:
        state = task.fields["state"]
        if state is None:
            return Text()
        words = task.fields["words"]
        first = words if state is State.RUNNING and words else str(state)
        rest = f" {words}" if words and first != words else ""
        return Text(clean(first + rest), style=COLOURS[state])


class _Amount(ProgressColumn):
    """Bytes done and in all."""

    def render(self, task: Task) -> Text:
        if task.fields["state"] is None or not task.total or task.total <= 1:
            return Text()
        return Text(f"{size(int(task.completed))} of {size(int(task.total))}", style="dim")


def _tail(text: str, width: int) -> str:
    """The end of an image's name, which tells more than its start."""
    while columns(text) > width:
        text = "…" + text[2:]
    return text
