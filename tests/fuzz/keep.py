"""Which inputs a corpus keeps: few and short ones that together reach all that any of them does.

libFuzzer's own ``-merge`` starts itself again, which it cannot within Python.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

#: Parts of the paths of the modules whose lines count.
_OWN: Final = ("/transship/", "/transship_config/", "/transship_worker/")
#: Inputs that broke something once stay, whatever else reaches the same lines.
ONCE_BROKEN: Final = "was-"
#: Inputs of one target that are kept. The shortest come first.
MOST: Final = 150

#: From which line to which, in which code.
Step = tuple[int, int, int]


def steps_of(run: Callable[[bytes], object], data: bytes) -> set[Step]:
    """The steps from line to line that an input takes in Transship's modules."""
    found: set[Step] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in _OWN):
            return None
        code, before = hash(frame.f_code), frame.f_lineno

        def lines(inner: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            found.add((code, before, inner.f_lineno))
            before = inner.f_lineno
            return lines

        return lines

    sys.settrace(trace)
    try:
        run(data)
    finally:
        sys.settrace(None)
    return found


def keep(run: Callable[[bytes], object], kept: Path, found: Iterable[Path], longest: int) -> int:
    """Make ``kept`` reach what it reaches and what ``found`` does; how many inputs it has then."""
    inputs = {path.read_bytes() for path in (*kept.iterdir(), *found)}
    for path in kept.iterdir():
        if not path.name.startswith(ONCE_BROKEN):
            path.unlink()
    reached: set[Step] = set()
    count = 0
    for data in sorted(inputs, key=lambda one: (len(one), one)):
        steps = steps_of(run, data)
        if count < MOST and len(data) <= longest and not steps <= reached:
            reached |= steps
            (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            count += 1
    return count
