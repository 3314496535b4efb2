"""Text for messages: sanitized untrusted input, and the nearest known name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Final


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


#: Names that one message lists.
NAMES_MOST: Final = 50


def did_you_mean(wrong: str, known: Sequence[str]) -> str:
    """The end of an error line: the nearest known name, then all of them, if they are not many."""
    near = _nearest(wrong, tuple(known))
    hint = f" did you mean {near!r}?" if near else ""
    return f"{hint} known: {some_of(known) or 'none'}"


def some_of(names: Sequence[str]) -> str:
    """Names for a message: the first ones, and how many there are more."""
    more = f" and {len(names) - NAMES_MOST} more" if len(names) > NAMES_MOST else ""
    return ", ".join(names[:NAMES_MOST]) + more


@lru_cache(maxsize=1024)
def _nearest(wrong: str, known: tuple[str, ...]) -> str | None:
    """Cached: a text with many mistakes often repeats the same one."""
    matches = get_close_matches(wrong, known, n=1)
    return matches[0] if matches else None
