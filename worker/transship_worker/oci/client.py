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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from transship.errors import InvalidReference, PushError, UploadLost
from transship_worker.credentials.access import Credentials
from transship_worker.oci import exchange, retry
from transship_worker.oci.auth import Authenticator, LoginUse
from transship_worker.oci.bodies import Once, let_go, read_bounded, read_error
from transship_worker.oci.challenge import Scope, Scopes, merged, parse_challenges, pull, push
from transship_worker.oci.connections import Connections
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.errors import ERROR_LIMIT, Speaker, unanswered
from transship_worker.oci.exchange import Answer, Exchanges, Request
from transship_worker.oci.headers import RateLimit
from transship_worker.oci.learned import Learned
from transship_worker.oci.manifest_cache import OwnManifests
from transship_worker.oci.names import is_repository
from transship_worker.oci.pacing import Pacing, wait
from transship_worker.oci.tokens import TokenAnswer

if TYPE_CHECKING:
    from transship_worker.oci.budget import GovernorPort

#: The largest token answer that is read. Unit: bytes.
TOKEN_LIMIT: Final = 1_048_576
#: What a registry may say to strangers of something that a login can see, without asking for one.
_DOUBTFUL: Final = frozenset({400, 401, 403, 404, 405})


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
        self.pacing = Pacing()
        #: The newest pull limit that an answer told; ``None``: none did.
        self.rate_limit: RateLimit | None = None
        #: What its answers showed about the registry.
        self.learned = Learned()
        #: Manifests that a planner read for the copies that follow.
        self.kept = OwnManifests(connections.kept)
        self.manifest_memory = connections.manifest_memory
        self._exchanges = Exchanges(connections, endpoint, self.pacing, lambda: self.speaker)
        self._auth = Authenticator(
            endpoint, credentials, self._ask_token_server, self._ask_api, renew=renew
        )

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
        return await self._exchanges.base()

    def resolve(self, location: str, asked: URL) -> URL:
        """A ``Location`` or ``Link`` as a URL, at the registry's base if it means this registry.

        Raises:
            AnswerMalformed: it is no URL.
        """
        return self._exchanges.resolve(location, asked)

    async def ask(
        self, request: Request, *, limit: int, taken: Callable[[int], bool] | None = None
    ) -> Answer:
        """Send a request and read its answer, of at most ``limit`` bytes.

        ``taken``: see ``read_bounded``.

        Raises:
            NoRoom: ``taken`` says so.
            PushError: the answer is not an expected one, is larger, or none came.
        """
        body = Once(request.body) if callable(request.body) else None
        if body is not None:
            request = replace(request, body=body)
        async with self.open(request) as response:
            try:
                if request.total_s is None and not response.content.is_eof():
                    # It has no limit because of its body; what is still to come has one.
                    async with asyncio.timeout(exchange.EXCHANGE_S):
                        found = await read_bounded(response, limit, taken)
                else:
                    found = await read_bounded(response, limit, taken)
            except (aiohttp.ClientError, OSError) as error:
                raise self._exchanges.broken(error, response.url, request) from error
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
                    refused = await self._exchanges.refused(response, request)
                wait_s = await self.pacing.wait_s(
                    response, limit, refused, tries, own=self._exchanges.is_own(response.url)
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

    async def _authorized(self, request: Request) -> aiohttp.ClientResponse:
        """The answer to a request that has its authorization, renewed once when refused."""
        base = await self.base()
        own = self.endpoint.own(request.url, base)
        if own is None:
            self.endpoint.may_follow(request.url, base)
            return await self._exchanges.followed(request, None)
        request = replace(request, url=own)
        if request.login is LoginUse.NEVER:
            return await self._exchanges.followed(request, None)
        sent = time.monotonic()
        used = await self._auth.header(request.scopes)
        if used is None and request.login is LoginUse.FIRST:
            used = await self._auth.discovered(request.scopes, base=base, sent=sent)
        while True:
            response = await self._exchanges.followed(request, used)
            challenges = response.headers.getall("WWW-Authenticate", [])
            asked = response.status == 401 and bool(challenges)
            doubted = used is None and self._auth.has_login and response.status in _DOUBTFUL
            # Object storage answers 401, too; it has no say in this.
            if not (asked or doubted) or response.url.origin() != base.origin():
                return response
            if isinstance(request.body, Once) and request.body.opened:
                if not asked or (used or "").startswith("Basic "):
                    # There is no other login to try: this is the registry's answer.
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
                return await self._exchanges.followed(request, header)
            used = await self._auth.discovered(request.scopes, base=base, sent=sent)

    async def _ask_api(self) -> list[str]:
        """What ``/v2/`` asks for who comes without a login."""
        url = (await self.base()).join(URL("v2/"))
        request = Request(
            "GET", url, about="its API", expected=_DOUBTFUL | {200}, login=LoginUse.NEVER
        )
        answer = await self.ask(request, limit=ERROR_LIMIT)
        if answer.status != 401 or not self._exchanges.is_own(answer.url):
            return []
        return answer.headers.getall("WWW-Authenticate", [])

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
        response = await self._exchanges.once(request, None, own=own)
        try:
            if response.status == 429 or response.status in {500, 502, 503, 504}:
                raise await self._exchanges.refused(response, request)
            found = await read_bounded(response, TOKEN_LIMIT)
            return TokenAnswer(response.status, response.headers, found)
        except (aiohttp.ClientError, OSError) as error:
            raise unanswered(error, request.url, self.speaker, request.about) from error
        finally:
            let_go(response)
