"""A proxy before a registry that speaks HTTP, and does so badly on command."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Self

import aiohttp
from aiohttp import web
from yarl import URL

from tests.chaos.plan import Kind

_PIECE: Final = 16 * 1024
#: Headers of one connection and not of the message (RFC 9110, 7.6.1).
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te"})
_STATUS: Final = {
    Kind.ERROR_500: 500,
    Kind.ERROR_502: 502,
    Kind.ERROR_503: 503,
    Kind.ERROR_503_AFTER: 503,
    Kind.ERROR_429: 429,
    Kind.ERROR_429_AFTER: 429,
}
_WITH_TIME: Final = frozenset({Kind.ERROR_503_AFTER, Kind.ERROR_429_AFTER})


@dataclass(frozen=True, slots=True)
class Weather:
    """What is wrong just now; see ``plan.Fault``."""

    kind: Kind
    every: int
    amount: float


class BrokenOff(ConnectionError):
    """The weather ends this exchange."""


class FaultyProxy:
    """Forwards requests to a registry on a loopback port, in a thread of its own.

    Every second request that meets an error or a hang is carried out all the same, and only its
    answer is lost: whoever asked cannot know. As many resets come before any byte of the answer.
    """

    def __init__(self, target: int) -> None:
        """``target``: the registry's port on 127.0.0.1."""
        self._target = f"http://127.0.0.1:{target}"
        #: Requests that met a fault.
        self.met: Counter[Kind] = Counter()
        self.requests = 0
        self._weather: Weather | None = None
        self._seen = 0
        self._over = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._ready = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``: the first part of the names of its images."""
        return f"127.0.0.1:{self.port}"

    def set(self, weather: Weather | None) -> None:
        """Begin or end a fault; what hangs is reset at its end."""
        self._tell(lambda: self._set(weather))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._tell(self._ended.set)
        self._thread.join()
        self._loop.close()

    def _tell(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _set(self, weather: Weather | None) -> None:
        self._weather = weather
        self._seen = 0
        self._over.set()
        self._over = asyncio.Event()

    async def _serve(self) -> None:
        # Each request has a connection of its own: none is lost for being late on an old one.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as session:
            server = web.Server(lambda request: self._answer(session, request), access_log=None)
            site = await self._loop.create_server(server, sock=self._listener)
            self._ready.set()
            await self._ended.wait()
            self._set(None)
            site.close()
            await server.shutdown(1)

    async def _answer(
        self, session: aiohttp.ClientSession, request: web.BaseRequest
    ) -> web.StreamResponse:
        try:
            return await self._handle(session, request)
        except (OSError, aiohttp.ClientError):
            # One side broke off: the other is to see just that, and no answer of the proxy's.
            _break_off(request)
            # What is written from here on goes nowhere.
            return web.Response()

    async def _handle(
        self, session: aiohttp.ClientSession, request: web.BaseRequest
    ) -> web.StreamResponse:
        self.requests += 1
        weather = self._meets()
        if weather is None:
            return await _Exchange(session, self._target, request).forwarded()
        lost = self.met[weather.kind] % 2 == 0
        exchange = _Exchange(session, self._target, request, weather, early=lost)
        if weather.kind in _STATUS:
            if lost:
                await exchange.carried_out()
            return _refusal(weather)
        if weather.kind is Kind.HANG:
            over = self._over
            if lost:
                await exchange.carried_out()
            await over.wait()
            raise BrokenOff
        return await exchange.forwarded()

    def _meets(self) -> Weather | None:
        """What the next request meets."""
        weather = self._weather
        self._seen += 1
        if weather is None or self._seen % weather.every:
            return None
        self.met[weather.kind] += 1
        return weather


class _Exchange:
    """One request on its way to the registry and back."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: str,
        request: web.BaseRequest,
        weather: Weather | None = None,
        *,
        early: bool = False,
    ) -> None:
        self._session = session
        self._url = URL(f"{target}{request.raw_path}", encoded=True)
        self._request = request
        self._weather = weather
        #: Bytes that pass before it is reset.
        self._limit = 0.0 if early or weather is None else weather.amount
        self._passed = 0

    async def forwarded(self) -> web.StreamResponse:
        """Ask the registry, and give its answer."""
        weather = self._weather
        if weather is not None and weather.kind is Kind.LATENCY:
            await asyncio.sleep(weather.amount)
        async with self._asked() as answer:
            await self._weigh(0)
            headers = [(n, v) for n, v in answer.headers.items() if n.lower() not in _HOP]
            reply = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
            await reply.prepare(self._request)
            if self._request.method != "HEAD":
                async for piece in answer.content.iter_chunked(_PIECE):
                    await self._weigh(len(piece))
                    await reply.write(piece)
            await reply.write_eof()
            return reply

    async def carried_out(self) -> None:
        """Ask the registry, and keep its answer."""
        with contextlib.suppress(aiohttp.ClientError):
            async with self._asked() as answer:
                await answer.read()

    def _asked(self) -> aiohttp.client._RequestContextManager:
        # With its own Host, so that the places it names are the proxy's.
        headers = [(n, v) for n, v in self._request.headers.items() if n.lower() not in _HOP]
        body = self._up() if self._request.body_exists else None
        return self._session.request(
            self._request.method, self._url, headers=headers, data=body, allow_redirects=False
        )

    async def _up(self) -> AsyncIterator[bytes]:
        async for piece in self._request.content.iter_chunked(_PIECE):
            await self._weigh(len(piece))
            yield piece

    async def _weigh(self, size: int) -> None:
        """Let bytes pass, as the weather has it."""
        weather = self._weather
        if weather is None:
            return
        self._passed += size
        if weather.kind is Kind.BANDWIDTH:
            await asyncio.sleep(size / weather.amount)
        if weather.kind is Kind.RESET and self._passed >= self._limit:
            raise BrokenOff


def _refusal(weather: Weather) -> web.Response:
    status = _STATUS[weather.kind]
    headers = {"Retry-After": f"{weather.amount:.0f}"} if weather.kind in _WITH_TIME else {}
    if status == 429:
        body = '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
        return web.Response(
            status=status, headers=headers, text=body, content_type="application/json"
        )
    page = f"<html><title>{status} from a proxy</title></html>"
    return web.Response(status=status, headers=headers, text=page, content_type="text/html")


def _break_off(request: web.BaseRequest) -> None:
    """Reset the connection to whoever asked."""
    transport = request.transport
    if transport is None:
        return
    with contextlib.suppress(OSError):
        end = transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
