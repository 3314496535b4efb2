"""An HTTP server before a registry: it counts what comes, and behaves as some servers do.

What it adds to a real registry's behavior is what was seen of reverse proxies and of other
registries: a HEAD that is refused, a limit for bodies, pages without ``Link``.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

#: Headers that belong to one connection (RFC 9110, 7.6.1).
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade"})
_PIECE: Final = 2**18
#: The kinds of a path by a part of it, the first that is found.
_KINDS: Final = (
    ("uploads", re.compile(r"/blobs/uploads/")),
    ("blobs", re.compile(r"/blobs/")),
    ("manifests", re.compile(r"/manifests/")),
    ("tags", re.compile(r"/tags/list$")),
    ("catalog", re.compile(r"/_catalog$")),
    ("referrers", re.compile(r"/referrers/")),
)


class Asked(NamedTuple):
    """One request, and what the client was told."""

    method: str
    #: As in ``_KINDS``; ``other``.
    kind: str
    #: With its query.
    path: str
    status: int


@dataclass(frozen=True)
class FrontRules:
    """What is not passed on as it is; all of it is by default."""

    #: The status that a HEAD of each kind gets.
    head: Mapping[str, int] = field(default_factory=dict)
    #: So many requests get 429 with ``Retry-After: 1`` first.
    throttle_first: int = 0
    #: A larger body gets 413, as nginx answers it. Unit: bytes.
    max_body: int | None = None
    #: ``False``: no answer has a ``Link``.
    links: bool = True
    #: Manifests and lists are not there for a client without a login, not even by 401.
    hidden: bool = False
    #: Further names in each list of tags.
    more_tags: tuple[str, ...] = ()


class Front:
    """One server, at ``address`` instead of the registry."""

    def __init__(self, target: str, rules: FrontRules) -> None:
        self._target = f"http://{target}"
        self._session: aiohttp.ClientSession | None = None
        self.rules = rules
        self.asked: list[Asked] = []
        self.throttled = 0
        #: Requests that came and are not counted yet.
        self.unanswered = 0
        self.address = ""

    def count(self, *methods: str, kind: str = "") -> int:
        """Requests with one of these methods, of one kind or of all."""
        return sum(one.method in methods and kind in ("", one.kind) for one in self.asked)

    @contextmanager
    def counting(self) -> Iterator[list[Asked]]:
        """Count anew from here on."""
        self.asked = []
        yield self.asked

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        kind = next((name for name, path in _KINDS if path.search(request.path)), "other")
        self.unanswered += 1
        try:
            answer = self._refusal(request, kind) or await self._passed(request, kind)
            self.asked.append(Asked(request.method, kind, request.path_qs, answer.status))
        finally:
            self.unanswered -= 1
        return answer

    async def close(self) -> None:
        """Close the connections to the registry."""
        if self._session is not None:
            await self._session.close()

    def _refusal(self, request: web.BaseRequest, kind: str) -> web.Response | None:
        rules = self.rules
        if self.throttled < rules.throttle_first:
            self.throttled += 1
            errors = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}
            return web.json_response(errors, status=429, headers={"Retry-After": "1"})
        if request.method == "HEAD" and kind in rules.head:
            return web.Response(status=rules.head[kind])
        if rules.max_body is not None and (request.content_length or 0) > rules.max_body:
            return web.Response(
                status=413, text="<h1>413 Request Entity Too Large</h1>", content_type="text/html"
            )
        if rules.hidden and kind != "other" and "Authorization" not in request.headers:
            errors = {"errors": [{"code": "NAME_UNKNOWN", "message": "not found"}]}
            return web.json_response(errors, status=404)
        return None

    async def _passed(self, request: web.BaseRequest, kind: str) -> web.StreamResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
            self._session = aiohttp.ClientSession(auto_decompress=False, timeout=timeout)
        # The engine sends one ``Accept`` for each type.
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _HOP)
        async with self._session.request(
            request.method,
            f"{self._target}{request.raw_path}",
            headers=headers,
            data=request.content.iter_chunked(_PIECE) if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as found:
            passed = [(k, v) for k, v in found.headers.items() if k.lower() not in _HOP]
            if not self.rules.links:
                passed = [(k, v) for k, v in passed if k.lower() != "link"]
            if kind == "tags" and self.rules.more_tags and found.status == 200:
                return await self._with_tags(found)
            answer = web.StreamResponse(status=found.status)
            answer.headers.extend(passed)
            await answer.prepare(request)
            async for piece in found.content.iter_chunked(_PIECE):
                await answer.write(piece)
            await answer.write_eof()
            return answer

    async def _with_tags(self, found: aiohttp.ClientResponse) -> web.StreamResponse:
        body: dict[str, Any] = json.loads(await found.read())
        body["tags"] = [*(body.get("tags") or []), *self.rules.more_tags]
        link = found.headers.get("Link") if self.rules.links else None
        return web.json_response(body, headers={"Link": link} if link else {})


class Fronts:
    """Servers in one thread, for as long as the block runs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._made: list[tuple[Front, web.ServerRunner]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def make(self, target: str, rules: FrontRules) -> Front:
        """A server before ``target`` (``host:port``)."""
        front = Front(target, rules)
        self._in_loop(self._listen(front))
        return front

    async def _listen(self, front: Front) -> None:
        runner = web.ServerRunner(web.Server(front.answer, access_log=None), shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        front.address = f"127.0.0.1:{runner.addresses[0][1]}"
        self._made.append((front, runner))

    async def _close(self) -> None:
        for front, runner in self._made:
            await runner.cleanup()
            await front.close()

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)
