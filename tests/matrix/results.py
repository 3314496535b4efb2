"""Results of the matrices of engines and of registries: stored between runs, and as tables."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case on one engine or registry."""

    #: The engine or the registry.
    subject: str
    case: str
    outcome: StrEnum
    #: Why it failed, was refused or skipped; a remark of a case that passed.
    reason: str
    #: Unit: s.
    seconds: float
    #: The commit that was tested.
    commit: str

    @property
    def line(self) -> str:
        """A line for the terminal."""
        head = f"{self.subject:<20} {self.case:<22} {self.outcome:<8} {self.seconds:>6.1f} s"
        return f"{head}  {self.reason}".rstrip()


class StoredResults:
    """The newest result of each case on each engine or registry."""

    def __init__(self, path: Path, subject: str, outcomes: Callable[[str], StrEnum]) -> None:
        """``subject``: how the file calls what is tested. ``outcomes``: parses an outcome."""
        self._path = path
        self._subject = subject
        self._outcomes = outcomes
        self._results: dict[tuple[str, str], CaseResult] = {}
        self._read()

    def add(self, result: CaseResult) -> None:
        """Store a result in place of an older one; other runs may do so at the same time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read()
            self._put(result)
            values = [self._values(stored) for stored in self._results.values()]
            self._path.write_text(json.dumps(values, indent=1))

    def get(self, subject: str, case: str) -> CaseResult | None:
        """The newest result of a case; ``None``: it was not run."""
        return self._results.get((subject, case))

    def _read(self) -> None:
        if self._path.exists():
            for values in json.loads(self._path.read_text()):
                outcome = self._outcomes(values.pop("outcome"))
                self._put(CaseResult(values.pop(self._subject), outcome=outcome, **values))

    def _put(self, result: CaseResult) -> None:
        self._results[result.subject, result.case] = result

    def _values(self, result: CaseResult) -> dict[str, Any]:
        return {
            self._subject: result.subject,
            "case": result.case,
            "outcome": result.outcome,
            "reason": result.reason,
            "seconds": result.seconds,
            "commit": result.commit,
        }


class Notes:
    """The numbered list below a table: each reason once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, reason: str) -> int:
        """The number of a reason, which is added if it is new."""
        # A list item of Markdown is one line.
        line = " ".join(reason.split()).replace("|", "\\|").replace("<", "&lt;")
        return self._numbers.setdefault(line, len(self._numbers) + 1)

    def lines(self) -> list[str]:
        """The items."""
        return [f"{number}. {reason}" for reason, number in self._numbers.items()]


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], notes: Notes) -> str:
    """A row for each case, a column for each title, and below what the rows put into the notes."""
    cells = [["case", *titles], ["---"] * (len(titles) + 1), *rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    below = notes.lines()
    return "\n".join([*lines, *(["", *below] if below else [])])


def write_between(page: Path, begin: str, end: str, table: str) -> None:
    """Replace the table between two marks of a page.

    Raises:
        ValueError: The page has no marks for it.
    """
    before, found_begin, rest = page.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{page} has no line {begin if not found_begin else end}")
    page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")
