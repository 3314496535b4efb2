"""What is measured, and what comes of it: sides that take turns, medians, ratios pair by pair."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.servers import Ground

#: The side that the others are compared with.
OURS: Final = "transship"


class Kind(StrEnum):
    """How a figure is held against another one."""

    #: Their quotient: a time, or a size.
    AT_MOST = "at most"
    #: Their quotient: a rate.
    AT_LEAST = "at least"
    #: Their difference, in the case's unit.
    MORE_BY = "more by at most"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure may be beside another one."""

    value: float
    kind: Kind = Kind.AT_MOST

    def pair(self, mine: float, theirs: float) -> float:
        """What is held against the limit."""
        return mine - theirs if self.kind is Kind.MORE_BY else mine / theirs

    def keeps(self, pair: float) -> bool:
        """Whether it is within the limit."""
        return pair >= self.value if self.kind is Kind.AT_LEAST else pair <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """What one run took, and what else it is known by."""

    value: float
    #: By name and unit, such as ``compressed MiB``.
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do the work."""

    name: str
    #: Does it once, for the round of this number, and gives what it took in the case's unit.
    #: What must be there before and what is checked after is not in it.
    run: Callable[[int], float | Figure]
    #: Where a chart has it: how much work this side does.
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides to compare."""

    theirs: str
    limit: Limit | None = None
    ours: str = OURS
    #: One of the figures beside; empty: what the case measures.
    what: str = ""


class Case(ABC):
    """Work that several sides can do."""

    #: What it is called on the command line.
    name: str
    #: One line for people.
    title: str
    #: Unit of the figures.
    unit: str = "s"
    #: Ours by a peer's: what the median of the rounds may be.
    limits: Mapping[str, Limit] = {}
    #: Our own figure: what it may be at most, in the case's unit.
    limit: float | None = None
    #: The most rounds, where the usual number would take too long; ``None``: the usual number.
    rounds: int | None = None
    #: Programs that it needs.
    programs: Sequence[str] = ("docker-registry", "redis-server")
    #: Whether it starts a Docker Engine, as root.
    root: bool = False
    #: Whether it is about how cost grows, and measured only when asked for.
    scale: bool = False

    @abstractmethod
    def sides(
        self, ground: Ground, rounds: int, wanted: Wanted
    ) -> AbstractContextManager[list[Side]]:
        """All that the work needs, for so many rounds, and who does it."""

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """Which of the sides that were measured are compared."""
        if OURS not in names:
            return []
        # Our own other figures, such as that of the whole process, are no peers.
        peers = [name for name in names if not name.startswith(OURS)]
        return [Pair(name, self.limits.get(name)) for name in peers]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sides are to be measured."""

    ours: bool = True
    peers: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one side, one a round."""

    figures: tuple[float, ...]
    #: Each with as many figures.
    beside: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    at: float | None = None

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.figures)

    @property
    def spread(self) -> float:
        """The largest less the smallest, as a part of the median."""
        return (max(self.figures) - min(self.figures)) / self.median if self.median else 0.0

    def of(self, what: str) -> tuple[float, ...]:
        """The figures, or those beside."""
        return self.beside[what] if what else self.figures


@dataclass(frozen=True, slots=True)
class Comparison:
    """One side by another."""

    pair: Pair
    #: One a round: both sides of a pair ran one after the other.
    pairs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.pairs)

    @property
    def kept(self) -> bool | None:
        """Whether it is within its limit; ``None``: it has none."""
        return None if self.pair.limit is None else self.pair.limit.keeps(self.median)


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
    found: dict[str, list[Figure]] = {side.name: [] for side in sides}
    for number in range(rounds):
        turn = number % len(sides)
        for side in [*sides[turn:], *sides[:turn]]:
            ran = side.run(number)
            figure = ran if isinstance(ran, Figure) else Figure(ran)
            found[side.name].append(figure)
            say(f"{case.name} {number + 1}/{rounds} {side.name}: {figure.value:.3f} {case.unit}")
    series = {side.name: _series(side, found[side.name]) for side in sides}
    return Result(case, series, _compare(case, series))


def _series(side: Side, figures: Sequence[Figure]) -> Series:
    beside = {what: tuple(one.beside[what] for one in figures) for what in figures[0].beside}
    return Series(tuple(one.value for one in figures), beside, side.at)


def _compare(case: Case, series: Mapping[str, Series]) -> list[Comparison]:
    found = []
    for pair in case.pairs(list(series)):
        limit = pair.limit or Limit(0)
        both = zip(series[pair.ours].of(pair.what), series[pair.theirs].of(pair.what), strict=True)
        found.append(Comparison(pair, tuple(limit.pair(*one) for one in both)))
    return found
