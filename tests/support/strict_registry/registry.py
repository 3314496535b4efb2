"""A second registry beside distribution: strict, awkward where that is allowed, and watchful.

It is written after distribution-spec 1.1 and shares no code with what it tests. It holds all in
memory, counts what comes, and fails the test when a client does what none may do: send
credentials to a redirect's target, or mount one blob twice at once into one repository.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Self

from aiohttp import web

from tests.support.strict_registry.blobs import Blobs
from tests.support.strict_registry.manifests import Lists, Manifests
from tests.support.strict_registry.rules import ALWAYS, Rules, TokenRules
from tests.support.strict_registry.store import Call, Counts, Refusal, Store
from tests.support.strict_registry.token_server import Door
from tests.support.strict_registry.uploads import Uploads

__all__ = ["ALWAYS", "Counts", "Rules", "StrictRegistry", "TokenRules"]

_NAME = r"(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_KINDS: Final = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"/v2/?", "ping"),
        (r"/token", "token"),
        (r"/v2/_catalog", "catalog"),
        (rf"/v2/{_NAME}/tags/list", "tags"),
        (rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)", "manifest"),
        (rf"/v2/{_NAME}/blobs/uploads/(?P<reference>[^/]*)", "upload"),
        (rf"/v2/{_NAME}/blobs/(?P<reference>[^/]+)", "blob"),
        (rf"/v2/{_NAME}/referrers/(?P<reference>[^/]+)", "referrers"),
    )
)
_VERSION: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}

_Answer = Callable[[Call, Rules], Awaitable[web.StreamResponse]]


class StrictRegistry:
    """The registry on two loopback ports, in a thread; at its end it checks for violations.

    ``rules`` may be replaced at any time, for example once it is filled.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.store = Store()
        self._blobs = Blobs(self.store)
        self._uploads = Uploads(self.store)
        self.rules = rules or Rules()
        lists = Lists(self.store)
        self._parts: dict[str, _Answer] = {
            "blob": self._blobs.answer,
            "upload": self._uploads.answer,
            "manifest": Manifests(self.store).answer,
            "tags": lists.answer,
            "catalog": lists.answer,
            "referrers": lists.answer,
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runners: list[web.AppRunner] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._in_loop(self._listen(self._serve))
        # Another host name, as a real registry's storage has: since Go 1.24 its HTTP client sends a
        # login on to another port of the same host.
        self._blobs.storage = f"http://localhost:{self._in_loop(self._listen(self._serve_blob))}"
        self._door = Door(f"{self.base}/token")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if kind is None:
            assert not self.violations, f"a client did what none may do: {self.violations}"

    @property
    def rules(self) -> Rules:
        """How it behaves from now on; what is counted for them begins when they are set."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._seen = self._seen_manifests = 0
        self._blobs.cuts.clear()
        self._uploads.cuts = 0
        self._rules = rules

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``: the first part of its images' names."""
        return f"127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    @property
    def counts(self) -> Counts:
        """What came so far."""
        return self.store.counts

    @property
    def violations(self) -> list[str]:
        """What no client may do and one did; a test that provokes it empties the list."""
        return self.store.violations

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counts]:
        """Count anew from here on."""
        self.store.counts = Counts()
        yield self.store.counts

    def authorize(self, repository: str, source: str | None = None) -> Mapping[str, str]:
        """Headers for the tests' own requests, also for ``corpus_fill.fill``."""
        if self.rules.tokens is None:
            return {}
        needed = {(repository, "pull"), (repository, "push")}
        if source:
            needed.add((source, "pull"))
        return {"Authorization": f"Bearer {self._door.always(needed)}"}

    def digest(self, repository: str, tag: str) -> str | None:
        """What the tag points to; ``None``: there is none."""
        found = self.store.repositories.get(repository)
        return found.tags.get(tag) if found else None

    def list_tags(self, repository: str) -> list[str]:
        """The repository's tags, sorted; none when it does not exist."""
        found = self.store.repositories.get(repository)
        return sorted(found.tags) if found else []

    def manifest(self, repository: str, reference: str) -> dict[str, Any]:
        """A manifest by tag or digest, as data."""
        found = self.store.repositories[repository]
        return found.manifests[found.tags.get(reference, reference)].data

    def manifest_bytes(self, repository: str, reference: str) -> bytes:
        """A manifest by tag or digest, as it came."""
        found = self.store.repositories[repository]
        return found.manifests[found.tags.get(reference, reference)].body

    def blob(self, repository: str, digest: str) -> bytes:
        """A blob that the repository holds."""
        assert digest in self.store.repositories[repository].blobs
        return self.store.blobs[digest]

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the repository holds a blob."""
        found = self.store.repositories.get(repository)
        return found is not None and digest in found.blobs

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.Request)
        try:
            call = _call(request)
            self.counts.requests[call.method, call.kind] += 1
            return await self._answer(call)
        except Refusal as refusal:
            return refusal.answer()

    async def _answer(self, call: Call) -> web.StreamResponse:
        rules = self.rules
        if call.kind == "token":
            if rules.tokens is None:
                raise Refusal(404, "UNSUPPORTED")
            return await self._door.give(call, rules.tokens, self.counts)
        self._throttle(call, rules)
        self._door.check(call, rules)
        if call.kind == "ping":
            return web.json_response({}, headers=_VERSION)
        return await self._parts[call.kind](call, rules)

    async def _serve_blob(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.Request)
        try:
            return await self._blobs.stored(request, self.rules)
        except Refusal as refusal:
            return refusal.answer()

    def _throttle(self, call: Call, rules: Rules) -> None:
        self._seen += 1
        every = rules.throttle_every
        if (call.method, call.kind) == ("PUT", "manifest"):
            self._seen_manifests += 1
            late = self._seen_manifests <= rules.throttle_manifests
        else:
            late = False
        if late or self._seen <= rules.throttle_first or (every and self._seen % every == 0):
            self.counts.throttled += 1
            headers = {"Retry-After": str(rules.retry_after_s)}
            raise Refusal(429, "TOOMANYREQUESTS", "slow down", headers)

    async def _listen(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> int:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._runners.append(runner)
        port: int = runner.addresses[0][1]
        return port

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


def _call(request: web.Request) -> Call:
    for pattern, kind in _KINDS:
        if found := pattern.fullmatch(request.path):
            parts = found.groupdict()
            return Call(request, kind, parts.get("repository", ""), parts.get("reference", ""))
    raise Refusal(404, "UNSUPPORTED", f"no such address: {request.path}")
