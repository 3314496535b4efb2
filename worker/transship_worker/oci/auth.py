"""Logins and tokens of one client.

Sources: distribution's "Token Authentication Specification" and "OAuth2 Token
Authentication" (the specification asks for both ways). A token is fetched once for a set of
scopes, by one request at a time, and kept until shortly before its end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from yarl import URL

from transship.errors import AnswerMalformed, Denied, RegistryUntrusted
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.docker_config import IDENTITY_USER
from transship_worker.oci.challenge import Challenge, Scopes, covers, merged, parse_scopes
from transship_worker.oci.endpoint import Endpoint, url_of
from transship_worker.oci.errors import shown
from transship_worker.oci.headers import http_date

#: The life of a token whose server does not say. Unit: s.
DEFAULT_LIFE_S: Final = 60.0
#: No token is kept for longer. Unit: s.
LONGEST_LIFE_S: Final = 86_400.0
#: A token is not used so shortly before its end, or in the last tenth of a short life. Unit: s.
MARGIN_S: Final = 10.0
#: Tokens kept of one client; those that end soonest go first.
TOKENS_KEPT: Final = 512
#: Says who asks, for the token server's own log (RFC 6749, appendix A.1).
CLIENT_ID: Final = "transship"
#: With this user name ACR takes a refresh token for a password (learn.microsoft.com, "ACR
#: authentication").
ACR_TOKEN_USER: Final = "00000000-0000-0000-0000-000000000000"  # noqa: S105
#: What a token server says that knows no POST.
_NO_POST: Final = frozenset({404, 405, 501})
#: What a token server says to a wrong login (RFC 6749, 5.2: 400 or 401).
_REFUSED: Final = frozenset({400, 401, 403})

_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. ``until`` is on the monotonic clock."""

    text: str
    scopes: Scopes
    until: float
    #: When it was asked for, on the same clock.
    asked: float = 0.0

    def __repr__(self) -> str:
        return f"Token(***, {sorted(map(str, self.scopes))})"


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What a token server answered."""

    status: int
    headers: Mapping[str, str]
    #: Holds a token.
    body: bytes = field(repr=False)


#: Asks a token server: method, URL, headers, form. Follows no redirect with a login.
AskTokenServer = Callable[
    [str, URL, Mapping[str, str], Mapping[str, str] | None], Awaitable[TokenAnswer]
]


@dataclass(frozen=True, slots=True)
class _Bearer:
    """Where tokens for this registry come from."""

    realm: URL
    service: str | None
    #: The login may be sent there.
    trusted: bool


class Authenticator:
    """Gives ``Authorization`` headers for one registry and one login."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        ask: AskTokenServer,
        *,
        renew: Callable[[], Credentials | None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._ask = ask
        self._renew = renew
        self._way: _Bearer | str | None = None
        self._tokens: dict[Scopes, Token] = {}
        self._fetches: dict[Scopes, asyncio.Task[Token]] = {}
        self._renewal: asyncio.Task[None] | None = None
        self.credentials = credentials

    @property
    def secrets(self) -> tuple[str, ...]:
        """Tokens that must not be shown."""
        return tuple(token.text for token in self._tokens.values())

    async def header(self, scopes: Scopes) -> str | None:
        """``Authorization`` for these scopes; ``None``: nothing was asked for so far.

        Raises:
            Denied: the token server refuses the login.
            PushError: the token server does not answer as it should.
        """
        await self._renew_if_ending()
        if isinstance(self._way, _Bearer):
            return f"Bearer {(await self._token(self._way, scopes)).text}"
        return self._basic() if self._way == "basic" else None

    async def challenged(
        self,
        challenges: list[Challenge],
        used: str | None,
        scopes: Scopes,
        base: URL,
        *,
        sent: float = 0.0,
    ) -> str:
        """``Authorization`` after a 401 that was answered to ``used``.

        ``sent``: when that request was begun, on the monotonic clock. Tokens that are no younger
        are not tried in its place: what ended one has mostly ended the others.

        Raises:
            Denied: there is no login, or nothing more to try with it.
            RegistryUntrusted: the token server is not one that may see the login.
            AnswerMalformed: a challenge without a realm that can be asked.
        """
        for challenge in sorted(challenges, key=lambda c: c.scheme != "bearer"):
            if challenge.scheme == "bearer":
                way = self._bearer(challenge, base)
                wanted = merged(scopes, parse_scopes(challenge.parameters.get("scope", "")))
                if used is not None:
                    self._forget(used)
                self._way = way
                since = sent if used is not None else 0.0
                return f"Bearer {(await self._token(way, wanted, since)).text}"
            if challenge.scheme == "basic":
                # Another request may have renewed it meanwhile.
                if used is not None and used == self._basic() and not await self._renewed():
                    break
                header = self._basic()
                if header is None:
                    break
                self._way = "basic"
                return header
        registry = self._endpoint.registry
        if self.credentials is None:
            raise Denied(f"{registry} wants a login and the component has none")
        if not {c.scheme for c in challenges} & {"bearer", "basic"}:
            offered = ", ".join(sorted({c.scheme for c in challenges}))[:200] or "nothing"
            raise Denied(f"{registry} takes neither Basic nor Bearer logins; it offers {offered}")
        raise Denied(f"{registry} refused the component's login")

    def _bearer(self, challenge: Challenge, base: URL) -> _Bearer:
        """Where the challenge sends for a token, if one may go there."""
        registry, text = self._endpoint.registry, challenge.parameters.get("realm", "")
        try:
            realm = base.join(url_of(text)) if text else URL()
            well_formed = realm.scheme in {"http", "https"} and bool(realm.host)
        except ValueError:
            well_formed = False
        if not well_formed:
            raise AnswerMalformed(f"{registry} names a token server that is no URL: {text[:100]!a}")
        trusted = self._endpoint.may_log_in(realm, base)
        if not trusted:
            if self.credentials is not None:
                where = f"{realm.host}:{realm.explicit_port}" if realm.explicit_port else realm.host
                raise RegistryUntrusted(
                    f"{registry} sends its logins to {shown(realm)}, which is not its own host "
                    f"over https; if that is right, set auth_realms: [{where}]"
                )
            self._endpoint.may_follow(realm, base)
        bare = realm.with_user(None).with_fragment(None)
        return _Bearer(bare, challenge.parameters.get("service"), trusted)

    def _basic(self) -> str | None:
        """For the registry itself, which does not take identity tokens."""
        login = self.credentials
        return None if login is None or login.username == IDENTITY_USER else _basic(login)

    async def _token(self, way: _Bearer, scopes: Scopes, since: float = 0.0) -> Token:
        """A token that covers the scopes, kept or fetched by one task for all who wait.

        One that is kept was asked for at ``since`` or later.
        """
        now = time.monotonic()
        for token in self._tokens.values():
            if token.until > now and token.asked >= since and covers(token.scopes, scopes):
                return token
        fetch = self._fetches.get(scopes)
        if fetch is None:
            fetch = asyncio.create_task(self._fetch(way, scopes))
            self._fetches[scopes] = fetch
            fetch.add_done_callback(lambda done: self._fetched(scopes, done))
        # One that gives up must not take the token from the others.
        return await asyncio.shield(fetch)

    def _fetched(self, scopes: Scopes, done: asyncio.Task[Token]) -> None:
        self._fetches.pop(scopes, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._tokens[scopes] = done.result()
        now = time.monotonic()
        kept = sorted(self._tokens.items(), key=lambda item: item[1].until)
        self._tokens = dict([item for item in kept if item[1].until > now][-TOKENS_KEPT:])

    async def _fetch(self, way: _Bearer, scopes: Scopes) -> Token:
        started = time.monotonic()
        answer = await self._asked(way, scopes)
        if answer.status in _REFUSED and await self._renewed():
            answer = await self._asked(way, scopes)
        where = shown(way.realm)
        if answer.status in _REFUSED:
            who = "the component's login" if self.credentials else "a request without a login"
            raise Denied(f"{where} refused {who} for {self._endpoint.registry}")
        try:
            found = json.loads(answer.body)
            text = found.get("token") or found.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            text = None
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            raise AnswerMalformed(f"{where} answered {answer.status} without a usable token")
        life = _life(found, answer.headers)
        return Token(text, scopes, started + life - min(MARGIN_S, life / 10), started)

    async def _asked(self, way: _Bearer, scopes: Scopes) -> TokenAnswer:
        # A login that was renewed meanwhile changes nothing about where it may go.
        login = self.credentials if way.trusted else None
        if login is not None and login.username in {IDENTITY_USER, ACR_TOKEN_USER}:
            form = {
                "grant_type": "refresh_token",
                "service": way.service or self._endpoint.registry,
                "client_id": CLIENT_ID,
                "scope": " ".join(sorted(map(str, scopes))),
                "refresh_token": login.password.get_secret_value(),
            }
            answer = await self._ask("POST", way.realm, {}, form)
            if answer.status not in _NO_POST:
                return answer
        query = [("service", way.service)] if way.service else []
        query += [("scope", str(scope)) for scope in sorted(scopes)]
        query += [("client_id", CLIENT_ID)]
        if login is not None:
            query += [("account", login.username)]
        headers = {"Authorization": _basic(login)} if login is not None else {}
        return await self._ask("GET", way.realm.extend_query(query), headers, None)

    def _forget(self, used: str) -> None:
        """Drop the token that was refused, for whatever it was kept."""
        self._tokens = {s: t for s, t in self._tokens.items() if f"Bearer {t.text}" != used}

    async def _renew_if_ending(self) -> None:
        login = self.credentials
        if login is None or login.expires_at is None or self._renew is None:
            return
        if (login.expires_at - datetime.now(UTC)).total_seconds() < MARGIN_S:
            await self._renewed()

    async def _renewed(self) -> bool:
        """Ask for the login anew, once for all who wait; whether there is another one now."""
        if self._renew is None:
            return False
        before = self.credentials
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._ask_anew(self._renew))
            self._renewal.add_done_callback(self._asked_anew)
        await asyncio.shield(self._renewal)
        return self.credentials != before

    async def _ask_anew(self, renew: Callable[[], Credentials | None]) -> None:
        self.credentials = await asyncio.to_thread(renew)

    def _asked_anew(self, done: asyncio.Task[None]) -> None:
        self._renewal = None
        if not done.cancelled():
            # Those who wait get it; without them nobody would look.
            done.exception()


def _basic(login: Credentials) -> str:
    text = f"{login.username}:{login.password.get_secret_value()}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def _life(found: dict[str, Any], headers: Mapping[str, str]) -> float:
    """Seconds that a token lives from now on.

    ``issued_at`` counts against the server's own clock, which its ``Date`` tells: a token out
    of a cache is older than its answer, and a clock that is wrong here changes nothing.
    """
    life = found.get("expires_in")
    if not isinstance(life, int | float) or isinstance(life, bool) or life <= 0:
        life = DEFAULT_LIFE_S
    # At once: an integer can be too large to count with.
    life = min(life, LONGEST_LIFE_S)
    issued = _rfc3339(found.get("issued_at"))
    if issued is not None:
        now = http_date(headers.get("Date", "")) or datetime.now(UTC)
        life -= max((now - issued).total_seconds(), 0.0)
    return max(float(life), 0.0)


def _rfc3339(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        # Go writes nanoseconds, which are more digits than are understood here.
        cut = re.sub(r"(\.\d{6})\d+", r"\1", text)
        try:
            found = datetime.fromisoformat(cut)
        except ValueError:
            return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
