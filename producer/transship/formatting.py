"""Text for people: escaped, aligned, short. Needs the standard library only."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from transship_config.text import clean as clean

_UNITS = (("d", 86400), ("h", 3600), ("m", 60))
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)


def clean_json(text: str) -> str:
    """JSON of the same value in which everything is printable.

    JSON itself wants only the controls below U+0020 escaped; a terminal obeys U+009B, too.
    """
    if text.isprintable():
        return text
    # Outside of its strings JSON has nothing else that is not printable, but white space.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def shorten(text: str, width: int) -> str:
    """The text cut to a width, its end given up for an ellipsis. Unit: columns."""
    if columns(text) <= width:
        return text
    kept, used = [], 0
    for c in text:
        used += columns(c)
        if used > width - 1:
            break
        kept.append(c)
    return "".join(kept) + "…"


def duration(seconds: float) -> str:
    """A length of time in one unit: ``42s``, ``3m``, ``6h``, ``2d``."""
    for letter, unit in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)}{letter}"
    return f"{max(0, int(seconds))}s"


def parse_duration(text: str) -> float:
    """Seconds, from ``90``, ``90s``, ``1.5m``, ``6h`` or ``2d``.

    Raises:
        ValueError: saying what would be right.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(
            f"{text!r} is not a length of time; write seconds (90), or 90s, 10m, 6h, 2d"
        )
    return float(found[1]) * {"": 1, "s": 1, **dict(_UNITS)}[found[2]]


def age(moment: datetime, now: datetime | None = None) -> str:
    """How long ago something was; another machine's clock may be ahead, that counts as now."""
    return duration(((now or datetime.now(UTC)) - moment).total_seconds())


def size(count: int) -> str:
    """Bytes in decimal units, as the Docker Engine writes them: ``1.4 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 99.5 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None) -> list[str]:
    """Lines of left-aligned columns, two spaces apart; all lines are cut to ``width`` if given."""
    cells = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(columns(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        line = "  ".join(
            cell + " " * (widths[i] - columns(cell)) for i, cell in enumerate(row)
        ).rstrip()
        lines.append(line if width is None else shorten(line, width))
    return lines
