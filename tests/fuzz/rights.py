"""What the fuzzer does with rights: patterns, published rights, and for whom a request is made.

Matching is compared with the definition, as a search over all ways that a pattern can be read.
"""

from __future__ import annotations

import json
from functools import cache

from transship.errors import InvalidPattern
from transship.model.on_behalf_of import OnBehalfOf
from transship.model.rights import Pattern, Rights, Verb

#: A search of all ways is for short texts. Unit: characters.
_SHORT = 60


def rights(data: bytes) -> None:
    """The first byte says what the others are."""
    kinds = (_pattern, _on_behalf_of, _published)
    kinds[data[0] % len(kinds) if data else 0](data[1:].decode("utf-8", "surrogateescape"))


def _pattern(text: str) -> None:
    written, _, repository = text.partition("\n")
    try:
        found = Pattern.parse(written)
    except InvalidPattern as error:
        _told(error)
        return
    assert str(found) == written
    assert Pattern.parse(str(found)) == found
    assert str(found).isascii()
    matches = found.matches(found.entry, repository)
    assert not found.matches(f"{found.entry}x", repository)
    if found.segments is not None and len(text) < _SHORT:
        parts = tuple(repository.split("/")) if repository else ()
        assert matches == _defined(found.segments, parts)


@cache
def _defined(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether some reading of the segments fits."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return _defined(pattern[1:], path) or (bool(path) and _defined(pattern, path[1:]))
    return bool(path) and _segment(pattern[0], path[0]) and _defined(pattern[1:], path[1:])


@cache
def _segment(pattern: str, text: str) -> bool:
    """Whether some reading of a segment's stars fits."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return _segment(pattern[1:], text) or (bool(text) and _segment(pattern, text[1:]))
    return text[:1] == pattern[0] and _segment(pattern[1:], text[1:])


def _on_behalf_of(text: str) -> None:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    try:
        found = OnBehalfOf.parse(value)
    except ValueError as error:
        _told(error)
        return
    assert OnBehalfOf.parse(found.as_json()) == found
    assert str(found).isprintable()
    gateway = Rights("gateway", acts_for=frozenset({found.account}))
    acting = gateway.on_behalf_of(found.account, Rights(found.account), found.scope)
    assert acting is not None
    if found.scope is not None:
        # A scope grants what it names, and no more.
        assert not acting.may(Verb.PUSH, "nowhere.else.example", "x")
        assert acting.describe(Verb.PUSH).isprintable()


def _published(text: str) -> None:
    try:
        found = Rights.parse(text)
    except ValueError as error:
        _told(error)
        return
    assert Rights.parse(found.to_json()) == found
    # Nobody gets everything by what was published.
    assert not found.everything


def _told(error: ValueError) -> None:
    assert str(error).isprintable(), f"{error!a} is not printable"
    assert len(str(error)) < 1_000, f"{len(str(error))} characters"
