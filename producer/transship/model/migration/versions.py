"""Versions in tags: their order, and ranges of them.

The order is that of Semantic Versioning 2.0.0, item 11 (https://semver.org). Tags are not held
to all of its grammar: a leading ``v`` is taken off, missing numbers are 0 (``1.2`` is 1.2.0),
numbers may start with 0 (``24.04``), and build metadata follows ``_``, because a tag cannot
hold a ``+`` and Helm writes ``_`` for it. As in the specification, what follows a ``-`` is a
pre-release, also in ``1.2.3-alpine``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from transship.model.migration.mistakes import shown

#: Characters of a range, and of its parts.
LONGEST: Final = 256
_TAG_LENGTH: Final = 128

_NUMBERS: Final = r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?"
_REST: Final = r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
_VERSION = re.compile(rf"{_NUMBERS}{_REST}(?:[_+][0-9A-Za-z_.+-]*)?", re.ASCII)
_OPERATOR = re.compile(r"\s*(\^|~>|~|>=|<=|!=|==|=|>|<|)\s*", re.ASCII)
_BOUND = re.compile(
    rf"v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?{_REST}(?:\+[0-9A-Za-z.-]+)?(?=[\s,]|$)",
    re.ASCII,
)
_EXAMPLES: Final = "write for example '>=1.2,<3', '^1.2', '~1.2', '1.x', '1.2.3' or 'A || B'"

#: Three numbers; then (1,) for a release, or (0, identifiers…), so that tuples compare right.
#: (0,) alone is below every pre-release of the same numbers.
Precedence = tuple[tuple[int, int, int], tuple[Any, ...]]
_RELEASE: Final = (1,)
_LOWEST: Final = (0,)


def precedence(tag: str) -> Precedence | None:
    """Where a tag stands among versions; ``None``: it is no version. Comparable."""
    found = _VERSION.fullmatch(tag) if len(tag) <= _TAG_LENGTH else None
    if found is None:
        return None
    numbers = (int(found[1]), int(found[2] or 0), int(found[3] or 0))
    return numbers, _identifiers(found[4])


def _identifiers(text: str | None) -> tuple[Any, ...]:
    """Numbers count below words, fewer identifiers below more, a release above all."""
    if text is None:
        return _RELEASE
    parts = ((0, int(part), "") if part.isdigit() else (1, 0, part) for part in text.split("."))
    return (0, *parts)


def order(tag: str) -> tuple[Any, ...]:
    """A key that sorts tags from the oldest version to the newest, the same way every time.

    Tags that are no version come before all that are, in natural order (``build-9`` before
    ``build-10``). Among tags of one version (``v1.2``, ``1.2.0``) natural order and then the
    characters decide, so that no two tags are equal.
    """
    version = precedence(tag)
    runs = re.findall(r"\d+|\D+", tag, re.ASCII)
    natural = tuple(_natural(run) for run in runs)
    return (0, natural, tag) if version is None else (1, version, natural, tag)


def _natural(run: str) -> tuple[int, int, str]:
    """Digits compare as numbers (the longer is the larger) and come before other characters."""
    if "0" <= run[0] <= "9":
        digits = run.lstrip("0")
        return 0, len(digits), digits
    return 1, 0, run


@dataclass(frozen=True, slots=True)
class _Alternative:
    """Bounds that a version must all keep."""

    #: Lower bounds, each with whether it is itself inside.
    above: tuple[tuple[bool, Precedence], ...]
    #: Upper bounds in the same way.
    below: tuple[tuple[bool, Precedence], ...]
    #: What is left out, each from the first up to but without the second.
    without: tuple[tuple[Precedence, Precedence], ...]
    prereleases: bool

    def holds(self, version: Precedence) -> bool:
        if version[1] != _RELEASE and not self.prereleases:
            return False
        return (
            all(version > bound or (inclusive and version == bound)
                for inclusive, bound in self.above)
            and all(version < bound or (inclusive and version == bound)
                    for inclusive, bound in self.below)
            and not any(low <= version < high for low, high in self.without)
        )  # fmt: skip

    @property
    def empty(self) -> bool:
        if not self.above or not self.below:
            return False
        lowest = max(bound for _, bound in self.above)
        highest = min(bound for _, bound in self.below)
        if lowest != highest:
            return lowest > highest
        return not all(inclusive for inclusive, bound in (*self.above, *self.below)
                       if bound == lowest)  # fmt: skip


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A range such as ``>=1.2,<3``, ``^1.2``, ``~1.2``, ``1.x``, with ``||`` between ranges.

    ``^`` lets everything change right of the first number that is not 0, ``~`` the last number
    (``~1.2.3`` and ``~1.2`` stay within 1.2, ``~1`` within 1). A bound with fewer numbers means
    all versions that begin so: ``<=1.2`` includes 1.2.9, ``>1.2`` starts at 1.3, ``=1.2`` is
    ``1.2.x``. Bounds are joined by commas or spaces.

    Pre-releases are left out, unless a bound between the same ``||`` names one: ``>=1.2-0`` takes
    them all. Then ``<3``, ``^1.2`` and ``1.x`` still leave out those of their end (3.0.0-rc.1);
    ``<3.0.0`` takes them, as the specification orders them.
    """

    text: str
    _alternatives: tuple[_Alternative, ...]

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """Read a range.

        Raises:
            ValueError: it cannot be read, or no version can be in it.
        """
        if len(text) > LONGEST:
            raise ValueError(f"a range of {len(text)} characters; at most {LONGEST} are allowed")
        alternatives = tuple(_alternative(text, part) for part in text.split("||"))
        if all(alternative.empty for alternative in alternatives):
            raise ValueError(f"{shown(text)}: no version can be in this range; {_EXAMPLES}")
        return cls(text, alternatives)

    def holds(self, tag: str) -> bool:
        """Whether the tag is a version of this range."""
        version = precedence(tag)
        return version is not None and any(one.holds(version) for one in self._alternatives)

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class _Bounds:
    above: list[tuple[bool, Precedence]]
    below: list[tuple[bool, Precedence]]
    without: list[tuple[Precedence, Precedence]]


def _alternative(text: str, part: str) -> _Alternative:
    bounds = _Bounds([], [], [])
    prereleases = False
    at = 0
    part = part.strip()
    if not part:
        raise ValueError(f"{shown(text)} is no version range; {_EXAMPLES}")
    while at < len(part):
        sign = _OPERATOR.match(part, at)
        # The operator's pattern may be empty, so that it always matches.
        operator, at = (sign[1], sign.end()) if sign else ("", at)
        found = _BOUND.match(part, at)
        if found is None:
            raise ValueError(
                f"{shown(text)} is no version range at {shown(part[at : at + 20])}; {_EXAMPLES}"
            )
        numbers = _numbers(text, found)
        if found[4] is not None and len(numbers) < 3:
            if operator not in {">=", "<"} or set("xX*") & set(found[0].partition("-")[0]):
                raise ValueError(
                    f"{shown(text)}: write all three numbers before '-{found[4][:20]}'"
                )
            numbers = (*numbers, *(0,) * (3 - len(numbers)))
        prereleases |= found[4] is not None
        _bound(bounds, operator, numbers, _identifiers(found[4]))
        at = found.end()
        comma = re.compile(r"\s*,\s*(?=\S)|\s+|$").match(part, at)
        if comma is None:
            raise ValueError(f"{shown(text)} ends with a comma; {_EXAMPLES}")
        at = comma.end()
    return _Alternative(
        tuple(bounds.above), tuple(bounds.below), tuple(bounds.without), prereleases
    )


def _numbers(text: str, found: re.Match[str]) -> tuple[int, ...]:
    """The numbers before the first wildcard."""
    given = [part for part in found.group(1, 2, 3) if part is not None]
    numbers: list[int] = []
    for place, part in enumerate(given):
        if part in {"x", "X", "*"}:
            if any(later not in {"x", "X", "*"} for later in given[place:]):
                raise ValueError(f"{shown(text)}: after a wildcard no number can follow")
            break
        numbers.append(int(part))
    return tuple(numbers)


def _bound(
    bounds: _Bounds, operator: str, numbers: tuple[int, ...], identifiers: tuple[Any, ...]
) -> None:
    """Add what an operator before some numbers means."""
    whole = len(numbers) == 3
    start: Precedence = (_filled(numbers), identifiers)
    first: Precedence = start if whole else (_filled(numbers), _LOWEST)
    # Where the versions that begin with these numbers end; None: there is no end.
    end = _following(numbers, len(numbers)) if numbers else None
    if operator in {"^", "~", "~>"}:
        kept = _kept(operator, numbers)
        bounds.above.append((True, start))
        if kept:
            bounds.below.append((False, _following(numbers, kept)))
    elif operator in {"", "=", "=="}:
        bounds.above.append((True, start))
        if whole:
            bounds.below.append((True, start))
        elif end is not None:
            bounds.below.append((False, end))
    elif operator == "!=":
        after: Precedence = (start[0], (*identifiers, (0, -1, "")))
        bounds.without.append((first, after if whole else end or _nothing()))
    elif operator == ">=":
        bounds.above.append((True, start))
    elif operator == "<":
        bounds.below.append((False, first))
    elif operator == ">":
        bounds.above.append((False, start) if whole else (True, end or _nothing()))
    elif whole:
        bounds.below.append((True, start))
    elif end is not None:
        bounds.below.append((False, end))


def _kept(operator: str, numbers: tuple[int, ...]) -> int:
    """How many leading numbers ``^`` or ``~`` holds."""
    if operator != "^":
        return min(len(numbers), 2)
    for place, number in enumerate(numbers):
        if number:
            return place + 1
    return len(numbers)


def _filled(numbers: tuple[int, ...]) -> tuple[int, int, int]:
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def _following(numbers: tuple[int, ...], kept: int) -> Precedence:
    """Below all versions that come after those that begin with the first ``kept`` numbers."""
    return _filled((*numbers[: kept - 1], numbers[kept - 1] + 1)), _LOWEST


def _nothing() -> Precedence:
    """Above every version that a tag can hold."""
    return (10**200, 0, 0), _LOWEST
