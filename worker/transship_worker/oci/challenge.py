"""What a 401 asks for, and the scopes of what is asked in turn.

Sources: RFC 9110, 11.6.1 (``WWW-Authenticate``); distribution's "Token Authentication
Specification" and "Token Scope Documentation".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from transship.errors import AnswerMalformed

#: Longer headers are not looked at. Unit: characters.
LONGEST_HEADER: Final = 16_384

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))", re.ASCII)
_BLANK = re.compile(r"[ \t]*")
_SEPARATOR = re.compile(r"[ \t,]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a registry offers; names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Rights on one resource: ``repository:acme/app:pull,push``."""

    kind: str
    name: str
    actions: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(sorted(self.actions))}"


Scopes = frozenset[Scope]


def pull(repository: str) -> Scope:
    """What reading from a repository needs."""
    return Scope("repository", repository, frozenset({"pull"}))


def push(repository: str) -> Scope:
    """What writing to a repository needs, reading included."""
    return Scope("repository", repository, frozenset({"pull", "push"}))


def catalog() -> Scope:
    """What listing all repositories needs."""
    return Scope("registry", "catalog", frozenset({"*"}))


def parse_scopes(text: str) -> Scopes:
    """The scopes in a challenge's ``scope``; what has not three parts is left out."""
    found = []
    for word in text.split():
        kind, colon, rest = word.partition(":")
        # A name may hold a port's colon.
        name, last, actions = rest.rpartition(":")
        allowed = frozenset(filter(None, actions.split(",")))
        if colon and last and kind and name and allowed:
            found.append(Scope(kind, name, allowed))
    return merged(found)


def merged(*many: Iterable[Scope]) -> Scopes:
    """One scope for each resource, with all its actions."""
    actions: dict[tuple[str, str], frozenset[str]] = {}
    for scopes in many:
        for scope in scopes:
            key = (scope.kind, scope.name)
            actions[key] = actions.get(key, frozenset()) | scope.actions
    return frozenset(Scope(kind, name, found) for (kind, name), found in actions.items())


def covers(held: Scopes, wanted: Scopes) -> bool:
    """Whether what is held is enough."""
    rights = {(scope.kind, scope.name): scope.actions for scope in held}
    return all(
        scope.actions <= rights.get((scope.kind, scope.name), frozenset()) for scope in wanted
    )


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """All the challenges of an answer's ``WWW-Authenticate`` headers, in their order.

    Raises:
        AnswerMalformed: a header that does not follow the grammar.
    """
    found: list[Challenge] = []
    for value in values:
        if len(value) > LONGEST_HEADER:
            raise AnswerMalformed(
                f"a WWW-Authenticate header of {len(value)} characters; "
                f"at most {LONGEST_HEADER} are read"
            )
        found.extend(_Reader(value).challenges())
    return found


class _Reader:
    """Reads one header from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def challenges(self) -> list[Challenge]:
        found: list[Challenge] = []
        self._skip(_SEPARATOR)
        while self._at < len(self._text):
            scheme = self._take(_TOKEN).lower()
            parameters: dict[str, str] = {}
            self._skip(_BLANK)
            if token := self._token68():
                parameters[""] = token
            else:
                self._parameters(parameters)
            found.append(Challenge(scheme, parameters))
            self._skip(_SEPARATOR)
        return found

    def _token68(self) -> str | None:
        found = _TOKEN68.match(self._text, self._at)
        if not found:
            return None
        self._at = found.end()
        return found[0]

    def _parameters(self, into: dict[str, str]) -> None:
        """Name and value pairs up to the next scheme, which is a name without a value."""
        while True:
            start = self._at
            self._skip(_SEPARATOR)
            name = _TOKEN.match(self._text, self._at)
            equals = _EQUALS.match(self._text, name.end()) if name else None
            if not name or not equals:
                self._at = start
                return
            self._at = equals.end()
            # Twice the same name is not allowed; the first counts.
            into.setdefault(name[0].lower(), self._value())

    def _value(self) -> str:
        quoted = _QUOTED.match(self._text, self._at)
        if quoted:
            self._at = quoted.end()
            return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
        return self._take(_TOKEN)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise AnswerMalformed(
                f"a WWW-Authenticate header that cannot be read: {self._text[:200]!a}"
            )
        self._at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
