"""The results of the registry matrix, and their table."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.matrix.registries.cases import CASES
from tests.matrix.registries.kinds import KINDS
from tests.matrix.results import Notes, StoredResults, markdown_table, write_between
from tests.matrix.roots import cache_folder

_BEGIN: Final = "<!-- ./dev test matrix registries --write begins here -->"
_END: Final = "<!-- ./dev test matrix registries --write ends here -->"


class Outcome(StrEnum):
    """What came of a case."""

    PASSED = "pass"
    #: As the registry is known to.
    REFUSED = "refused"
    FAILED = "fails"
    #: The registry lacks what the case is about.
    NOT_APPLICABLE = "-"


class Results(StoredResults):
    """The newest result of each case on each registry."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path or cache_folder() / "registries.json", "registry", Outcome)

    def table(self) -> str:
        """All results in Markdown: a row for each case, and the reasons of failures below."""
        notes = Notes()
        rows = [
            [case.title, *(self._cell(kind.name, name, notes) for kind in KINDS)]
            for name, case in CASES.items()
        ]
        return markdown_table([kind.title for kind in KINDS], rows, notes)

    def _cell(self, registry: str, case: str, notes: Notes) -> str:
        result = self.get(registry, case)
        if result is None:
            return "not run"
        if result.outcome is Outcome.REFUSED:
            return f"`{result.reason}`"
        if result.outcome is Outcome.FAILED:
            return f"fails ({notes.number(result.reason)})"
        return str(result.outcome)


def write_table(page: Path, table: str) -> None:
    """Replace the table in a page.

    Raises:
        ValueError: The page has no marks for it.
    """
    write_between(page, _BEGIN, _END, table)
