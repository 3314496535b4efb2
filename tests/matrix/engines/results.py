"""The results of the engine matrix: stored between runs, and written as a table of docs."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.matrix.engines.cases import CASES
from tests.matrix.roots import cache_folder
from tests.support.engines.kinds import KINDS

_BEGIN: Final = "<!-- ./dev test matrix engines --write begins here -->"
_END: Final = "<!-- and ends here -->"


class Outcome(StrEnum):
    """What came of a case."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One case on one engine."""

    engine: str
    case: str
    outcome: Outcome
    #: Why it failed or was skipped; a remark of a case that passed.
    reason: str
    #: Unit: s.
    seconds: float
    #: The commit that was tested.
    commit: str

    @property
    def line(self) -> str:
        """A line for the terminal."""
        head = f"{self.engine:<18} {self.case:<22} {self.outcome:<7} {self.seconds:>6.1f} s"
        return f"{head}  {self.reason}".rstrip()


class Results:
    """The newest result of each case on each engine."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or cache_folder() / "engines.json"
        self._results: dict[tuple[str, str], EngineResult] = {}
        self._read()

    def add(self, result: EngineResult) -> None:
        """Store a result in place of an older one; other runs may do so at the same time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read()
            self._keep(result)
            values = [asdict(result) for result in self._results.values()]
            self._path.write_text(json.dumps(values, indent=1))

    def _read(self) -> None:
        if self._path.exists():
            for values in json.loads(self._path.read_text()):
                values["outcome"] = Outcome(values["outcome"])
                self._keep(EngineResult(**values))

    def table(self) -> str:
        """All results in Markdown: a row for each case by all its paths, the reasons below."""
        reasons: dict[str, int] = {}
        titles = list(dict.fromkeys(case.title for case in CASES.values()))
        rows = [
            ["case", *(kind.title for kind in KINDS)],
            ["---"] * (len(KINDS) + 1),
            *(
                [title, *(self._cell(kind.name, title, reasons) for kind in KINDS)]
                for title in titles
            ),
        ]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        notes = [f"{number}. {reason}" for reason, number in reasons.items()]
        return "\n".join([*lines, *(["", *notes] if notes else [])])

    def _keep(self, result: EngineResult) -> None:
        self._results[result.engine, result.case] = result

    def _cell(self, engine: str, title: str, reasons: dict[str, int]) -> str:
        """What came of a case by all its paths; the paths are named where they differ."""
        vias: dict[str, list[str]] = {}
        for name, case in CASES.items():
            if case.title == title:
                vias.setdefault(self._outcome(engine, name, reasons), []).append(case.via)
        if len(vias) == 1:
            return next(iter(vias))
        return "; ".join(f"`{'`, `'.join(names)}` {outcome}" for outcome, names in vias.items())

    def _outcome(self, engine: str, case: str, reasons: dict[str, int]) -> str:
        result = self._results.get((engine, case))
        if result is None:
            return "not run"
        if not result.reason:
            return str(result.outcome)
        number = reasons.setdefault(_one_line(result.reason), len(reasons) + 1)
        return f"{result.outcome} ({number})"


def write_table(page: Path, table: str) -> None:
    """Replace the table in a page.

    Raises:
        ValueError: The page has no marks for it.
    """
    text = page.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no line {_BEGIN}")
    page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


def counts(results: Sequence[EngineResult]) -> Mapping[str, int]:
    """How many cases had each outcome."""
    return {outcome: sum(result.outcome is outcome for result in results) for outcome in Outcome}


def _one_line(text: str) -> str:
    """A reason that fits into a list item of Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
