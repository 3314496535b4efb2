"""One registry, asked with one login: authorization, redirects, bounds and typed errors.

What is asked for stands in the modules beside this one (``manifests``, ``blobs``, ``tags``,
``referrers``). Made by ``ClientPool.client``.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from transship.errors import (
    AnswerMalformed,
    InvalidReference,
    PushError,
    RegistryUnreachable,
    UploadLost,
)
from transship_worker.credentials.access import Credentials
from transship_worker.oci import retry
from transship_worker.oci.auth import Authenticator, LoginUse
from transship_worker.oci.bodies import (
    SILENCE_S,
    Once,
    Stall,
    Stream,
    let_go,
    read_bounded,
    read_error,
)
from transship_worker.oci.budget import metered
from transship_worker.oci.challenge import Scope, Scopes, merged, parse_challenges, pull, push
from transship_worker.oci.connections import Connections
from transship_worker.oci.endpoint import Endpoint, url_of
from transship_worker.oci.errors import (
    ERROR_LIMIT,
    Speaker,
    error_of,
    refusal,
    shown,
    unanswered,
)
from transship_worker.oci.headers import RateLimit
from transship_worker.oci.learned import Learned
from transship_worker.oci.manifest_cache import KeptManifests
from transship_worker.oci.names import is_repository
from transship_worker.oci.pacing import Pacing, wait
from transship_worker.oci.tokens import TokenAnswer

if TYPE_CHECKING:
    from transship_worker.oci.budget import GovernorPort

#: A connection must stand by then, TLS included. Unit: s.
CONNECT_TIMEOUT_S: Final = 15.0
#: All of an exchange with small bodies. Unit: s.
EXCHANGE_S: Final = 120.0
#: Redirects that are followed for one request.
REDIRECTS: Final = 5
#: The largest token answer that is read. Unit: bytes.
TOKEN_LIMIT: Final = 1_048_576

_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
#: What a registry may say to strangers of something that a login can see, without asking for one.
_DOUBTFUL: Final = frozenset({400, 401, 403, 404, 405})


@dataclass(frozen=True, slots=True)
class Request:
    """One request; the URL may lead elsewhere, then no login goes along."""

    method: str
    url: URL
    #: What it needs, to get a token for.
    scopes: Scopes = frozenset()
    #: What it is about, for messages: ``repository:tag`` and the like.
    about: str = ""
    #: May hold a login.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Stream | None = field(default=None, repr=False)
    #: Statuses that are no error.
    expected: frozenset[int] = frozenset({200})
    #: ``None``: as long as bytes move. Unit: s.
    total_s: float | None = EXCHANGE_S
    #: The longest silence. Unit: s.
    silence_s: float = SILENCE_S
    login: LoginUse = LoginUse.ASKED
    #: It was refused for its rate before.
    again: bool = False

    @property
    def can_repeat(self) -> bool:
        """Whether it can be sent again: a stream that was begun cannot."""
        return not (isinstance(self.body, Once) and self.body.opened)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    #: Where it came from after redirects.
    url: URL


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a client's registry, and the rights that its requests ask for."""

    client: RegistryClient
    name: str
    scopes: Scopes
    #: It is written to: a write decides what a look could not tell.
    writing: bool = False

    def also_reading(self, other: str) -> Repository:
        """This one for a request that reads from another repository too: a mount."""
        return replace(self, scopes=merged(self.scopes, [pull(other)]))

    def __str__(self) -> str:
        return f"{self.client.endpoint.registry}/{self.name}"

    async def url(self, path: str) -> URL:
        """``/v2/NAME/PATH`` at the registry's base; a query in the path stands as it is."""
        base = await self.client.base()
        return base.join(URL(f"v2/{self.name}/{path}", encoded=True))


class RegistryClient:
    """A registry with a login. Not to be used outside its event loop."""

    def __init__(
        self,
        connections: Connections,
        endpoint: Endpoint,
        credentials: Credentials | None,
        *,
        renew: Callable[[], Credentials | None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._hosts = endpoint.hosts
        self.pacing = Pacing()
        #: The newest pull limit that an answer told; ``None``: none did.
        self.rate_limit: RateLimit | None = None
        #: Whether the registry answers the referrers API; ``None``: not asked yet.
        self.has_referrers: bool | None = None
        #: What its answers showed about the registry.
        self.learned = Learned()
        #: Manifests that a planner read for the copies that follow.
        self.kept = KeptManifests()
        self._connections = connections
        self._auth = Authenticator(
            endpoint, credentials, self._ask_token_server, self._ask_api, renew=renew
        )
        self._base_lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"RegistryClient({self.endpoint.registry})"

    def repository(self, name: str, *, writing: bool = False) -> Repository:
        """A repository to read from, or also to write to.

        Saying ``writing`` at once spares a token for reading alone.

        Raises:
            InvalidReference: no name that a repository may have.
        """
        if not is_repository(name):
            raise InvalidReference(
                f"{name[:100]!a} is no repository of {self.endpoint.registry}; a name is "
                "lower-case letters and digits, joined by '.', '_', '-' and '/'"
            )
        scope: Scope = push(name) if writing else pull(name)
        return Repository(self, name, frozenset({scope}), writing)

    @property
    def governor(self) -> GovernorPort | None:
        """The fleet's budget at this registry with this login; ``None``: nothing is counted."""
        return self.pacing.governor

    @governor.setter
    def governor(self, governor: GovernorPort | None) -> None:
        self.pacing.governor = governor

    @property
    def speaker(self) -> Speaker:
        """Who answers, for messages."""
        auth = self._auth
        return Speaker(self.endpoint.registry, auth.credentials, auth.secrets, self.endpoint.access)

    async def ping(self) -> None:
        """Return if the registry answers this login at ``/v2/``.

        Raises:
            PushError: it does not.
        """
        base = await self.base()
        await self.ask(Request("GET", base.join(URL("v2/")), about="its API"), limit=ERROR_LIMIT)

    async def base(self) -> URL:
        """The base URL; where several are possible, the first that answers, kept by the pool.

        Raises:
            RegistryUnreachable: none answers.
        """
        known = self._connections.bases.get(self.endpoint)
        if known is not None:
            return known
        async with self._base_lock:
            if self.endpoint not in self._connections.bases:
                self._connections.bases[self.endpoint] = await self._find_base()
            return self._connections.bases[self.endpoint]

    async def ask(self, request: Request, *, limit: int) -> Answer:
        """Send a request and read its answer, of at most ``limit`` bytes.

        Raises:
            PushError: the answer is not an expected one, is larger, or none came.
        """
        body = Once(request.body) if callable(request.body) else None
        if body is not None:
            request = replace(request, body=body)
        async with self.open(request) as response:
            try:
                found = await read_bounded(response, limit)
            except (aiohttp.ClientError, OSError) as error:
                raise self._broken(error, response.url, request) from error
            return Answer(response.status, response.headers, found, response.url)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give its answer, whose body is still to be read.

        A registry that asks for fewer requests is obeyed here: the request waits and is sent
        again, for as long as it takes. Whoever limits that cancels it.

        Raises:
            RegistryPaused: it asks for a long wait.
            RateLimited: a stream was refused, which cannot be sent again from here.
            PushError: the answer is not an expected one, or none came.
        """
        response = await self._taken(request)
        try:
            yield response
        finally:
            let_go(response)

    async def _taken(self, request: Request) -> aiohttp.ClientResponse:
        """The answer to a request that is not refused for its rate, or not any more."""
        tries = 0
        while True:
            response = await self._authorized(request)
            tries += 1
            try:
                limit = RateLimit.of(response.headers)
                self.rate_limit = limit or self.rate_limit
                refused = None
                if response.status not in request.expected:
                    refused = await self._refused(response, request)
                wait_s = await self.pacing.wait_s(
                    response, limit, refused, tries, own=self._is_own(response.url)
                )
                if refused is None:
                    return response
                if wait_s is None or not request.can_repeat:
                    raise refused
            except BaseException:
                let_go(response)
                raise
            let_go(response)
            request = replace(request, again=True)
            await wait(wait_s)

    def _is_own(self, url: URL) -> bool:
        """Whether a URL is of the registry's own API, not of storage that it leads to."""
        base = self._connections.bases.get(self.endpoint)
        return base is not None and url.origin() == base.origin()

    def _broken(self, error: Exception, url: URL, request: Request) -> PushError:
        """The typed error for an exchange that the HTTP library gave up."""
        if isinstance(request.body, Once) and request.body.failure is not None:
            # The registry broke off because the bytes for it did.
            return request.body.failure
        if isinstance(error, aiohttp.ClientConnectionError) and len(self.endpoint.bases) > 1:
            # It may speak TLS next time, or no longer.
            self._connections.bases.pop(self.endpoint, None)
        return unanswered(error, url, self.speaker, request.about)

    async def _authorized(self, request: Request) -> aiohttp.ClientResponse:
        """The answer to a request that has its authorization, renewed once when refused."""
        base = await self.base()
        own = self.endpoint.own(request.url, base)
        if own is None:
            self.endpoint.may_follow(request.url, base)
            return await self._followed(request, None)
        request = replace(request, url=own)
        if request.login is LoginUse.NEVER:
            return await self._followed(request, None)
        sent = time.monotonic()
        used = await self._auth.header(request.scopes)
        if used is None and request.login is LoginUse.FIRST:
            used = await self._auth.discovered(request.scopes, base=base, sent=sent)
        while True:
            response = await self._followed(request, used)
            challenges = response.headers.getall("WWW-Authenticate", [])
            asked = response.status == 401 and bool(challenges)
            doubted = used is None and self._auth.has_login and response.status in _DOUBTFUL
            # Object storage answers 401, too; it has no say in this.
            if not (asked or doubted) or response.url.origin() != base.origin():
                return response
            if isinstance(request.body, Once) and request.body.opened:
                if not asked:
                    return response
                response.close()
                raise UploadLost(
                    f"{self.endpoint.registry} refused the login in the middle of {request.about}"
                )
            # Not held meanwhile: what follows may need its connection.
            await read_error(response)
            let_go(response)
            if asked:
                found = parse_challenges(challenges)
                header = await self._auth.challenged(found, used, request.scopes, base, sent=sent)
                return await self._followed(request, header)
            used = await self._auth.discovered(request.scopes, base=base, sent=sent)

    async def _ask_api(self) -> list[str]:
        """What ``/v2/`` asks for who comes without a login."""
        url = (await self.base()).join(URL("v2/"))
        request = Request(
            "GET", url, about="its API", expected=_DOUBTFUL | {200}, login=LoginUse.NEVER
        )
        answer = await self.ask(request, limit=ERROR_LIMIT)
        if answer.status != 401 or not self._is_own(answer.url):
            return []
        return answer.headers.getall("WWW-Authenticate", [])

    async def _followed(
        self, request: Request, authorization: str | None
    ) -> aiohttp.ClientResponse:
        """The answer behind all redirects; the login does not leave the origin it is for."""
        origin = request.url.origin()
        for _ in range(REDIRECTS + 1):
            if request.url.origin() != origin:
                # For good: what another host leads back to is that host's choice.
                authorization = None
            if self._is_own(request.url):
                response = await self.pacing.sent(
                    partial(self._once, request, authorization),
                    pull=request.method == "GET" and "/manifests/" in request.url.path,
                    again=request.again,
                    streams=callable(request.body),
                )
            else:
                response = await self._once(request, authorization)
            location = response.headers.get("Location")
            if response.status not in _REDIRECT or not location:
                return response
            response.close()
            request = self._redirected(request, response.status, location)
        raise AnswerMalformed(
            f"{self.endpoint.registry} redirects {request.about} more than {REDIRECTS} times"
        )

    def _redirected(self, request: Request, status: int, location: str) -> Request:
        target = self.resolve(location, request.url)
        self.endpoint.may_follow(target, request.url)
        reads = request.method in {"GET", "HEAD"}
        if not reads and (status not in {307, 308} or callable(request.body)):
            raise AnswerMalformed(
                f"{self.endpoint.registry} redirects {request.method} of {request.about} "
                f"with {status}, which cannot be followed"
            )
        return replace(request, url=target)

    def resolve(self, location: str, asked: URL) -> URL:
        """A ``Location`` or ``Link`` as a URL, at the registry's base if it means this registry.

        Raises:
            AnswerMalformed: it is no URL.
        """
        try:
            # Encoded as it came: a signature in it must not change.
            target = asked.join(url_of(location, encoded=True))
            target = target.with_user(None).with_fragment(None)
            bad = target.scheme not in {"http", "https"} or not target.host or target.port is None
        except ValueError:
            bad = True
        if bad or not location.isascii() or not location.isprintable() or " " in location:
            raise AnswerMalformed(
                f"{self.endpoint.registry} leads to {location[:100]!a}, which is no URL"
            )
        base = self._connections.bases.get(self.endpoint)
        own = self.endpoint.own(target, base) if base is not None else None
        # Only of the registry itself: what a storage server leads to is not the registry.
        if own is not None and base is not None and asked.origin() == base.origin():
            return own
        return target

    async def _once(
        self, request: Request, authorization: str | None, *, own: bool | None = None
    ) -> aiohttp.ClientResponse:
        """One exchange, up to the head of its answer; errors are typed and name its URL."""
        try:
            return await self._exchange(request, authorization, own=own)
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(error, request.url, request) from error

    async def _exchange(
        self, request: Request, authorization: str | None, *, own: bool | None = None
    ) -> aiohttp.ClientResponse:
        """One exchange, with the HTTP library's own errors."""
        if own is None:
            own = request.url.host in self._hosts
        way = await self._connections.way(request.url, self.endpoint, own=own)
        headers = dict(request.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        proxy_headers = None
        if way.proxy_login is not None and request.url.scheme == "https":
            proxy_headers = {"Proxy-Authorization": way.proxy_login}
        elif way.proxy_login is not None:
            headers["Proxy-Authorization"] = way.proxy_login
        timeout = aiohttp.ClientTimeout(
            total=request.total_s, sock_connect=CONNECT_TIMEOUT_S, sock_read=request.silence_s
        )
        data = request.body
        async with Stall(request.silence_s) as stall:
            return await way.session.request(
                request.method,
                request.url,
                headers=headers,
                data=stall.watched(metered(self.governor, data())) if callable(data) else data,
                allow_redirects=False,
                timeout=timeout,
                ssl=way.tls,
                proxy=way.proxy,
                proxy_headers=proxy_headers,
            )

    async def _refused(self, response: aiohttp.ClientResponse, request: Request) -> PushError:
        """The typed error for an answer; its body is read as far as an error's is."""
        body = await read_error(response)
        found = refusal(
            request.method, response.url, response.status, response.headers, body, self.speaker
        )
        return error_of(found, self.speaker, request.about or shown(request.url))

    async def _find_base(self) -> URL:
        """The first base that speaks HTTP; the others only where nothing spoke TLS at all."""
        bases = self.endpoint.bases
        if len(bases) == 1:
            return bases[0]
        if self.governor is not None:
            await self.governor.request()
        failures: list[Exception] = []
        for base in bases:
            request = Request("GET", base.join(URL("v2/")), total_s=EXCHANGE_S)
            try:
                response = await self._exchange(request, None)
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                failures.append(error)
                continue
            except aiohttp.ClientError as error:
                raise unanswered(error, request.url, self.speaker, "its API") from error
            response.close()
            return base
        tried = " and ".join(str(base.origin()) for base in bases)
        reason = unanswered(failures[-1], bases[-1], self.speaker, "its API").message
        raise RegistryUnreachable(f"neither of {tried} answers: {reason}") from failures[-1]

    async def _ask_token_server(
        self, method: str, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> TokenAnswer:
        """Ask for a token; a redirect is not followed, since the login would go along."""
        own = self.endpoint.may_log_in(url, await self.base())
        sent = {**headers, "Accept": "application/json"}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form).encode() if form is not None else None
        request = Request(method, url, about="a token", headers=sent, body=body)
        for tries in itertools.count(1):
            try:
                return await self._token_answer(request, own=own)
            except PushError as refused:
                if self.governor is None:
                    raise
                wait_s = retry.bounded_wait_s(refused, tries)
                if wait_s is None:
                    raise retry.paused(refused) from refused.__cause__
            await wait(wait_s)
        raise AssertionError

    async def _token_answer(self, request: Request, *, own: bool) -> TokenAnswer:
        """One answer of a token server.

        Raises:
            PushError: it fails, asks for fewer requests, or gives no answer.
        """
        response = await self._once(request, None, own=own)
        try:
            if response.status == 429 or response.status in {500, 502, 503, 504}:
                raise await self._refused(response, request)
            found = await read_bounded(response, TOKEN_LIMIT)
            return TokenAnswer(response.status, response.headers, found)
        except (aiohttp.ClientError, OSError) as error:
            raise unanswered(error, request.url, self.speaker, request.about) from error
        finally:
            let_go(response)
