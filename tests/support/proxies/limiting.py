"""An HTTP proxy before a registry that serves so many requests a second and refuses the others.

What is refused gets 429 with ``Retry-After``, as registries answer it. Bursts are limited as by a
token bucket (nginx and most clouds), or by counting in fixed seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp
from aiohttp import web

from tests.support.processes import Server, free_port
from tests.support.repository import ROOT

#: Where the proxy says what came; no path of a registry.
_SEEN: Final = "/seen"
#: Headers that belong to one connection (RFC 9110, 7.6.1).
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade"})
_PIECE: Final = 65_536


class Counting(StrEnum):
    """How the registry counts."""

    #: So many at once, and so many more a second.
    BUCKET = "bucket"
    #: So many in each second of the clock.
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class Seen:
    """When requests came. Unit: s since 1970."""

    served: tuple[float, ...]
    refused: tuple[float, ...]

    def within(self, begin: float, length_s: float) -> Seen:
        """Those of a span."""
        spans = (
            tuple(at for at in times if begin <= at < begin + length_s)
            for times in (self.served, self.refused)
        )
        return Seen(*spans)

    @property
    def refused_part(self) -> float:
        """Which part of all was refused."""
        return len(self.refused) / max(len(self.served) + len(self.refused), 1)


class LimitingProxy(Server):
    """The proxy as a process of its own: it takes no time of the interpreter that measures."""

    title = "limiting proxy"

    def __init__(
        self,
        target: int,
        *,
        rate: float,
        retry_after_s: int | None = 1,
        counting: Counting = Counting.BUCKET,
    ) -> None:
        """``target``: port on 127.0.0.1; ``rate``: requests that are served. Unit: 1/s."""
        super().__init__()
        self.port = free_port()
        self._arguments = [str(self.port), str(target), str(rate), counting]
        self._arguments += [] if retry_after_s is None else [str(retry_after_s)]

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``: takes the place of the registry's."""
        return f"127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    def seen(self) -> Seen:
        """What came so far."""
        with urllib.request.urlopen(f"{self.base}{_SEEN}", timeout=10) as answer:
            found = json.load(answer)
        return Seen(tuple(found["served"]), tuple(found["refused"]))

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.support.proxies.limiting", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def answers(self) -> bool:
        return self.seen().served is not None


class _Limit:
    """Whether a request is served."""

    def __init__(self, rate: float, counting: Counting) -> None:
        self._rate = rate
        self._counting = counting
        self._most = max(rate, 1.0)
        self._left = self._most
        self._last = 0.0

    def takes(self, now: float) -> bool:
        if self._counting is Counting.BUCKET:
            self._left = min(self._most, self._left + (now - self._last) * self._rate)
        elif math.floor(now) != math.floor(self._last):
            self._left = self._most
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Proxy:
    def __init__(self, target: int, limit: _Limit, retry_after_s: str | None) -> None:
        self._target = f"http://127.0.0.1:{target}"
        self._limit = limit
        self._headers = {} if retry_after_s is None else {"Retry-After": retry_after_s}
        self._seen: dict[str, list[float]] = {"served": [], "refused": []}
        self._session: aiohttp.ClientSession | None = None

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == _SEEN:
            return web.json_response(self._seen)
        now = time.time()
        if not self._limit.takes(now):
            self._seen["refused"].append(now)
            errors = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}
            return web.json_response(errors, status=429, headers=self._headers)
        self._seen["served"].append(now)
        return await self._passed(request)

    async def _passed(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None)
            self._session = aiohttp.ClientSession(auto_decompress=False, timeout=timeout)
        async with self._session.request(
            request.method,
            f"{self._target}{request.raw_path}",
            headers={k: v for k, v in request.headers.items() if k.lower() not in _HOP},
            data=request.content.iter_chunked(_PIECE) if request.body_exists else None,
            allow_redirects=False,
        ) as found:
            headers = [(k, v) for k, v in found.headers.items() if k.lower() not in _HOP]
            answer = web.StreamResponse(status=found.status)
            answer.headers.extend(headers)
            await answer.prepare(request)
            async for piece in found.content.iter_chunked(_PIECE):
                await answer.write(piece)
            await answer.write_eof()
            return answer


async def _serve(port: int, proxy: _Proxy) -> None:
    runner = web.ServerRunner(web.Server(proxy.answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def main() -> None:
    """``python -m tests.support.proxies.limiting PORT TARGET RATE COUNTING [RETRY-AFTER]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("counting", type=Counting)
    parser.add_argument("retry_after_s", nargs="?")
    given = parser.parse_args()
    limit = _Limit(given.rate, given.counting)
    asyncio.run(_serve(given.port, _Proxy(given.target, limit, given.retry_after_s)))


if __name__ == "__main__":
    main()
