"""How a wait is shown: plain lines for pipes, bars for terminals."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from transship.cli.bars import LiveDisplay, live_display
from transship.cli.display import PROGRESS_EVERY_S, STILL_EVERY_S, PlainDisplay
from transship.cli.wait import Results
from transship.model.jobs import State, Step
from transship.model.records import ErrorInfo, JobEvent, JobRecord, Progress

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DENIED = ErrorInfo(code="denied", message="no", retryable=False)


def record(number: int = 1, **changes: object) -> JobRecord:
    values: dict[str, object] = {
        "id": f"01m85m41pps2b5h4ymg{number}",
        "state": State.QUEUED,
        "image": f"r.example/a:{number}",
        "registry": "prod",
        "submitted_by": "default",
        "created_at": NOW,
    }
    return JobRecord.model_validate(values | changes)


def changed(state: State, **more: object) -> JobEvent:
    return JobEvent.model_validate({"kind": "state", "at": NOW, "state": state, **more})


def moved(done: int, total: int = 100) -> JobEvent:
    return JobEvent(
        kind="progress",
        at=NOW,
        state=State.RUNNING,
        step=Step.PUSHING,
        progress=Progress(bytes_done=done, bytes_total=total),
    )


class Plain:
    """A plain display with a clock that a test moves."""

    def __init__(self, *records: JobRecord) -> None:
        self.now = 0.0
        self._lines: list[str] = []
        self.display = PlainDisplay(records, write=self._lines.append, clock=lambda: self.now)

    @property
    def lines(self) -> list[str]:
        """What was written since the last look, without the time of day."""
        found = [line[9:] for line in self._lines]
        self._lines.clear()
        return found


def test_a_wait_begins_with_the_jobs_id() -> None:
    assert Plain(record()).lines == ["r.example/a:1 queued as 01m85m41pps2b5h4ymg1"]


def test_each_change_of_state_is_a_line() -> None:
    plain = Plain(record())
    plain.display.changed(0, changed(State.RUNNING, worker="w"))
    plain.display.changed(0, changed(State.RETRYING, error=DENIED))
    plain.display.changed(0, changed(State.RUNNING, worker="w", attempt=2))
    plain.display.changed(0, changed(State.SUCCEEDED))
    plain.display.ended(0, record(state=State.SUCCEEDED))
    assert plain.lines[1:] == [
        "r.example/a:1 running on w",
        "r.example/a:1 retrying (denied): no",
        "r.example/a:1 running on w, attempt 2",
        "r.example/a:1 succeeded",
    ]


def test_progress_is_at_most_a_line_in_ten_seconds() -> None:
    plain = Plain(record())
    plain.display.changed(0, changed(State.RUNNING))
    assert len(plain.lines) == 2
    seen = []
    for tenth in range(300):
        plain.now = tenth / 10
        plain.display.changed(0, moved(tenth, 300))
        seen += plain.lines
    assert seen == [
        "r.example/a:1 pushing 33 %, 100 B of 300 B",
        "r.example/a:1 pushing 66 %, 200 B of 300 B",
    ]
    assert PROGRESS_EVERY_S == 10


def test_progress_of_several_images_is_one_line_together() -> None:
    plain = Plain(record(1), record(2), record(3))
    plain.display.changed(0, changed(State.SUCCEEDED))
    plain.display.ended(0, record(1, state=State.SUCCEEDED))
    plain.display.changed(1, moved(10))
    plain.display.changed(2, moved(30))
    assert len(plain.lines) == 4
    plain.now = 11
    plain.display.tick()
    assert plain.lines == ["1 of 3 done, 2 running: 20 %, 40 B of 200 B"]


def test_a_long_wait_in_the_queue_says_now_and_then_that_it_lasts() -> None:
    plain = Plain(record())
    assert len(plain.lines) == 1
    plain.now = STILL_EVERY_S - 1
    plain.display.tick()
    assert plain.lines == []
    plain.now = STILL_EVERY_S
    plain.display.tick()
    assert plain.lines == ["r.example/a:1 still queued"]


def test_a_job_that_ended_without_an_event_still_ends_with_a_line() -> None:
    plain = Plain(record())
    plain.display.ended(0, record(state=State.CANCELLED))
    assert plain.lines[1:] == ["r.example/a:1 cancelled"]


def test_what_a_registry_said_cannot_write_lines_of_its_own() -> None:
    plain = Plain(record())
    spoof = ErrorInfo(code="stalled", message="x\n12:00:00 all is well\x1b[2J", retryable=True)
    plain.display.changed(0, changed(State.RETRYING, error=spoof))
    assert plain.lines[1] == ("r.example/a:1 retrying (stalled): x\\n12:00:00 all is well\\x1b[2J")


def bars(height: int = 10) -> tuple[Bars, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, width=100, height=height, force_terminal=True)
    return Bars(console=console, auto_refresh=False), stream


def test_bars_move_with_the_bytes_and_end_full() -> None:
    progress, _ = bars()
    display = LiveDisplay(["a"], progress)
    display.changed(0, changed(State.RUNNING))
    display.changed(0, moved(40))
    task = progress.tasks[0]
    assert (task.completed, task.total, task.fields["state"]) == (40, 100, State.RUNNING)
    display.ended(0, record(state=State.SUCCEEDED, progress=Progress(bytes_total=100)))
    assert (task.completed, task.total, task.fields["state"]) == (100, 100, State.SUCCEEDED)


def test_a_failed_jobs_bar_stays_where_it_was() -> None:
    progress, _ = bars()
    display = LiveDisplay(["a"], progress)
    display.changed(0, moved(40))
    at = Progress(bytes_done=40, bytes_total=100)
    display.ended(0, record(state=State.FAILED, error=DENIED, progress=at))
    assert progress.tasks[0].completed == 40
    assert progress.tasks[0].fields["words"] == "denied"


def test_no_more_bars_than_fit_and_unfinished_ones_first() -> None:
    progress, _ = bars(height=6)
    display = LiveDisplay([f"image-{n}" for n in range(9)], progress)

    def shown() -> list[str]:
        return [t.description for t in progress.tasks if t.visible]

    assert shown() == ["image-0", "image-1", "image-2", "… 6 more; 0 of 9 ended"]
    display.ended(1, record(state=State.SUCCEEDED))
    assert shown() == ["image-0", "image-2", "image-3", "… 6 more; 1 of 9 ended"]


@pytest.mark.parametrize("colours", [True, False])
def test_bars_obey_no_color_and_print_foreign_text_as_it_is(
    colours: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    with live_display([record()]) as (display, live):
        assert live
        display.changed(0, changed(State.RETRYING, error=DENIED))
        display.note("[red]not markup[/red] \x1b[31m")
        display.tick()
    out, err = capsys.readouterr()
    assert out == ""
    assert "r.example/a:1" in err
    assert "[red]not markup[/red] \\x1b[31m" in err
    assert ("\x1b[33mretrying" in err) is colours


def test_results_come_in_the_order_of_the_images(capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(quiet=True)
    pinned = {n: f"r.example/a@sha256:{n}" + "0" * 63 for n in (1, 2, 3)}
    ended = {
        n: record(n, state=State.SUCCEEDED, digest=name.partition("@")[2])
        for n, name in pinned.items()
    }

    results.add(1, ended[2])
    assert capsys.readouterr().out == ""
    results.add(0, ended[1])
    assert capsys.readouterr().out.split() == [pinned[1], pinned[2]]
    results.add(2, ended[3])

    assert capsys.readouterr().out.split() == [pinned[3]]
    assert not results.failed


def test_results_behind_a_job_that_did_not_end_are_printed_at_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = Results(quiet=True)
    results.add(1, record(2, state=State.FAILED, error=DENIED))

    results.release()

    assert "denied" in capsys.readouterr().err
    assert results.failed
