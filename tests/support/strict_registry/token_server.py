"""The token server of a strict registry, and the door that asks for its tokens."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.strict_registry.rules import Rules, TokenRules
from tests.support.strict_registry.store import Call, Counts, Refusal

SERVICE = "strict"


@dataclass
class _Token:
    #: (repository, action)
    granted: frozenset[tuple[str, str]]
    #: ``None``: any number.
    left: int | None
    #: By the monotonic clock; ``None``: never. Unit: s.
    until: float | None


class Door:
    """Gives tokens and looks at them."""

    def __init__(self, realm: str) -> None:
        self._realm = realm
        self._tokens: dict[str, _Token] = {}

    def always(self, needed: Iterable[tuple[str, str]]) -> str:
        """A token for the tests' own requests, which never dies."""
        return self._new(_Token(frozenset(needed), None, None))

    async def give(self, call: Call, rules: TokenRules, counts: Counts) -> web.Response:
        """Answer ``GET /token`` (Basic) or ``POST /token`` (password grant)."""
        if call.method == "POST":
            query = parse_qs((await call.request.read()).decode())
            user, password = (query.get(name, [""])[0] for name in ("username", "password"))
        else:
            query = parse_qs(call.request.query_string)
            user, password = _basic(call.request.headers)
        if not user or rules.users.get(user) != password:
            raise Refusal(401, "UNAUTHORIZED", "bad login")
        if query.get("service") != [SERVICE]:
            raise Refusal(400, "UNSUPPORTED", f"service must be {SERVICE}")
        scopes = [scope for text in query.get("scope", []) for scope in text.split()]
        until = None if rules.lifetime_s is None else time.monotonic() + rules.lifetime_s
        granted = frozenset(_granted(scopes, rules.rights.get(user, frozenset({"pull", "push"}))))
        token = self._new(_Token(granted, rules.requests, until))
        counts.tokens += 1
        return web.json_response(
            {"token": token, "access_token": token, "expires_in": rules.claimed_s}
        )

    def check(self, call: Call, rules: Rules) -> None:
        """Let a request in, or say what it needs.

        Raises:
            Refusal: no token, a dead one, or one for something else.
        """
        if rules.tokens is None:
            return
        needed = list(_needed(call))
        kind, _, text = call.request.headers.get("Authorization", "").partition(" ")
        token = self._tokens.get(text) if kind == "Bearer" else None
        if token is None or not _alive(token):
            raise self._challenge(needed, "invalid_token" if text else "")
        if token.left is not None:
            token.left -= 1
        if not token.granted.issuperset(needed):
            raise self._challenge(needed, "insufficient_scope")

    def _new(self, token: _Token) -> str:
        text = secrets.token_urlsafe(24)
        self._tokens[text] = token
        return text

    def _challenge(self, needed: list[tuple[str, str]], error: str) -> Refusal:
        parts = [f'realm="{self._realm}"', f'service="{SERVICE}"']
        names = dict.fromkeys(name for name, _ in needed)
        scopes = [
            f"repository:{name}:{','.join(action for one, action in needed if one == name)}"
            for name in names
        ]
        if scopes:
            parts.append(f'scope="{" ".join(scopes)}"')
        if error:
            parts.append(f'error="{error}"')
        header = {"WWW-Authenticate": f"Bearer {','.join(parts)}"}
        return Refusal(401, "UNAUTHORIZED", error or "log in", header)


def _alive(token: _Token) -> bool:
    spent = token.left is not None and token.left <= 0
    return not spent and (token.until is None or time.monotonic() < token.until)


def _needed(call: Call) -> Iterable[tuple[str, str]]:
    if call.kind == "catalog":
        yield "*", "catalog"
    if not call.repository:
        return
    yield call.repository, "pull"
    if call.method not in {"GET", "HEAD"} or call.kind == "upload":
        yield call.repository, "push"
    if source := call.request.query.get("from"):
        yield source, "pull"


def _granted(scopes: Iterable[str], rights: frozenset[str]) -> Iterable[tuple[str, str]]:
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if (kind, name) == ("registry", "catalog"):
            yield "*", "catalog"
        if kind == "repository":
            yield from ((name, action) for action in actions.split(",") if action in rights)


def _basic(headers: Mapping[str, str]) -> tuple[str, str]:
    kind, _, text = headers.get("Authorization", "").partition(" ")
    if kind != "Basic":
        return "", ""
    user, _, password = base64.b64decode(text).decode().partition(":")
    return user, password
