"""The results of the registry matrix: stored between runs, and written as a table of docs."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.matrix.registries.cases import CASES
from tests.matrix.registries.kinds import KINDS
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


@dataclass(frozen=True, slots=True)
class RegistryResult:
    """One case on one registry."""

    registry: str
    case: str
    outcome: Outcome
    #: The code of a refusal, the reason of a failure, or a remark.
    reason: str
    #: Unit: s.
    seconds: float
    #: The commit that was tested.
    commit: str

    @property
    def line(self) -> str:
        """A line for the terminal."""
        head = f"{self.registry:<20} {self.case:<18} {self.outcome:<8} {self.seconds:>6.1f} s"
        return f"{head}  {self.reason}".rstrip()


class Results:
    """The newest result of each case on each registry."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or cache_folder() / "registries.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._results: dict[tuple[str, str], RegistryResult] = {}
        self._read()

    def add(self, result: RegistryResult) -> None:
        """Store a result in place of an older one; another run may store its own meanwhile."""
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read()
            self._keep(result)
            values = [asdict(one) for one in self._results.values()]
            self._path.write_text(json.dumps(values, indent=1))

    def table(self) -> str:
        """All results in Markdown: a row for each case, and the reasons of failures below."""
        numbers: dict[str, int] = {}
        rows = [
            ["case", *(kind.title for kind in KINDS)],
            ["---"] * (len(KINDS) + 1),
            *(
                [case.title, *(self._cell(kind.name, name, numbers) for kind in KINDS)]
                for name, case in CASES.items()
            ),
        ]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        notes = [f"{number}. {reason}" for reason, number in numbers.items()]
        return "\n".join([*lines, *(["", *notes] if notes else [])])

    def _read(self) -> None:
        if self._path.exists():
            for values in json.loads(self._path.read_text()):
                values["outcome"] = Outcome(values["outcome"])
                self._keep(RegistryResult(**values))

    def _keep(self, result: RegistryResult) -> None:
        self._results[result.registry, result.case] = result

    def _cell(self, registry: str, case: str, numbers: dict[str, int]) -> str:
        result = self._results.get((registry, case))
        if result is None:
            return "not run"
        if result.outcome is Outcome.REFUSED:
            return f"`{result.reason}`"
        if result.outcome is Outcome.FAILED:
            number = numbers.setdefault(_one_line(result.reason), len(numbers) + 1)
            return f"fails ({number})"
        return str(result.outcome)


def write_table(page: Path, table: str) -> None:
    """Replace the table in a page.

    Raises:
        ValueError: The page has no marks for it.
    """
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no line {_BEGIN}")
    page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


def counts(results: Sequence[RegistryResult]) -> str:
    """How many cases had each outcome, in words."""
    found = {one: sum(result.outcome is one for result in results) for one in Outcome}
    return (
        f"{found[Outcome.PASSED]} passed, {found[Outcome.REFUSED]} refused as expected, "
        f"{found[Outcome.FAILED]} failed, {found[Outcome.NOT_APPLICABLE]} not applicable"
    )


def _one_line(text: str) -> str:
    """A reason that fits into a list item of Markdown."""
    return " ".join(text.split()).replace("<", "&lt;")
