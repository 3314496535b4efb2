"""The registry matrix chooses what is named, and its table says what came of each case."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix.command import select
from tests.matrix.registries.cases import CASES
from tests.matrix.registries.kinds import BY_NAME, KINDS
from tests.matrix.registries.results import Outcome, Results, write_table
from tests.matrix.results import CaseResult


def test_without_a_word_all_of_it_is_run() -> None:
    assert select([], registry=BY_NAME, case=CASES) == [list(BY_NAME), list(CASES)]


def test_words_choose_registries_and_cases() -> None:
    registries, cases = select(["crane", "ecr", "copy*"], registry=BY_NAME, case=CASES)
    assert registries == ["crane", "ecr"]
    assert "copy-index" in cases
    assert all(name.startswith("copy") for name in cases)


def test_a_word_that_names_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown registry or case: harbor"):
        select(["harbor"], registry=BY_NAME, case=CASES)


def test_every_known_refusal_is_of_a_case_that_the_registry_can_be_asked() -> None:
    for kind in KINDS:
        assert set(kind.refusals) <= set(CASES)
        assert all(CASES[name].needs <= kind.traits for name in kind.refusals)


def test_the_table_has_each_outcome_and_the_reasons_of_failures(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results = Results(file)
    for case, outcome, reason in (
        ("copy", Outcome.PASSED, ""),
        ("copy-index", Outcome.FAILED, "2 attempts,\nnot 1"),
        ("sha512-layer", Outcome.REFUSED, "digest_invalid"),
        ("wrong-login", Outcome.NOT_APPLICABLE, "it has no login"),
    ):
        results.add(CaseResult("crane", case, outcome, reason, 0.5, "abc"))
    page = tmp_path / "page.md"
    marks = [f"<!-- ./dev test matrix registries --write {end} here -->" for end in _ENDS]
    page.write_text("before\n" + "\nold\n".join(marks) + "\nafter\n")

    write_table(page, Results(file).table())

    text = page.read_text()
    column = [kind.name for kind in KINDS].index("crane") + 2
    cells = {
        row.split(" | ")[0].removeprefix("| "): row.removesuffix(" |").split(" | ")[column - 1]
        for row in text.splitlines()
        if row.startswith("| ")
    }
    assert cells[CASES["copy"].title] == "pass"
    assert cells[CASES["copy-index"].title] == "fails (1)"
    assert cells[CASES["sha512-layer"].title] == "`digest_invalid`"
    assert cells[CASES["wrong-login"].title] == "-"
    assert cells[CASES["tags"].title] == "not run"
    assert "1. 2 attempts, not 1" in text
    assert "\nold\n" not in text
    assert text.startswith("before")
    assert text.endswith("after\n")


_ENDS = ("begins", "ends")
