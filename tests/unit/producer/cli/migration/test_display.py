"""How a wait for a migration is shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from transship.cli.display import PROGRESS_EVERY_S
from transship.cli.migration.bars import picture
from transship.cli.migration.display import RATE_OVER_S, Pace, PlainMigration
from transship.cli.migration.text import counts, failure, format_of, summary_lines
from transship.model.jobs import State
from transship.model.migration.record import MigrationRecord
from transship.model.migration.request import Mode
from transship.model.migration.summary import PlanSummary
from transship.model.migration.totals import ByteTotals, ImageTotals
from transship.model.records import ErrorInfo

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
MB = 1_000_000


def record(**changes: object) -> MigrationRecord:
    values: dict[str, object] = {
        "id": "01m85m41pps2b5h4ymg1",
        "name": "hub-to-prod",
        "mode": Mode.RUN,
        "state": State.RUNNING,
        "planned": True,
        "created_at": AT,
        "submitted_by": "ci",
    }
    return MigrationRecord.model_validate(values | changes)


def moving(done: int, of: int = 100) -> MigrationRecord:
    """So many images of one megabyte each are there."""
    images = ImageTotals.of(succeeded=done, queued=of - done)
    return record(images=images, bytes=ByteTotals(planned=of * MB, moved=done * MB))


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_pace_is_what_moved_in_the_last_half_minute() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.words(moving(0)) == ""
    for second in range(0, 61, 5):
        clock.now = second
        # Ten megabytes a second at first, then one.
        last = moving(min(second, 30) * 10 + max(0, second - 30), of=1000)
        pace.add(last)
    assert pace.rate == pytest.approx(1 * MB)
    assert RATE_OVER_S == 30
    assert pace.left(last) == pytest.approx(670)
    assert pace.words(last) == "1.0 MB/s, 11m left"


def test_nobody_knows_how_long_planning_takes() -> None:
    clock = Clock()
    pace = Pace(clock)
    for second in (0, 10):
        clock.now = second
        pace.add(last := moving(second + 1).model_copy(update={"planned": False}))
    assert pace.left(last) is None
    assert counts(last).startswith("11 of 100+ images")


class Plain:
    """A plain display whose lines are kept, and whose clock is set by hand."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._lines: list[str] = []
        self.display = PlainMigration(write=self._lines.append, clock=self.clock)

    @property
    def lines(self) -> list[str]:
        """What was written since the last look, without the time of day."""
        found = [line[9:] for line in self._lines]
        self._lines.clear()
        return found


def test_each_change_of_state_is_a_line() -> None:
    plain = Plain()
    for state in (State.QUEUED, State.QUEUED, State.RUNNING, State.SUCCEEDED):
        plain.display.show(record(state=state))
    assert plain.lines == [
        "hub-to-prod is migration 01m85m41pps2b5h4ymg1, queued",
        "hub-to-prod running",
        "hub-to-prod succeeded",
    ]


def test_progress_is_at_most_a_line_in_ten_seconds() -> None:
    plain = Plain()
    for tenth in range(250):
        plain.clock.now = tenth / 10
        plain.display.show(moving(tenth, of=1000))
    assert plain.lines[1:] == [
        "hub-to-prod 100 of 1000 images; 100 MB moved; 10.0 MB/s, 1m left",
        "hub-to-prod 200 of 1000 images; 200 MB moved; 10.0 MB/s, 1m left",
    ]
    assert PROGRESS_EVERY_S == 10


def test_why_a_planning_is_tried_again_is_a_line_once() -> None:
    plain = Plain()
    for code in ("", "registry_unreachable", "registry_unreachable", "denied"):
        error = ErrorInfo(code=code, message="no\nanswer", retryable=True) if code else None
        plain.display.show(record(planned=False, error=error))
    assert plain.lines[1:] == [
        "hub-to-prod registry_unreachable: no answer",
        "hub-to-prod denied: no answer",
    ]


def test_what_somebody_named_a_migration_cannot_write_lines_of_its_own() -> None:
    plain = Plain()
    plain.display.note("x\n12:00:00 all is well\x1b[2J")
    assert plain.lines == ["x\\n12:00:00 all is well\\x1b[2J"]


def drawn(found: MigrationRecord) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(picture(found, Pace()))
    return stream.getvalue()


def test_a_picture_shows_images_bytes_and_what_is_wrong() -> None:
    text = drawn(
        record(
            images=ImageTotals.of(succeeded=40, skipped=10, failed=2, retrying=3, queued=45),
            bytes=ByteTotals(planned=1000 * MB, moved=300 * MB, mounted=100 * MB, present=50 * MB),
            error=ErrorInfo(code="registry_paused", message="429\x1b[2J", retryable=True),
        )
    )
    for words in (
        "hub-to-prod running",
        "52 of 100 images",
        "450 MB of 1.0 GB",
        "300 MB moved, 150 MB saved (100 MB by mounts)",
        "10 there already, 2 failed, 3 retrying",
        "registry_paused: 429\\x1b[2J",
    ):
        assert words in text


def test_a_picture_of_nothing_yet_can_be_drawn() -> None:
    assert "0 of 0+ images" in drawn(record(state=State.QUEUED, planned=False))


def test_a_failure_names_what_may_be_done() -> None:
    failed = record(state=State.FAILED, images=ImageTotals.of(failed=1), finished_at=AT)
    assert failure(failed).splitlines()[1:] == [
        "what failed: transship migrate report 01m85m41pps2b5h4ymg1",
        "try what failed again: transship retry 01m85m41pps2b5h4ymg1",
    ]
    error = ErrorInfo(code="plan_failed", message="a\nb", retryable=False)
    unplanned = record(state=State.FAILED, error=error, planned=False)
    assert failure(unplanned).splitlines()[1] == "plan_failed: a b"


def test_a_summary_names_what_a_plan_comes_to() -> None:
    summary = PlanSummary(
        rows=9, copy_rows=4, tag_rows=2, skip_rows=2, conflict_rows=1, bytes_to_move=5 * MB,
        repositories_to_create=tuple(f"prod/{n}" for n in range(12)), hub_pulls=300,
        hub_windows=3, failures=1,
    )  # fmt: skip
    names = ", ".join(f"prod/{n}" for n in range(10))
    assert summary_lines(record(summary=summary)) == [
        "hub-to-prod: 9 rows: 4 to copy, 2 to tag, 2 to skip, 1 in conflict",
        "at most 5.0 MB to move",
        f"12 repositories to create: {names} and 2 more",
        "300 pulls from Docker Hub, 3 windows of six hours",
        "1 repositories or images could not be planned",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.html", "html"), ("a.HTM", "html"), ("b.csv", "csv"), ("c.json", "json"), ("d", "text")],
)
def test_a_files_name_says_which_report_it_is_to_be(name: str, kind: str) -> None:
    assert format_of(name) == kind
