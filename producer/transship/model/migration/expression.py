"""Regular expressions over tags, in the part of Python's syntax that is matched in linear time.

An expression is looked for anywhere in the tag; ``^`` and ``$`` anchor it. There are
characters, ``.``, ``[…]``, ``\\d``, ``\\w``, ``\\s`` and their opposites, groups, ``|`` and the
repeats ``*``, ``+``, ``?``, ``{m,n}``. What needs a search that can grow without bounds, or makes
no sense for a tag, is refused: references back, looking ahead and behind, flags.
"""

from __future__ import annotations

import re
from typing import Final

from transship.model.migration.automaton import (
    ANY,
    AT_END,
    AT_START,
    LARGEST,
    Automaton,
    Program,
    TooLarge,
    char,
    either,
    repeat,
    sized,
)
from transship.model.migration.mistakes import shown

#: Characters of an expression.
LONGEST: Final = 256
_DEEPEST: Final = 32

_COUNT = re.compile(r"\{(?!\})(\d*)(?:(,)(\d*))?\}", re.ASCII)
_GROUP_NAME = re.compile(r"P<\w+>", re.ASCII)
_NESTED_SET = re.compile(r"\[\^?\[")


def _bits(pattern: str) -> int:
    kind = re.compile(pattern, re.ASCII)
    return sum(1 << code for code in range(128) if kind.fullmatch(chr(code)))


_CLASSES: Final = {letter: _bits(f"\\{letter}") for letter in "dDwWsS"}
_DOT: Final = _bits(".")
_CONTROLS: Final = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "a": 7}


class Expression:
    """A regular expression that is safe to run on a stranger's behalf."""

    __slots__ = ("_automaton", "steps", "text")

    def __init__(self, text: str, program: Program) -> None:
        self.text: Final = text
        #: Instructions that it has, written out.
        self.steps: Final = len(program)
        self._automaton = Automaton(program, anywhere=True)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression.

        Raises:
            ValueError: it does not compile, is too long, or uses what is not there.
        """
        if not text:
            raise ValueError("an empty expression fits every tag; leave it out")
        if len(text) > LONGEST:
            raise ValueError(
                f"an expression of {len(text)} characters; at most {LONGEST} are allowed"
            )
        if not (text.isascii() and text.isprintable()):
            raise ValueError(f"{shown(text)}: tags are ASCII; write letters, digits, '_.-'")
        if _NESTED_SET.search(text):
            raise ValueError(f"{shown(text)}: write a '[' within a set as '\\['")
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{shown(text)} is not a regular expression: {error}") from None
        try:
            return cls(text, _Reader(text).whole())
        except TooLarge:
            raise ValueError(
                f"{shown(text)} repeats too much: written out it has more than {LARGEST} steps"
            ) from None

    def found_in(self, tag: str) -> bool:
        """Whether the expression fits anywhere in the tag."""
        return self._automaton.matches(tag)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Reader:
    """Reads an expression that Python's ``re`` accepts; what it does not know it refuses."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> Program:
        return sized(self._alternatives())

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _refuse(self, what: str, instead: str) -> ValueError:
        return ValueError(f"{shown(self._text)}: {what} cannot be used here; {instead}")

    def _alternatives(self) -> Program:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._refuse("so deep a nesting", f"at most {_DEEPEST} groups in one another")
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._depth -= 1
        program = branches.pop()
        while branches:
            program = either(branches.pop(), program)
        return program

    def _sequence(self) -> Program:
        program: Program = ()
        while self._next() not in {"", "|", ")"}:
            program = sized(program + self._repeated())
        return program

    def _repeated(self) -> Program:
        program = self._item()
        count = self._count()
        if count is None:
            return program
        if self._take("+"):
            raise self._refuse("a possessive repeat", "leave the second '+' out")
        self._take("?")  # lazy or greedy: the same tags fit
        return repeat(program, *count)

    def _count(self) -> tuple[int, int | None] | None:
        for sign, least, most in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self._take(sign):
                return least, most
        found = _COUNT.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        least = int(found[1] or 0)
        if found[2] is None:
            return least, least
        return least, int(found[3]) if found[3] else None

    def _item(self) -> Program:
        if self._take("("):
            return self._group()
        if self._take("["):
            return char(self._set())
        if self._take("."):
            return char(_DOT)
        if self._take("^"):
            return AT_START
        if self._take("$"):
            return AT_END
        if self._take("\\"):
            return char(self._escaped())
        self._at += 1
        return char(1 << ord(self._text[self._at - 1]))

    def _group(self) -> Program:
        if self._take("?") and not self._take(":"):
            name = _GROUP_NAME.match(self._text, self._at)
            if name is None:
                raise self._refuse("'(?'", "write plain groups: (…) or (?:…)")
            self._at = name.end()
        program = self._alternatives()
        self._take(")")
        return program

    def _escaped(self) -> int:
        letter = self._next()
        self._at += 1
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in _CONTROLS:
            return 1 << _CONTROLS[letter]
        if letter.isalnum():
            raise self._refuse(f"'\\{letter}'", "there are \\d \\w \\s and escaped signs")
        return 1 << ord(letter)

    def _set(self) -> int:
        inverted = self._take("^")
        bits = 0
        first = True
        while first or self._next() != "]":
            first = False
            low = self._member()
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in {"]", ""}:
                self._at += 1
                high = self._member()
                bits |= (1 << high.bit_length()) - (1 << (low.bit_length() - 1))
            else:
                bits |= low
        self._at += 1
        return ANY & ~bits if inverted else bits

    def _member(self) -> int:
        if self._take("\\"):
            return self._escaped()
        self._at += 1
        return 1 << ord(self._text[self._at - 1])
