"""The tables in the broker's docstring: each name has a test, and each test exists."""

from __future__ import annotations

import re

import pytest

from tests.unit.project.test_guarantees import TESTS
from transship_worker import broker

LINES = (broker.__doc__ or "").splitlines()
RULE = next(line for line in LINES if line.startswith("==="))
COLUMNS = [match.start() for match in re.finditer(r"=+", RULE)]
#: First lines of rows: name, reason, test.
ROWS = [
    tuple(line[start:end].strip() for start, end in zip(COLUMNS, [*COLUMNS[1:], None], strict=True))
    for line in LINES
    if re.match(r"``[\w.*\[\]\"]+`` +\S", line)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_each_name_of_celery_and_kombu_has_a_reason_and_a_test_that_exists(
    row: tuple[str, str, str],
) -> None:
    name, reason, test = row

    assert re.fullmatch(r"``[^`]+``", name)
    assert reason
    assert re.fullmatch(r"\w+", test)
    assert any(test in known for known in TESTS)


def test_the_tables_are_read() -> None:
    assert len(ROWS) > 30
    assert len(COLUMNS) == 3
