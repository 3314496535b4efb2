"""Text for people: escaped, aligned, short."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.cli.job_text import detail, event_text, failure, fields, progress_text
from transship.cli.terminal import coloured, terminal_width
from transship.formatting import (
    age,
    clean,
    clean_json,
    columns,
    duration,
    parse_duration,
    shorten,
    size,
    table,
)
from transship.model.jobs import State, Step
from transship.model.records import ErrorInfo, JobEvent, JobRecord, Progress

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(**changes: object) -> JobRecord:
    values: dict[str, object] = {
        "id": "01m85m41pps2b5h4ymgy",
        "state": State.QUEUED,
        "image": "registry.example.com/ml/train:42",
        "registry": "prod",
        "submitted_by": "default",
        "created_at": NOW,
    }
    return JobRecord.model_validate(values | changes)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text())
def test_cleaned_text_has_nothing_that_moves_a_cursor_or_ends_a_line(text: str) -> None:
    assert clean(text).isprintable()


def test_control_and_bidi_characters_are_shown_and_not_obeyed() -> None:
    assert clean("a\x1b[31m\nb\u202ec\udc80") == "a\\x1b[31m\\nb\\u202ec\\udc80"


@given(st.dictionaries(st.text(), st.text(alphabet=st.characters(exclude_categories=["Cs"]))))
def test_json_is_printable_and_stays_the_same_value(value: dict[str, str]) -> None:
    line = clean_json(json.dumps(value, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == value


def test_printable_text_of_any_script_is_left_alone() -> None:
    assert clean("étiquette 標籤 → ✓") == "étiquette 標籤 → ✓"


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits(text: str, width: int) -> None:
    assert columns(shorten(text, width)) <= width


def test_wide_characters_count_twice_and_accents_not_at_all() -> None:
    assert columns("標籤") == 4
    assert columns("e\u0301") == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("10m", 600), ("6h", 21600), ("2d", 172800)],
)
def test_lengths_of_time_are_read_in_seconds_or_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "10x", "-5", "1e3", "١", "m", "1 0"])
def test_anything_else_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="write seconds"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (59.9, "59s"), (180, "3m"), (7300, "2h"), (200000, "2d")]
)
def test_times_are_told_in_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    assert age(NOW + timedelta(hours=1), NOW) == "0s"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456_789, "123 MB"), (1.4e9, "1.4 GB")],
)
def test_sizes_are_decimal_as_docker_writes_them(count: int, text: str) -> None:
    assert size(int(count)) == text


def test_no_size_rolls_over_into_four_digits() -> None:
    assert size(999_600) == "1.0 MB"


def test_a_table_is_aligned_and_its_foreign_text_escaped() -> None:
    assert table(["A", "B"], [["標籤", "x"], ["a\n", "y"]], width=None) == [
        "A     B",
        "標籤  x",
        "a\\n   y",
    ]


def test_a_table_fits_the_terminal_when_there_is_one() -> None:
    assert table(["A"], [["abcdef"]], width=4) == ["A", "abc…"]


def test_what_is_no_terminal_has_no_width_and_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for stream in (io.StringIO(), None):
        assert terminal_width(stream) is None
        assert not coloured(stream)
    assert coloured(Terminal())


def test_no_color_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Terminal())


def test_progress_says_bytes_and_layers_and_100_percent_only_at_the_end() -> None:
    some = Progress(bytes_done=1_999, bytes_total=2_000, layers_done=3, layers_total=7)
    assert progress_text(some) == "99 %, 2.0 kB of 2.0 kB, 3 of 7 layers"
    assert progress_text(Progress()) == ""


def test_a_job_that_waits_to_be_retried_says_why_and_when() -> None:
    waiting = record(
        state=State.RETRYING,
        error=ErrorInfo(code="stalled", message="m", retryable=True),
        next_attempt_at=NOW + timedelta(seconds=40),
    )
    assert detail(waiting, NOW) == "stalled, again in 40s"


def test_a_running_job_says_its_step_and_how_far_it_is() -> None:
    running = record(
        state=State.RUNNING, step=Step.PUSHING, progress=Progress(bytes_done=5, bytes_total=10)
    )
    assert detail(running) == "pushing 50 %, 5 B of 10 B"


def test_a_failure_names_code_message_and_the_way_on() -> None:
    denied = ErrorInfo(code="denied", message="no right\nto push", retryable=False)
    text = failure(record(state=State.FAILED, error=denied))
    assert text == (
        "registry.example.com/ml/train:42 failed (denied): no right to push\n"
        "when that is mended: transship retry 01m85m41pps2b5h4ymgy"
    )
    stalled = ErrorInfo(code="stalled", message="m", retryable=True)
    assert "may succeed as it is: transship retry" in failure(
        record(state=State.FAILED, error=stalled)
    )


def test_a_cancelled_job_is_not_called_so_twice() -> None:
    error = ErrorInfo(code="cancelled", message="cancelled on request", retryable=False)
    cancelled = record(state=State.CANCELLED, error=error)
    assert "cancelled: cancelled on request" in failure(cancelled)
    assert dict(fields(cancelled))["state"] == "cancelled"


def test_status_leaves_out_what_there_is_not() -> None:
    names = [name for name, _ in fields(record())]
    assert names == ["job", "image", "state", "registry", "attempts", "submitted"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"kind": "step", "state": "running", "step": "verifying"}, "verifying"),
        ({"kind": "state", "state": "running", "worker": "w@h"}, "running on w@h"),
        ({"kind": "state", "state": "running", "attempt": 2}, "running, attempt 2"),
        ({"kind": "note", "state": "running", "message": "hm"}, "note: hm"),
        ({"kind": "state", "state": "queued", "message": "drained"}, "queued: drained"),
        (
            {
                "kind": "state",
                "state": "retrying",
                "error": ErrorInfo(code="stalled", message="nothing moved", retryable=True),
                "message": "again in 8 s",
            },
            "retrying (stalled): nothing moved; again in 8 s",
        ),
        (
            {"kind": "progress", "state": "running", "step": "pushing", "progress": Progress()},
            "pushing",
        ),
    ],
)
def test_events_read_as_short_phrases(event: dict[str, object], text: str) -> None:
    assert event_text(JobEvent.model_validate({"at": NOW, **event})) == text
