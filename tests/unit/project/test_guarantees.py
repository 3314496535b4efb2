"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.repository import ROOT


def names_of_tests() -> Iterator[str]:
    """What ``-k`` looks at, as far as it stands in the files."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for path in (ROOT / "tests").rglob("test_*.py"):
        yield str(path.relative_to(ROOT / "tests").with_suffix(""))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, functions) and node.name.startswith("test_"):
                yield node.name


def named() -> list[str]:
    """The words in the last column of each table, without the commands."""
    found = []
    for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines():
        cells = line.strip().strip("|").split("|")
        if line.startswith("| ") and len(cells) > 1:
            found += [word for word in re.findall(r"`([^`]+)`", cells[-1]) if " " not in word]
    return found


TESTS = sorted(set(names_of_tests()))


@pytest.mark.parametrize("word", sorted(set(named())))
def test_each_test_that_a_guarantee_names_is_there(word: str) -> None:
    assert any(word.removesuffix("*") in name for name in TESTS)


def test_each_guarantee_names_a_test_or_a_run() -> None:
    assert len(named()) > 40
