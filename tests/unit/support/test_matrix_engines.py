"""The engine matrix: what its arguments select, and the table of its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.matrix.command import select
from tests.matrix.engines.cases import CASES
from tests.matrix.engines.results import Outcome, Results, write_table
from tests.matrix.results import CaseResult
from tests.support.engines.kinds import BY_NAME


def result(outcome: Outcome, reason: str = "", case: str = "tiny-engine") -> CaseResult:
    return CaseResult("podman-5.8", case, outcome, reason, 1.0, "abc1234")


def test_without_words_all_engines_and_cases_are_selected() -> None:
    assert select([], engine=BY_NAME, case=CASES) == [list(BY_NAME), list(CASES)]


def test_words_select_engines_and_cases_and_a_star_all_that_begin_so() -> None:
    engines, cases = select(["podman-*", "tiny-engine", "login*"], engine=BY_NAME, case=CASES)

    assert engines == ["podman-5.4", "podman-5.8"]
    assert cases == ["tiny-engine", "login", "login-wrong", "login-missing"]


def test_a_word_that_names_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown engine or case: podman-6"):
        select(["podman-6"], engine=BY_NAME, case=CASES)


def test_a_newer_result_replaces_an_older_one_also_in_another_run(tmp_path: Path) -> None:
    first = Results(tmp_path / "results.json")
    first.add(result(Outcome.FAILED, "no digest"))
    Results(tmp_path / "results.json").add(result(Outcome.PASSED))

    table = Results(tmp_path / "results.json").table()

    assert table.count("passed") == 1
    assert "failed" not in table


def test_the_file_of_results_keeps_its_form_so_that_results_of_older_commits_are_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "results.json"

    Results(file).add(result(Outcome.FAILED, "no digest"))

    stored = {
        "engine": "podman-5.8",
        "case": "tiny-engine",
        "outcome": "failed",
        "reason": "no digest",
        "seconds": 1.0,
        "commit": "abc1234",
    }
    assert file.read_text() == json.dumps([stored], indent=1)
    assert Results(file).get("podman-5.8", "tiny-engine") == result(Outcome.FAILED, "no digest")


def test_the_table_names_each_reason_once_and_the_paths_where_they_differ(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    results.add(result(Outcome.FAILED, "a | b\nc"))
    results.add(result(Outcome.FAILED, "a | b\nc", "tiny-stream"))
    results.add(result(Outcome.SKIPPED, "not here", "tiny-auto"))
    results.add(result(Outcome.PASSED, case="login"))
    results.add(result(Outcome.PASSED, "refused", "platform"))

    lines = results.table().splitlines()

    assert lines[2].startswith("| tiny image | not run |")
    assert lines[2].endswith("| `engine`, `stream` failed (1); `auto` skipped (2) |")
    assert next(line for line in lines if line.startswith("| login |")).endswith("| passed |")
    platform = next(line for line in lines if line.startswith("| index, `--platform` |"))
    assert platform.endswith("| passed (3) |")
    assert lines[-3:] == ["1. a \\| b c", "2. not here", "3. refused"]


def test_the_table_replaces_the_one_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = (
        "<!-- ./dev test matrix engines --write begins here -->",
        "<!-- and ends here -->",
    )
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")

    write_table(page, "new")

    assert page.read_text() == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="has no line"):
        write_table(page, "new")
