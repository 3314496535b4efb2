"""Charts as inline SVG. Colours come from the page's style, by class; nothing here is a script.

Every text that comes in is escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as _escape
from typing import Final

from transship.formatting import clean, columns

#: Width of every chart in its own units; a page scales it. Unit: px at scale 1.
WIDTH: Final = 480
_HEIGHT: Final = 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 28
_ROW: Final = 40
#: Characters of a bar's label that fit above it.
_LABEL: Final = 60


def escape(text: str) -> str:
    """Text for HTML: control characters shown as escapes, mark-up as what it is."""
    return _escape(clean(text), quote=True)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of ``over_time``: shares (0 to 1) at the times of the chart."""

    #: Class that the style colours.
    kind: str
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a ``whole``, or one row of ``bars``."""

    kind: str
    label: str
    value: float
    #: The value as people read it.
    words: str


def over_time(seconds: Sequence[float], lines: Sequence[Line], title: str) -> str:
    """Shares that grow with time, as areas with a line on top."""
    longest = max(seconds[-1] if seconds else 0.0, 0.001)
    across, up = WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    base = _HEIGHT - _BOTTOM
    body = []
    for percent in (0, 25, 50, 75, 100):
        y = base - up * percent / 100
        body.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" {_y12(y)}/>')
        body.append(f'<text class="tick end" x="{_LEFT - 8}" y="{y + 4:.1f}">{percent} %</text>')
    for quarter in range(5):
        x = _LEFT + across * quarter / 4
        anchor = ("start", "mid", "mid", "mid", "end")[quarter]
        words = escape(span(longest * quarter / 4))
        body.append(f'<text class="tick {anchor}" x="{x:.1f}" y="{_HEIGHT - 8}">{words}</text>')
    for line in lines:
        points = [
            (_LEFT + across * at / longest, base - up * min(1.0, max(0.0, share)))
            for at, share in zip(seconds, line.shares, strict=True)
        ]
        # Progress stays where it is until the next image ends.
        path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
        path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
        area = f"{path}V{base}H{points[0][0]:.1f}Z"
        body.append(f'<path class="area {line.kind}" d="{area}"/>')
        body.append(f'<path class="line {line.kind}" d="{path}"/>')
    return _svg(_HEIGHT, title, body)


def span(seconds: float) -> str:
    """A length of time in two units where one says too little: ``1.5s``, ``2m 40s``, ``3h 5m``."""
    whole_seconds = round(seconds)
    if 0 < seconds < 10:
        return f"{seconds:.1f}s"
    if whole_seconds < 60:
        return f"{whole_seconds}s"
    big, small = ("m", "s") if whole_seconds < 3600 else ("h", "m")
    count, rest = divmod(whole_seconds if big == "m" else whole_seconds // 60, 60)
    return f"{count}{big} {rest}{small}" if rest else f"{count}{big}"


def _end(text: str, width: int) -> str:
    """The end of an image's name, which tells more than its start."""
    return text if columns(text) <= width else f"…{text[-(width - 1) :]}"


def _y12(y: float) -> str:
    return f'y1="{y:.1f}" y2="{y:.1f}"'


def whole(parts: Sequence[Part], title: str) -> str:
    """One bar that is divided into its parts."""
    total = sum(part.value for part in parts)
    x, body = 0.0, []
    body.append(f'<rect class="track" x="0" y="0" width="{WIDTH}" height="44" rx="8"/>')
    for part in parts:
        if total <= 0 or part.value <= 0:
            continue
        width = WIDTH * part.value / total
        label = f"{escape(part.label)}: {escape(part.words)}"
        # A gap between parts tells them apart without their colours.
        inner = max(1.0, width - 2)
        body.append(
            f'<rect class="bar {part.kind}" x="{x:.1f}" y="0" width="{inner:.1f}" height="44" '
            f'rx="4"><title>{label}</title></rect>'
        )
        if width > 64:
            share = f"{100 * part.value / total:.0f} %"
            body.append(
                f'<text class="inside mid {part.kind}" x="{x + inner / 2:.1f}" y="27">{share}'
                "</text>"
            )
        x += width
    return _svg(44, title, body)


def bars(rows: Sequence[Part], title: str) -> str:
    """One bar for each row, the longest as wide as the chart, its label above it."""
    most = max((row.value for row in rows), default=0.0) or 1.0
    body = []
    for index, row in enumerate(rows):
        y = index * _ROW
        width = max(2.0, WIDTH * row.value / most)
        label = escape(_end(clean(row.label), _LABEL - len(row.words)))
        body.append(
            f"<g><title>{escape(row.label)}: {escape(row.words)}</title>"
            f'<text class="label" x="0" y="{y + 14}">{label}</text>'
            f'<text class="value end" x="{WIDTH}" y="{y + 14}">{escape(row.words)}</text>'
            f'<rect class="track" x="0" y="{y + 20}" width="{WIDTH}" height="8" rx="4"/>'
            f'<rect class="bar {row.kind}" x="0" y="{y + 20}" width="{width:.1f}" height="8" '
            'rx="4"/></g>'
        )
    return _svg(max(_ROW, len(rows) * _ROW), title, body)


def _svg(height: int, title: str, body: Sequence[str]) -> str:
    head = (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )
    return f"{head}{''.join(body)}</svg>"
