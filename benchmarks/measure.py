"""What is measured, and what comes of it: sides that take turns, medians, ratios pair by pair."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.servers import Ground

#: The side that the others are compared with.
OURS: Final = "longshore"


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do the work."""

    name: str
    #: Does it once, for the round of this number, and gives what it took in the case's unit.
    #: What must be there before and what is checked after is not in it.
    run: Callable[[int], float]


class Case(ABC):
    """Work that several sides can do."""

    #: What it is called on the command line.
    name: str
    #: One line for people.
    title: str
    #: Unit of the figures.
    unit: str = "s"
    #: Our median by a peer's: what it may be at most.
    limits: Mapping[str, float] = {}
    #: Our own figure: what it may be at most, in the case's unit.
    limit: float | None = None
    #: Rounds where the usual number would take too long; ``None``: the usual number.
    rounds: int | None = None

    @abstractmethod
    def sides(
        self, ground: Ground, rounds: int, wanted: Wanted
    ) -> AbstractContextManager[list[Side]]:
        """All that the work needs, for so many rounds, and who does it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sides are to be measured."""

    ours: bool = True
    peers: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one side, one a round."""

    figures: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.figures)

    @property
    def spread(self) -> float:
        """The largest less the smallest, as a part of the median."""
        return (max(self.figures) - min(self.figures)) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours by a peer's."""

    peer: str
    #: One a round: both sides of a pair ran one after the other.
    ratios: tuple[float, ...]
    limit: float | None

    @property
    def median(self) -> float:
        """The middle ratio."""
        return statistics.median(self.ratios)

    @property
    def kept(self) -> bool | None:
        """Whether it is within its limit; ``None``: it has none."""
        return None if self.limit is None else self.median <= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one case."""

    case: Case
    series: Mapping[str, Series]
    comparisons: Sequence[Comparison] = field(default=())

    @property
    def kept(self) -> bool:
        """Whether nothing is over a limit."""
        ours = self.series.get(OURS)
        over = ours is not None and self.case.limit is not None and ours.median > self.case.limit
        return not over and all(one.kept is not False for one in self.comparisons)


def measure(case: Case, sides: Sequence[Side], rounds: int, say: Callable[[str], None]) -> Result:
    """Let the sides take turns; who begins changes from round to round."""
    figures: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        turn = number % len(sides)
        for side in [*sides[turn:], *sides[:turn]]:
            figure = side.run(number)
            figures[side.name].append(figure)
            say(f"{case.name} {number + 1}/{rounds} {side.name}: {figure:.3f} {case.unit}")
    series = {name: Series(tuple(found)) for name, found in figures.items()}
    return Result(case, series, _compare(case, series))


def _compare(case: Case, series: Mapping[str, Series]) -> list[Comparison]:
    ours = series.get(OURS)
    if ours is None:
        return []
    found = []
    for name, other in series.items():
        # Our own other figures, such as that of the whole process, are no peers.
        if not name.startswith(OURS):
            pairs = zip(ours.figures, other.figures, strict=True)
            ratios = tuple(mine / theirs for mine, theirs in pairs)
            found.append(Comparison(name, ratios, case.limits.get(name)))
    return found
