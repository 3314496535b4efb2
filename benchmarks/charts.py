"""Charts of measurements as SVG files: ratios beside their limits, and how cost grows.

Both have logarithmic axes: half and twice are as far from one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from transship.report.charts import escape

#: Unit: px at scale 1.
_WIDTH: Final = 760
_ROW, _TOP, _FOOT, _MARGIN = 46, 44, 40, 24
_GOOD, _BAD, _PLAIN = "#1d8a4e", "#cf3341", "#2f6fde"
_GROUND: Final = "#f8fafc"
_COLOURS: Final = ("#2f6fde", "#b45309", "#12968a", "#7c3aed", "#64748b")
_DASHES: Final = ("", "7 4", "2 3", "9 3 2 3", "1 5")
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class Ratio:
    """One row: a ratio, its least and most, and what it may be."""

    label: str
    middle: float
    least: float
    most: float
    limit: float | None
    #: ``None``: it has no limit.
    kept: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """A cost at several sizes, as a multiple of what it is at the first."""

    label: str
    points: Sequence[tuple[float, float]]


class _Axis:
    """Figures on a logarithmic axis."""

    def __init__(self, figures: Sequence[float], start: float, end: float) -> None:
        self._low = math.log(min(figures) / 1.15)
        self._high = math.log(max(figures) * 1.15)
        self._start, self._end = start, end

    def at(self, figure: float) -> float:
        """Where a figure is. Unit: px."""
        share = (math.log(figure) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> Iterator[float]:
        """Round figures within; fewer of them on a long axis."""
        steps = (1, 2, 5) if self._high - self._low < math.log(200) else (1,)
        for power in range(-6, 10):
            for step in steps:
                figure = step * 10.0**power
                if self._low <= math.log(figure) <= self._high:
                    yield figure


def ratios(title: str, rows: Sequence[Ratio]) -> str:
    """A bar for each row, from one (the peer) to the ratio; a tick is the limit."""
    figures = [1.0, *(f for row in rows for f in (row.least, row.most, row.limit or 1.0))]
    axis = _Axis(figures, _MARGIN, _WIDTH - _MARGIN)
    foot = _TOP + len(rows) * _ROW
    body = _grid(axis, _TOP, foot, "×")
    one = axis.at(1)
    body.append(_line(one, one, _TOP - 6, foot, "#0f172a", 1.5))
    for index, row in enumerate(rows):
        y = _TOP + index * _ROW
        colour = _PLAIN if row.kept is None else _GOOD if row.kept else _BAD
        body.append(_text(_MARGIN, y + 14, row.label))
        body.append(_text(_WIDTH - _MARGIN, y + 14, row.words, "end", colour))
        left, right = sorted((one, axis.at(row.middle)))
        body.append(
            f'<rect x="{left:.1f}" y="{y + 22}" width="{max(1.0, right - left):.1f}" height="12" '
            f'rx="2" fill="{colour}"/>'
        )
        # The rounds' least and most.
        body.append(_line(axis.at(row.least), axis.at(row.most), y + 28, y + 28, "#0f172a", 1.5))
        if row.limit is not None:
            at = axis.at(row.limit)
            body.append(_line(at, at, y + 18, y + 38, "#0f172a", 3))
    return _svg(foot + _FOOT, title, body)


def growth(title: str, unit: str, lines: Sequence[Line]) -> str:
    """Lines of costs for a unit of work: where one is even, cost grows as its work does."""
    left, top, bottom = 64, _TOP, 300
    across = _Axis([x for line in lines for x, _ in line.points], left, _WIDTH - _MARGIN)
    up = _Axis([0.5, 2.0, *(y for line in lines for _, y in line.points)], bottom, top)
    body = []
    for tick in up.ticks():
        y = up.at(tick)
        body.append(_line(left, _WIDTH - _MARGIN, y, y, "#cbd5e1", 2 if tick == 1 else 1))
        body.append(_text(left - 8, y + 4, f"{tick:g} ×", "end", "#475569"))
    places = dict.fromkeys(x for line in lines for x, _ in line.points)
    body += [_text(across.at(x), bottom + 18, f"{x:,.0f}", "middle", "#475569") for x in places]
    for number, line in enumerate(lines):
        colour, dash = _COLOURS[number % 5], _DASHES[number % 5]
        points = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in line.points)
        body.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" '
            f'stroke-dasharray="{dash}"/>'
        )
        y = bottom + 44 + number * 20
        body.append(
            f'<line x1="{left}" x2="{left + 36}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" '
            f'stroke-width="2.5" stroke-dasharray="{dash}"/>'
        )
        body.append(_text(left + 46, y, line.label))
    body.append(_text(_WIDTH - _MARGIN, bottom + 44, unit, "end", "#475569"))
    return _svg(bottom + 44 + len(lines) * 20 + 8, title, body)


def _grid(axis: _Axis, top: float, foot: float, unit: str) -> list[str]:
    body = []
    for tick in axis.ticks():
        x = axis.at(tick)
        body.append(_line(x, x, top - 6, foot, "#cbd5e1", 1))
        body.append(_text(x, foot + 18, f"{tick:g} {unit}", "middle", "#475569"))
    return body


def _line(x1: float, x2: float, y1: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#0f172a") -> str:
    # With an edge in the ground's colour: lines of the grid do not run through it.
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'stroke="{_GROUND}" stroke-width="4" paint-order="stroke">{escape(text)}</text>'
    )


def _svg(height: float, title: str, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" role="img" font-family="{_FONT}" font-size="13">'
    )
    # A ground of its own: readable on light and on dark pages.
    ground = (
        f'<rect x="1" y="1" width="{_WIDTH - 2}" height="{height - 2:.0f}" rx="10" '
        f'fill="{_GROUND}" stroke="#cbd5e1"/>'
    )
    heading = (
        f'<text x="{_MARGIN}" y="24" font-size="14" font-weight="600" fill="#0f172a">'
        f"{escape(title)}</text>"
    )
    inner = "\n".join([f"<title>{escape(title)}</title>", ground, heading, *body])
    return f"{head}\n{inner}\n</svg>\n"
