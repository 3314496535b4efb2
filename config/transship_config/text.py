"""Text for messages: sanitized untrusted input, and the nearest known name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache


def clean(text: str) -> str:
    """The text with everything that is not printable (control, bidi, line ends) escaped.

    Job records, logs and messages hold what registries, engines and other people wrote.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def did_you_mean(wrong: str, known: Sequence[str]) -> str:
    """The end of an error line: the nearest known name, then all of them."""
    near = _nearest(wrong, tuple(known))
    hint = f" did you mean {near!r}?" if near else ""
    return f"{hint} known: {', '.join(known) or 'none'}"


@lru_cache(maxsize=1024)
def _nearest(wrong: str, known: tuple[str, ...]) -> str | None:
    """Cached: a text with many mistakes often repeats the same one."""
    matches = get_close_matches(wrong, known, n=1)
    return matches[0] if matches else None
