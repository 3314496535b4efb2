"""The results of the engine matrix, and their table."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.matrix.engines.cases import CASES
from tests.matrix.results import Notes, StoredResults, markdown_table, write_between
from tests.matrix.roots import cache_folder
from tests.support.engines.kinds import KINDS

_BEGIN: Final = "<!-- ./dev test matrix engines --write begins here -->"
_END: Final = "<!-- and ends here -->"


class Outcome(StrEnum):
    """What came of a case."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Results(StoredResults):
    """The newest result of each case on each engine."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path or cache_folder() / "engines.json", "engine", Outcome)

    def table(self) -> str:
        """All results in Markdown: a row for each case by all its paths, the reasons below."""
        notes = Notes()
        titles = dict.fromkeys(case.title for case in CASES.values())
        rows = [
            [title, *(self._cell(kind.name, title, notes) for kind in KINDS)] for title in titles
        ]
        return markdown_table([kind.title for kind in KINDS], rows, notes)

    def _cell(self, engine: str, title: str, notes: Notes) -> str:
        """What came of a case by all its paths; the paths are named where they differ."""
        vias: dict[str, list[str]] = {}
        for name, case in CASES.items():
            if case.title == title:
                vias.setdefault(self._outcome(engine, name, notes), []).append(case.via)
        if len(vias) == 1:
            return next(iter(vias))
        return "; ".join(f"`{'`, `'.join(names)}` {outcome}" for outcome, names in vias.items())

    def _outcome(self, engine: str, case: str, notes: Notes) -> str:
        result = self.get(engine, case)
        if result is None:
            return "not run"
        if not result.reason:
            return str(result.outcome)
        return f"{result.outcome} ({notes.number(result.reason)})"


def write_table(page: Path, table: str) -> None:
    """Replace the table in a page.

    Raises:
        ValueError: The page has no marks for it.
    """
    write_between(page, _BEGIN, _END, table)
