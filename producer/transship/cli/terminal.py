"""What the terminal is, and what it can show."""

from __future__ import annotations

import os
import shutil
from typing import IO

from transship_config.text import clean as clean


def terminal(stream: IO[str] | None) -> bool:
    """Whether the stream is a terminal; Python has ``None`` for one that was closed."""
    return stream is not None and stream.isatty()


def terminal_width(stream: IO[str] | None) -> int | None:
    """Columns of the terminal that the stream is; ``None`` when it is not a terminal."""
    return shutil.get_terminal_size().columns if terminal(stream) else None


def coloured(stream: IO[str] | None) -> bool:
    """Whether colours may be written: a terminal that can, and no ``NO_COLOR`` (no-color.org)."""
    dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return terminal(stream) and not dumb
