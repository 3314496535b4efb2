"""Matching in linear time: no pattern of a stranger can hold a worker up.

Python's ``re`` searches by trying again and has no time limit: ``(a+)+$`` against 40 letters
does not come to an end. Patterns of a specification run on workers, so they run here, as a
set of states that goes over the text once (K. Thompson, "Regular Expression Search
Algorithm", 1968; the way of RE2). A text of n characters costs at most n times the size of the
program, and each pair of (set of states, character) is worked out only once.

A program is a tuple of instructions with relative jumps, so that programs are put together by
writing one behind the other. Texts are ASCII, as repository names and tags are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: Instructions that a program may have: bounds both memory and time.
LARGEST: Final = 1024
#: States in the steps that are remembered at a time; about 100 bytes each. It bounds the memory
#: of expressions whose sets of states are many and large.
_REMEMBERED: Final = 32_768

#: One character of a set, given as the bits of its codes.
_CHAR: Final = 0
#: Go on at two places.
_SPLIT: Final = 1
_JUMP: Final = 2
_START: Final = 3
_END: Final = 4
_MATCH: Final = 5

Instruction = tuple[int, int, int]
Program = tuple[Instruction, ...]

#: The bits of all ASCII characters.
ANY: Final = (1 << 128) - 1
AT_START: Final[Program] = ((_START, 0, 0),)
AT_END: Final[Program] = ((_END, 0, 0),)


class TooLarge(ValueError):
    """A program of more than ``LARGEST`` instructions."""


def char(bits: int) -> Program:
    """One character of a set."""
    return ((_CHAR, bits, 0),)


def literal(text: str) -> Program:
    """This ASCII text."""
    return tuple((_CHAR, 1 << ord(c), 0) for c in text)


def either(first: Program, second: Program) -> Program:
    """One of two programs."""
    return sized(
        ((_SPLIT, 1, len(first) + 2), *first, (_JUMP, len(second) + 1, 0), *second),
    )


def optional(program: Program) -> Program:
    """A program, or nothing."""
    return ((_SPLIT, 1, len(program) + 1), *program)


def star(program: Program) -> Program:
    """A program any number of times."""
    size = len(program)
    return ((_SPLIT, 1, size + 2), *program, (_JUMP, -(size + 1), 0))


def repeat(program: Program, least: int, most: int | None) -> Program:
    """A program ``least`` to ``most`` times; ``None``: no limit.

    Raises:
        TooLarge: written out, it is too long.
    """
    if (len(program) + 1) * max(least, most or 0) > LARGEST:
        raise TooLarge
    result = program * least
    if most is None:
        return sized(result + star(program))
    # Each of those that may be left out jumps over all that follow; not built from the inside out,
    # which takes the square of their number.
    rest: list[Instruction] = []
    for left in range(most - least, 0, -1):
        rest.append((_SPLIT, 1, left * (len(program) + 1)))
        rest.extend(program)
    return sized((*result, *rest))


def sized(program: Program) -> Program:
    """The program, if it is not too large.

    Raises:
        TooLarge: it is.
    """
    if len(program) > LARGEST:
        raise TooLarge
    return program


class Automaton:
    """A program that can be asked. What it remembers is bounded; threads may share it."""

    __slots__ = ("_first", "_known", "_match", "_program", "_weight")

    def __init__(self, program: Program, *, anywhere: bool) -> None:
        """``anywhere``: the program may begin and end within the text."""
        tail: Program = (*(star(char(ANY)) if anywhere else ()), (_MATCH, 0, 0))
        head = star(char(ANY)) if anywhere else ()
        self._program = (*head, *program, *tail)
        self._match = len(self._program) - 1
        self._known: dict[tuple[frozenset[int], int], frozenset[int]] = {}
        self._weight = 0
        self._first = self._closure((0,), at_start=True, at_end=False)

    def matches(self, text: str) -> bool:
        """Whether the text fits; a text that is not ASCII never does."""
        if not text.isascii():
            return False
        states = self._first
        for code in text.encode():
            if not states:
                return False
            following = self._known.get((states, code))
            states = self._step(states, code) if following is None else following
        if self._match in states:
            return True
        return self._match in self._closure(states, at_start=not text, at_end=True)

    def _step(self, states: frozenset[int], code: int) -> frozenset[int]:
        bit = 1 << code
        program = self._program
        after = (at + 1 for at in states if program[at][0] == _CHAR and program[at][1] & bit)
        result = self._closure(after, at_start=False, at_end=False)
        # Several threads may come here at once: the worst is a step worked out again.
        self._weight += len(result) + 4
        if self._weight > _REMEMBERED:
            self._known.clear()
            self._weight = len(result) + 4
        self._known[states, code] = result
        return result

    def _closure(self, places: Iterable[int], *, at_start: bool, at_end: bool) -> frozenset[int]:
        """All places that can be reached without taking a character, that wait for one."""
        todo = list(places)
        seen = set(todo)
        waiting = set()
        while todo:
            at = todo.pop()
            kind, first, second = self._program[at]
            following: tuple[int, ...] = ()
            if kind == _SPLIT:
                following = (at + first, at + second)
            elif kind == _JUMP:
                following = (at + first,)
            elif (kind == _START and at_start) or (kind == _END and at_end):
                following = (at + 1,)
            elif kind != _START:
                waiting.add(at)
            fresh = [place for place in following if place not in seen]
            seen.update(fresh)
            todo.extend(fresh)
        return frozenset(waiting)
