"""What a person at a terminal sees of a wait."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

from tests.support.workers.command_line import (
    DIGEST,
    REPOSITORY,
    Screen,
    Stage,
    on_terminal,
)
from transship.model.records import Progress


def wait_on_terminal(
    stage: Stage, environment: Mapping[str, str] | None = None, piped: bool = False
) -> Screen:
    """Two pushes that wait."""
    images = [f"{REPOSITORY}:1", f"{REPOSITORY}:2"]
    arguments = ["push", *images, "--registry", "prod", "--wait"]
    return on_terminal(stage, *arguments, environment=environment, piped=piped)


def test_a_terminal_shows_a_live_bar_for_each_image(stage: Stage) -> None:
    screen = wait_on_terminal(stage)
    claim = stage.bench.claimed(stage.job("1"))
    progress = Progress(bytes_done=50_000_000, bytes_total=200_000_000)
    stage.bench.claims.report(claim, step="pushing", progress=progress)
    screen.shows("50.0 MB of 200 MB")
    screen.shows("━")
    screen.shows(f"{REPOSITORY}:2")
    screen.shows("\x1b[36mpushing")
    stage.bench.succeed(claim, DIGEST)
    stage.fail("2")
    assert screen.ends() == 1
    assert "\x1b[32msucceeded" in screen.text
    # The cursor is shown again, and results come below the bars.
    after = screen.text.rpartition("\x1b[?25h")[2]
    assert f"{REPOSITORY}@{DIGEST}" in after
    assert f"{REPOSITORY}:2 failed (denied)" in after


def test_bars_leave_standard_output_to_the_results(stage: Stage) -> None:
    screen = wait_on_terminal(stage, piped=True)
    for tag in ("1", "2"):
        stage.succeed(tag)
    assert screen.ends() == 0
    assert (stage.folder / "piped").read_text() == f"{REPOSITORY}@{DIGEST}\n" * 2
    assert "━" in screen.text


def test_no_color_leaves_the_bars_and_takes_the_colours(stage: Stage) -> None:
    screen = wait_on_terminal(stage, environment={"NO_COLOR": "1"})
    for tag in ("1", "2"):
        stage.succeed(tag)
    assert screen.ends() == 0
    assert "━" in screen.text
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", screen.text)


def test_a_dumb_terminal_gets_plain_lines(stage: Stage) -> None:
    screen = wait_on_terminal(stage, environment={"TERM": "dumb"})
    for tag in ("1", "2"):
        stage.succeed(tag)
    assert screen.ends() == 0
    assert "running on worker-1" in screen.text
    assert "\x1b" not in screen.text


def test_control_c_on_a_terminal_gives_the_cursor_back(stage: Stage) -> None:
    screen = wait_on_terminal(stage)
    screen.shows("\x1b[?25l")
    stage.job("2")
    screen.process.send_signal(signal.SIGINT)
    assert screen.ends() == 130
    assert "2 jobs go on" in screen.text.rpartition("\x1b[?25h")[2]


def test_a_list_on_a_terminal_fits_its_width(stage: Stage) -> None:
    push = stage.start("push", f"{REPOSITORY}:{'x' * 120}", "--registry", "prod", "-q")
    assert push.ends() == 0
    screen = on_terminal(stage, "jobs")
    assert screen.ends() == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen.text)
    assert all(len(line) <= 100 for line in plain.splitlines())
    assert "…" in plain
