"""One exchange with a registry: its base URL, connections, redirects and typed errors.

Which login goes along is decided by ``client``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from transship.errors import AnswerMalformed, PushError, RegistryUnreachable
from transship_worker.oci import bodies
from transship_worker.oci.auth import LoginUse
from transship_worker.oci.bodies import Once, Stall, Stream, StreamedBody, in_pieces, read_error
from transship_worker.oci.budget import metered
from transship_worker.oci.challenge import Scopes
from transship_worker.oci.connections import Connections
from transship_worker.oci.endpoint import Endpoint, url_of
from transship_worker.oci.errors import (
    Speaker,
    error_of,
    refusal,
    refused_login,
    shown,
    unanswered,
)
from transship_worker.oci.guard import Attempt
from transship_worker.oci.led import check_led
from transship_worker.oci.pacing import Pacing

#: A connection must stand by then, TLS included. Unit: s.
CONNECT_TIMEOUT_S: Final = 15.0
#: All of an exchange with small bodies. Unit: s.
EXCHANGE_S: Final = 120.0
#: Redirects that are followed for one request.
REDIRECTS: Final = 5

_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})


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
    #: How long the registry may take for a piece of the body, and after its last one for the head
    #: of the answer; and the longest silence after that. ``None``: as usual. Unit: s.
    silence_s: float | None = None
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


class Exchanges:
    """What is sent to one registry and to where it redirects. For one event loop."""

    def __init__(
        self,
        connections: Connections,
        endpoint: Endpoint,
        pacing: Pacing,
        speaker: Callable[[], Speaker],
    ) -> None:
        """``speaker``: who answers, for messages."""
        self._connections = connections
        self._endpoint = endpoint
        self._hosts = endpoint.hosts
        self._pacing = pacing
        self._speaker = speaker
        self._base_lock = asyncio.Lock()

    async def base(self) -> URL:
        """The base URL; where several are possible, the first that answers, kept by the pool.

        Raises:
            RegistryUnreachable: none answers.
        """
        known = self._connections.bases.get(self._endpoint)
        if known is not None:
            return known
        async with self._base_lock:
            if self._endpoint not in self._connections.bases:
                self._connections.bases[self._endpoint] = await self._find_base()
            return self._connections.bases[self._endpoint]

    def is_own(self, url: URL) -> bool:
        """Whether a URL is of the registry's own API, not of storage that it leads to."""
        base = self._connections.bases.get(self._endpoint)
        return base is not None and url.origin() == base.origin()

    def broken(self, error: Exception, url: URL, request: Request) -> PushError:
        """The typed error for an exchange that the HTTP library gave up."""
        if isinstance(request.body, Once) and request.body.failure is not None:
            # The registry broke off because the bytes for it did.
            return request.body.failure
        if isinstance(error, aiohttp.ClientConnectionError) and len(self._endpoint.bases) > 1:
            # It may speak TLS next time, or no longer.
            self._connections.bases.pop(self._endpoint, None)
        return unanswered(error, url, self._speaker(), request.about)

    async def followed(self, request: Request, authorization: str | None) -> aiohttp.ClientResponse:
        """The answer behind all redirects; the login does not leave the origin it is for."""
        origin = request.url.origin()
        for _ in range(REDIRECTS + 1):
            if request.url.origin() != origin:
                # For good: what another host leads back to is that host's choice.
                authorization = None
            if self.is_own(request.url):
                response = await self._pacing.sent(
                    partial(self.once, request, authorization),
                    pull=request.method == "GET" and "/manifests/" in request.url.path,
                    again=request.again,
                    streams=callable(request.body),
                )
            else:
                check_led(self._endpoint.registry, request.method, request.url)
                response = await self.once(request, authorization)
            location = response.headers.get("Location")
            if response.status not in _REDIRECT or not location:
                return response
            response.close()
            request = self._redirected(request, response.status, location)
        raise AnswerMalformed(
            f"{self._endpoint.registry} redirects {request.about} more than {REDIRECTS} times"
        )

    def _redirected(self, request: Request, status: int, location: str) -> Request:
        target = self.resolve(location, request.url)
        self._endpoint.may_follow(target, request.url)
        reads = request.method in {"GET", "HEAD"}
        if not reads and (status not in {307, 308} or callable(request.body)):
            raise AnswerMalformed(
                f"{self._endpoint.registry} redirects {request.method} of {request.about} "
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
                f"{self._endpoint.registry} leads to {location[:100]!a}, which is no URL"
            )
        base = self._connections.bases.get(self._endpoint)
        own = self._endpoint.own(target, base) if base is not None else None
        # Only of the registry itself: what a storage server leads to is not the registry.
        if own is not None and base is not None and asked.origin() == base.origin():
            return own
        return target

    async def once(
        self, request: Request, authorization: str | None, *, own: bool | None = None
    ) -> aiohttp.ClientResponse:
        """One exchange, up to the head of its answer; errors are typed and name its URL."""
        try:
            return await self._exchange(request, authorization, own=own)
        except (aiohttp.ClientError, OSError) as error:
            raise self.broken(error, request.url, request) from error

    async def _exchange(
        self, request: Request, authorization: str | None, *, own: bool | None = None
    ) -> aiohttp.ClientResponse:
        """One exchange, with the HTTP library's own errors."""
        if own is None:
            own = request.url.host in self._hosts
        way = await self._connections.way(request.url, self._endpoint, own=own)
        headers = dict(request.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        proxy_headers = None
        if way.proxy_login is not None and request.url.scheme == "https":
            proxy_headers = {"Proxy-Authorization": way.proxy_login}
        elif way.proxy_login is not None:
            headers["Proxy-Authorization"] = way.proxy_login
        silence_s = bodies.SILENCE_S if request.silence_s is None else request.silence_s
        timeout = aiohttp.ClientTimeout(
            total=request.total_s, sock_connect=CONNECT_TIMEOUT_S, sock_read=silence_s
        )
        async with Stall(self._connections.deadlines, silence_s, CONNECT_TIMEOUT_S) as stall:
            data = self._watched(request, stall)
            with Attempt(way.rule):
                return await way.session.request(
                    request.method,
                    request.url,
                    headers=headers,
                    data=data,
                    allow_redirects=False,
                    timeout=timeout,
                    ssl=way.tls,
                    proxy=way.proxy,
                    proxy_headers=proxy_headers,
                )

    def _watched(self, request: Request, stall: Stall) -> StreamedBody | bytes | None:
        """The body, whose pieces are to be taken in time, and after it the answer to come."""
        body = request.body
        if callable(body):
            return StreamedBody(stall.watched(metered(self._pacing.governor, body())))
        if body and request.total_s is None:
            return StreamedBody(stall.watched(in_pieces(body)))
        stall.wait_for_answer()
        return body

    async def refused(self, response: aiohttp.ClientResponse, request: Request) -> PushError:
        """The typed error for an answer; its body is read as far as an error's is."""
        body = await read_error(response)
        found = refusal(
            request.method, response.url, response.status, response.headers, body, self._speaker()
        )
        return error_of(found, self._speaker(), request.about or shown(request.url))

    async def _find_base(self) -> URL:
        """The first base that speaks HTTP; the others only where nothing spoke TLS at all."""
        bases = self._endpoint.bases
        if len(bases) == 1:
            return bases[0]
        if self._pacing.governor is not None:
            await self._pacing.governor.request()
        failures: list[Exception] = []
        for base in bases:
            request = Request("GET", base.join(URL("v2/")), total_s=EXCHANGE_S)
            try:
                response = await self._exchange(request, None)
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                if refused_login(error) is not None:
                    raise unanswered(error, request.url, self._speaker(), "its API") from error
                failures.append(error)
                continue
            except aiohttp.ClientError as error:
                raise unanswered(error, request.url, self._speaker(), "its API") from error
            response.close()
            return base
        tried = " and ".join(str(base.origin()) for base in bases)
        reason = unanswered(failures[-1], bases[-1], self._speaker(), "its API").message
        raise RegistryUnreachable(f"neither of {tried} answers: {reason}") from failures[-1]
