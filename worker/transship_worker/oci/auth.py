"""Logins and tokens of one client.

Sources: distribution's "Token Authentication Specification" and "OAuth2 Token
Authentication" (the specification asks for both ways). A token is fetched once for a set of
scopes, by one request at a time, and kept until shortly before its end.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final, Literal

from yarl import URL

from transship.errors import (
    AnswerMalformed,
    Denied,
    PushError,
    RateLimited,
    RegistryPaused,
    RegistryUntrusted,
)
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.docker_config import IDENTITY_USER
from transship_worker.oci.challenge import (
    Challenge,
    Scopes,
    covers,
    merged,
    parse_challenges,
    parse_scopes,
)
from transship_worker.oci.endpoint import Endpoint, url_of
from transship_worker.oci.errors import shown
from transship_worker.oci.tokens import MARGIN_S, Token, TokenAnswer, token_of

#: Tokens kept of one client; those that end soonest go first.
TOKENS_KEPT: Final = 512
#: Token servers that failed just now and are remembered by scopes.
FAILURES_KEPT: Final = 512
#: Says who asks, for the token server's own log (RFC 6749, appendix A.1).
CLIENT_ID: Final = "transship"
#: With this user name ACR takes a refresh token for a password (learn.microsoft.com, "ACR
#: authentication").
ACR_TOKEN_USER: Final = "00000000-0000-0000-0000-000000000000"  # noqa: S105
#: What a token server says that knows no POST.
_NO_POST: Final = frozenset({404, 405, 501})
#: What a token server says to a wrong login (RFC 6749, 5.2: 400 or 401).
_REFUSED: Final = frozenset({400, 401, 403})

#: Asks a token server: method, URL, headers, form. Follows no redirect with a login.
AskTokenServer = Callable[
    [str, URL, Mapping[str, str], Mapping[str, str] | None], Awaitable[TokenAnswer]
]
#: Asks ``/v2/`` without a login: the ``WWW-Authenticate`` headers of a 401, else none.
AskApi = Callable[[], Awaitable[list[str]]]


class LoginUse(Enum):
    """When a request carries the client's login."""

    #: Once the registry asked for it, or gave an answer that may be for strangers only.
    ASKED = "asked"
    #: From the first request on: strangers may be given a part of a list.
    FIRST = "first"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class _Bearer:
    """Where tokens for this registry come from."""

    realm: URL
    service: str | None
    #: The login may be sent there.
    trusted: bool


@dataclass(frozen=True, slots=True)
class _Failure:
    """A token that could not be had."""

    source: _Bearer
    #: On the monotonic clock.
    at: float
    error: PushError


class Authenticator:
    """Gives ``Authorization`` headers for one registry and one login.

    What one challenge says counts for the requests after it once it brought a token, and only
    until another one does: a challenge that leads nowhere is the end of its own request alone.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        ask: AskTokenServer,
        ask_api: AskApi,
        *,
        renew: Callable[[], Credentials | None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._ask = ask
        self._ask_api = ask_api
        self._renew = renew
        self._scheme: _Bearer | Literal["basic"] | None = None
        self._tokens: dict[Scopes, Token] = {}
        self._fetches: dict[tuple[_Bearer, Scopes], asyncio.Task[Token]] = {}
        self._failures: dict[Scopes, _Failure] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._api_lock = asyncio.Lock()
        #: What ``/v2/`` asked for, and when that was learned, on the monotonic clock.
        self._api_challenges: list[Challenge] = []
        self._api_asked = 0.0
        #: The registry does not ask for a login, and there is none that can be sent unasked.
        self._open = False
        self.credentials = credentials

    @property
    def secrets(self) -> tuple[str, ...]:
        """Tokens that must not be shown."""
        return tuple(token.text for token in self._tokens.values())

    @property
    def has_login(self) -> bool:
        """Whether there is a login that the registry may want, although it did not ask."""
        return self.credentials is not None and not self._open

    async def header(self, scopes: Scopes) -> str | None:
        """``Authorization`` for these scopes.

        ``None``: nothing was asked for so far, or the token server gives no token any more. The
        registry may have moved it, which its next challenge tells.

        Raises:
            RateLimited, RegistryPaused: the token server asks for fewer requests.
        """
        await self._renew_if_ending()
        if not isinstance(self._scheme, _Bearer):
            return self._basic() if self._scheme == "basic" else None
        source = self._scheme
        try:
            return f"Bearer {(await self._token(source, scopes)).text}"
        except (RateLimited, RegistryPaused):
            raise
        except PushError as error:
            if len(self._failures) >= FAILURES_KEPT:
                self._failures.clear()
            self._failures[scopes] = _Failure(source, time.monotonic(), error)
            return None

    async def discovered(self, scopes: Scopes, *, base: URL, sent: float) -> str | None:
        """``Authorization`` as ``/v2/`` asks for it, where the registry did not ask so far.

        A registry may show strangers less, or answer 404, and never ask for a login. ``/v2/``
        is asked once for all requests that wait; ``sent``: see ``challenged``. Where it asks
        for nothing, the login goes along as Basic. ``None``: there is none that can.

        Raises:
            PushError: as ``challenged`` does; or ``/v2/`` does not answer.
        """
        if not self.has_login:
            return None
        async with self._api_lock:
            if self._api_asked <= sent:
                found = parse_challenges(await self._ask_api())
                self._api_challenges = [_without_scope(one) for one in found]
                self._api_asked = time.monotonic()
            challenges = self._api_challenges
        if challenges:
            return await self.challenged(challenges, None, scopes, base, sent=sent)
        header = self._basic()
        if header is None:
            self._open = True
        else:
            self._scheme = "basic"
        return header

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
        are not tried in its place: what ended one has mostly ended the others. A token server
        that failed since then is not asked again.

        Raises:
            Denied: there is no login, or nothing more to try with it.
            RegistryUntrusted: the token server is not one that may see the login.
            AnswerMalformed: a challenge without a realm that can be asked.
        """
        unusable: PushError | None = None
        for challenge in sorted(challenges, key=lambda c: c.scheme != "bearer"):
            if challenge.scheme == "bearer":
                try:
                    source = self._bearer(challenge, base)
                except (AnswerMalformed, RegistryUntrusted) as error:
                    unusable = unusable or error
                    continue
                return await self._bearer_header(source, challenge, used, scopes, sent)
            if challenge.scheme == "basic":
                # Another request may have renewed it meanwhile.
                if used is not None and used == self._basic() and not await self._renewed():
                    break
                header = self._basic()
                if header is None:
                    break
                self._scheme = "basic"
                return header
        raise unusable or self._refused(challenges)

    async def _bearer_header(
        self, source: _Bearer, challenge: Challenge, used: str | None, scopes: Scopes, sent: float
    ) -> str:
        """``Authorization`` with a token from the server that a challenge names."""
        failure = self._failures.get(scopes)
        if failure is not None and failure.source == source and failure.at >= sent:
            raise failure.error.with_traceback(None)
        wanted = merged(scopes, parse_scopes(challenge.parameters.get("scope", "")))
        if used is not None:
            self._forget(used)
        token = await self._token(source, wanted, sent if used is not None else 0.0)
        self._scheme = source
        return f"Bearer {token.text}"

    def _refused(self, challenges: list[Challenge]) -> Denied:
        """The error where none of the challenges can be met."""
        registry = self._endpoint.registry
        if self.credentials is None:
            return Denied(f"{registry} wants a login and the component has none")
        if not {c.scheme for c in challenges} & {"bearer", "basic"}:
            offered = ", ".join(sorted({c.scheme for c in challenges}))[:200] or "nothing"
            return Denied(f"{registry} takes neither Basic nor Bearer logins; it offers {offered}")
        return Denied(f"{registry} refused the component's login")

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
        if realm.origin() == base.origin() or (realm.scheme, base.scheme) == ("http", "https"):
            # A registry behind a proxy does not know that it is reached by https, or below a path.
            realm = self._endpoint.own(realm, base) or realm
        trusted = self._endpoint.may_log_in(realm, base)
        if not trusted:
            if self.credentials is not None:
                raise RegistryUntrusted(self._untrusted(realm, base))
            self._endpoint.may_follow(realm, base)
        bare = realm.with_user(None).with_fragment(None)
        return _Bearer(bare, challenge.parameters.get("service"), trusted)

    def _untrusted(self, realm: URL, base: URL) -> str:
        """Why the login does not go to a token server, and what can be set."""
        registry = self._endpoint.registry
        if realm.scheme != "https" and base.scheme == "https":
            return (
                f"{registry} sends its logins to {shown(realm)} by plain HTTP; set its token "
                "server's address (realm) to an https URL"
            )
        if realm.user or realm.password:
            return f"{registry} names a token server with a login in its URL, {shown(realm)}"
        where = f"{realm.host}:{realm.explicit_port}" if realm.explicit_port else realm.host
        return (
            f"{registry} sends its logins to {shown(realm)}, which is not its own host over "
            f"https; if that is right, set auth_realms: [{where}]"
        )

    def _basic(self) -> str | None:
        """For the registry itself, which does not take identity tokens."""
        login = self.credentials
        return None if login is None or login.username == IDENTITY_USER else _basic(login)

    async def _token(self, source: _Bearer, scopes: Scopes, since: float = 0.0) -> Token:
        """A token that covers the scopes, kept or fetched by one task for all who wait.

        One that is kept was asked for at ``since`` or later.
        """
        now = time.monotonic()
        for token in self._tokens.values():
            if token.until > now and token.asked >= since and covers(token.scopes, scopes):
                return token
        key = (source, scopes)
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = asyncio.create_task(self._fetch(source, scopes))
            self._fetches[key] = fetch
            fetch.add_done_callback(lambda done: self._fetched(key, done))
        # One that gives up must not take the token from the others.
        return await asyncio.shield(fetch)

    def _fetched(self, key: tuple[_Bearer, Scopes], done: asyncio.Task[Token]) -> None:
        self._fetches.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._tokens[key[1]] = done.result()
        now = time.monotonic()
        kept = sorted(self._tokens.items(), key=lambda item: item[1].until)
        self._tokens = dict([item for item in kept if item[1].until > now][-TOKENS_KEPT:])

    async def _fetch(self, source: _Bearer, scopes: Scopes) -> Token:
        started = time.monotonic()
        answer = await self._asked(source, scopes)
        if answer.status in _REFUSED and await self._renewed():
            answer = await self._asked(source, scopes)
        where = shown(source.realm)
        if answer.status in _REFUSED:
            who = "the component's login" if self.credentials else "a request without a login"
            raise Denied(f"{where} refused {who} for {self._endpoint.registry}")
        return token_of(answer, scopes, started, where)

    async def _asked(self, source: _Bearer, scopes: Scopes) -> TokenAnswer:
        # A login that was renewed meanwhile changes nothing about where it may go.
        login = self.credentials if source.trusted else None
        if login is not None and login.username in {IDENTITY_USER, ACR_TOKEN_USER}:
            form = {
                "grant_type": "refresh_token",
                "service": source.service or self._endpoint.registry,
                "client_id": CLIENT_ID,
                "scope": " ".join(sorted(map(str, scopes))),
                "refresh_token": login.password.get_secret_value(),
            }
            answer = await self._ask("POST", source.realm, {}, form)
            if answer.status not in _NO_POST:
                return answer
        query = [("service", source.service)] if source.service else []
        query += [("scope", str(scope)) for scope in sorted(scopes)]
        query += [("client_id", CLIENT_ID)]
        if login is not None:
            query += [("account", login.username)]
        headers = {"Authorization": _basic(login)} if login is not None else {}
        return await self._ask("GET", source.realm.extend_query(query), headers, None)

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


def _without_scope(challenge: Challenge) -> Challenge:
    """A challenge of ``/v2/``, whose scope is of that request; GHCR sends one of a sample name."""
    kept = {name: value for name, value in challenge.parameters.items() if name != "scope"}
    return Challenge(challenge.scheme, kept)


def _basic(login: Credentials) -> str:
    text = f"{login.username}:{login.password.get_secret_value()}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"
