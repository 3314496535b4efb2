"""Names that may be asked for: nothing else gets into a URL.

Sources: distribution's grammar for repositories; distribution-spec 1.1, "Pulling manifests".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

from transship.model.references import NAME_LENGTH

#: No segment is ``.`` or ``..``.
_SEGMENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
_BASE_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*/?", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
#: How much of a skipped entry is shown. Unit: characters.
_SHOWN: Final = 100
#: How much of it is looked at for that. Unit: characters.
_LOOKED_AT: Final = 4_096

#: Hears what a person should know of a list, in one line.
Warn = Callable[[str], None]


def is_repository(name: str) -> bool:
    """Whether a repository may be called so."""
    return len(name) <= NAME_LENGTH and _REPOSITORY.fullmatch(name) is not None


def is_tag(name: str) -> bool:
    """Whether a tag may be called so."""
    return _TAG.fullmatch(name) is not None


def is_base_path(path: str) -> bool:
    """Whether a registry's API may lie below this path of its host, in ``/v2/`` there."""
    # /v2 is the API itself, which requests add.
    return not path.rstrip("/").endswith("/v2") and _BASE_PATH.fullmatch(path) is not None


class LeftOut:
    """What a list leaves out, of one kind: counted, and the first is kept to be shown."""

    def __init__(self, one: str, several: str) -> None:
        """``one`` and ``several`` say what was left out: ``symbolic link``, ``symbolic links``."""
        self._one = one
        self._several = several
        self._example = ""
        self.count = 0

    def add(self, entry: object) -> None:
        """Leave an entry out."""
        if not self.count:
            self._example = _text(entry)
        self.count += 1

    def message(self, clean: Callable[[str], str]) -> str:
        """One line for all of them; empty: there are none. ``clean`` removes secrets."""
        if not self.count:
            return ""
        example = clean(self._example)
        if len(example) > _SHOWN:
            example = f"{example[:_SHOWN]}…"
        if self.count == 1:
            return f"skipped 1 {self._one}: {example!r}"
        return f"skipped {self.count:,} {self._several}, for example {example!r}"


class Skipped(LeftOut):
    """The entries of a list that are no names."""

    def __init__(self, kind: str, valid: Callable[[str], bool]) -> None:
        """``kind``: what an entry should be: ``tag``."""
        super().__init__(f"name that is not a valid {kind}", f"names that are not valid {kind}s")
        self._valid = valid

    def names(self, entries: Iterable[object]) -> list[str]:
        """The entries that are names."""
        found = []
        for entry in entries:
            if isinstance(entry, str) and self._valid(entry):
                found.append(entry)
            else:
                self.add(entry)
        return found


def _text(entry: object) -> str:
    """An entry as text: a name as it is, else as JSON."""
    if isinstance(entry, str):
        return entry[:_LOOKED_AT]
    try:
        return json.dumps(entry, default=str)[:_LOOKED_AT]
    except (ValueError, RecursionError):
        return type(entry).__name__
