"""What the patterns, expressions and ranges of one specification may cost together.

Each of them is bounded by itself, and a specification of 1 MiB may hold thousands. Equal ones are
read once, and count once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from transship.model.migration.expression import Expression
from transship.model.migration.mistakes import MOST_MISTAKES
from transship.model.migration.versions import VersionRange

#: Characters of all expressions and ranges that differ, in a specification that is stored in up to
#: 64 KiB, and in a longer one: 3 to 5 µs each.
FEW_CHARACTERS: Final = 4 * 1024
MOST_CHARACTERS: Final = 64 * 1024
#: Steps that all expressions that differ have, written out, in the same way: about 100 bytes each.
FEW_STEPS: Final = 16 * 1024
MOST_STEPS: Final = 128 * 1024

_Value = TypeVar("_Value")


class TooManyMistakes(Exception):
    """Ends the parsing of a text at once; pydantic goes on after each ``ValueError``."""


class Budget:
    """The costs of one specification that is parsed; give it to pydantic as the context."""

    def __init__(self, *, short: bool = False, mistakes: int | None = None) -> None:
        """``short``: its text has 64 KiB at most.

        ``mistakes``: how many are looked at before parsing ends; ``None``: all.
        """
        self._mistakes = mistakes
        self._most_characters = FEW_CHARACTERS if short else MOST_CHARACTERS
        self._most_steps = FEW_STEPS if short else MOST_STEPS
        self._characters = 0
        self._steps = 0
        self._first = ""
        self._expressions: dict[str, Expression] = {}
        self._ranges: dict[str, VersionRange] = {}

    @classmethod
    def of_a_stored_text(cls, *, short: bool) -> Budget:
        """For what anybody may have written: nobody reads more mistakes of it."""
        return cls(short=short, mistakes=MOST_MISTAKES)

    def expression(self, text: str) -> Expression:
        """Read an expression.

        Raises:
            ValueError: it cannot be read, or there is no room for it.
        """
        found = self._expressions.get(text)
        if found is None:
            self._make_room(text)
            found = self._expressions[text] = Expression.parse(text)
            self._steps += found.steps
        if self._steps > self._most_steps:
            raise ValueError(
                "the expressions of this specification repeat too much: written out they have more "
                f"than {self._most_steps} steps"
            )
        return found

    def version_range(self, text: str) -> VersionRange:
        """Read a range of versions.

        Raises:
            ValueError: it cannot be read, or there is no room for it.
        """
        found = self._ranges.get(text)
        if found is None:
            self._make_room(text)
            found = self._ranges[text] = VersionRange.parse(text)
        return found

    def _make_room(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > self._most_characters:
            raise ValueError(
                "the expressions and version ranges of this specification that differ have more "
                f"than {self._most_characters} characters; split it into several specifications"
            )

    def count(self, mistake: ValueError) -> None:
        """Count a value that cannot be used.

        Raises:
            TooManyMistakes: nobody wants to know of more; it says what the first one was.
        """
        self._first = self._first or str(mistake)
        if self._mistakes is not None:
            self._mistakes -= 1
            if self._mistakes < 0:
                raise TooManyMistakes(self._first)


def counted(
    context: object, parse: Callable[[str], _Value], text: Callable[[object], str], value: object
) -> _Value:
    """Parse a text within the budget that pydantic's context holds, if it holds one."""
    try:
        return parse(text(value))
    except ValueError as error:
        if isinstance(context, Budget):
            context.count(error)
        raise
