"""What flavors say that they did to a registry, for those who collect it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: Where sentences go while somebody collects them.
_notes: Final[ContextVar[list[str] | None]] = ContextVar("transship_notes", default=None)


@contextmanager
def collected_notes() -> Iterator[list[str]]:
    """Collect what flavors say with ``note`` in this thread while the block runs."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def add_note(sentence: str) -> None:
    """Hand a sentence to whoever collects them, if anybody does."""
    notes = _notes.get()
    if notes is not None:
        notes.append(sentence)
