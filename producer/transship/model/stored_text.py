"""Bounds of a stored text, checked before it is parsed: anybody may have written it.

A JSON parser makes values of what it reads before anyone can say that there are too many, and
pydantic an error of each key that it does not know. These checks cost some passes over the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

#: Characters below which nothing of a text can be costly, and only its length is looked at.
_SMALL: Final = 2_048
_BRACKETS: Final = b"[]{}"
_NOT_BRACKETS: Final = bytes(code for code in range(256) if code not in _BRACKETS)
#: Characters of a number; Python's own numbers, and those of JSON, have fewer.
_LONG_NUMBER: Final = re.compile(rb"[0-9+.eE-]{65}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a stored text may hold at most."""

    #: What it is called in messages, with its article.
    what: str
    #: Bytes of the whole.
    longest: int
    #: Members of lists and mappings, and the lists and mappings themselves.
    values: int
    #: Lists and mappings within one another.
    depth: int = 16
    #: Bytes of one text, as it stands in the JSON.
    text: int = 8_192


#: A push or a copy.
REQUEST: Final = Bounds("a request", 64 * 1024, 2_000)
#: The planning of a migration, with a specification that is no longer than a request.
SHORT_SPECIFICATION: Final = Bounds("a specification of 64 KiB", 64 * 1024, 5_000)
#: The same with a longer one.
SPECIFICATION: Final = Bounds("a specification", 1024 * 1024, 25_000)
#: What is told of a request that is longer than that.
TOO_LONG: Final = (
    f"a push or a copy has {REQUEST.longest} bytes at most, a specification {SPECIFICATION.longest}"
)
#: A row of a plan.
ROW: Final = Bounds("a row of a plan", 256 * 1024, 2_000)


def problem_of(data: str | bytes, bounds: Bounds) -> str | None:
    """What is wrong with a text before it is parsed, in one line; ``None``: nothing.

    What is no JSON may pass: the parser says so, and makes no more of it than of a text that is.
    """
    body = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(body) > bounds.longest:
        return f"{len(body)} bytes; {bounds.what} has {bounds.longest} at most"
    if len(body) <= _SMALL:
        return None
    # What is left of escapes has no quotes; so those that are left begin and end texts.
    body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') > 4 * bounds.values:
        return f"more than {2 * bounds.values} texts; {bounds.what} has fewer"
    parts = body.split(b'"')
    if max(map(len, parts[1::2]), default=0) > bounds.text:
        return f"a text of more than {bounds.text} bytes; {bounds.what} has shorter ones"
    outside = b"".join(parts[::2])
    brackets = outside.translate(None, _NOT_BRACKETS)
    if outside.count(b",") + len(brackets) // 2 > bounds.values:
        return f"more than {bounds.values} values; {bounds.what} has fewer"
    if _LONG_NUMBER.search(outside):
        return f"a number of more than 64 characters; {bounds.what} has shorter ones"
    for _ in range(bounds.depth):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        return f"values nested more than {bounds.depth} deep, or no JSON"
    return None


def refused(problem: str, title: str = "request") -> ValidationError:
    """The error of a text whose problem was found before pydantic saw it."""
    kind = PydanticCustomError("stored_text", "{problem}", {"problem": problem})
    line: Any = {"type": kind, "loc": (), "input": None}
    return ValidationError.from_exception_data(title, [line])
