"""A TCP proxy that stands for a long way: it delays bytes and, if asked, limits their rate.

Bytes are delayed and not throttled: as on a real line, any number of them is on its way at
once. Half of the round trip is spent in each direction. What opens a connection (its handshake)
is not delayed: only bytes are seen here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, cast

from tests.support.processes import Server, free_port
from tests.support.repository import ROOT

#: Bytes that may be on their way in one direction of one connection: 1.2 GB/s at 50 ms.
_WINDOW: Final = 32 * 2**20
#: What is due so soon goes at once: a timer is not more precise. Unit: s.
_EARLY: Final = 0.0005


class DelayProxy(Server):
    """The proxy as a process of its own: it takes no time of the interpreter that measures.

    Its ``address`` takes the place of the server's.
    """

    title = "delay proxy"

    def __init__(self, target: int, *, round_trip_s: float, rate: float | None = None) -> None:
        """``target``: port on 127.0.0.1; ``rate``: bytes a second and direction, in all."""
        super().__init__()
        self.port = free_port()
        self._arguments = [str(self.port), str(target), str(round_trip_s)]
        if rate is not None:
            self._arguments.append(str(rate))

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.support.proxies.delay", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


class _Line:
    """What all connections share in one direction: the rate."""

    def __init__(self, delay_s: float, rate: float | None) -> None:
        self._delay_s = delay_s
        self._rate = rate
        self._free_at = 0.0

    def arrival(self, now: float, size: int) -> float:
        """When bytes that come in now are to go out, by the loop's clock. Unit: s."""
        if self._rate is None:
            return now + self._delay_s
        self._free_at = max(now, self._free_at) + size / self._rate
        return self._free_at + self._delay_s


class _End(asyncio.Protocol):
    """One end of a connection: what it receives goes, later, to the other end."""

    def __init__(self, line: _Line) -> None:
        self._loop = asyncio.get_running_loop()
        self._line = line
        self._due: deque[tuple[float, bytes]] = deque()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._other: _End | None = None
        self._full = False
        self._reading = True
        self._ended = False

    def join(self, other: _End) -> None:
        """Both ends stand: let the bytes flow."""
        self._other, other._other = other, self
        self._deliver()
        other._deliver()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._take(bytes(data))

    def eof_received(self) -> bool:
        self._take(b"")
        # The other direction stays open.
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._other is not None and self._other._transport is not None:
            self._other._transport.abort()
        if self._timer is not None and error is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._other is not None:
            self._other._deliver()

    def _take(self, data: bytes) -> None:
        self._due.append((self._line.arrival(self._loop.time(), len(data)), data))
        self._waiting += len(data)
        self._read_on()
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._due[0][0], self._deliver)

    def _deliver(self) -> None:
        """Send what is due, while the other end takes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        other = self._other
        if other is None or other._transport is None:
            return
        horizon = self._loop.time() + _EARLY
        while self._due and not other._full and self._due[0][0] <= horizon:
            _, data = self._due.popleft()
            self._waiting -= len(data)
            if data:
                other._transport.write(data)
            else:
                self._end(other)
        self._read_on()
        if self._due and not other._full:
            self._arm()

    def _end(self, other: _End) -> None:
        """This end sends nothing more: tell the other; close when neither does."""
        self._ended = True
        assert other._transport is not None
        if not other._ended:
            if not other._transport.is_closing():
                other._transport.write_eof()
            return
        other._transport.close()
        if self._transport is not None:
            self._transport.close()

    def _read_on(self) -> None:
        """Read while there is room for what is on its way."""
        wanted = self._waiting < _WINDOW
        if self._transport is None or wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


async def _serve(port: int, target: int, round_trip_s: float, rate: float | None) -> None:
    loop = asyncio.get_running_loop()
    up, down = (_Line(round_trip_s / 2, rate) for _ in range(2))
    connecting: set[asyncio.Task[None]] = set()

    async def connect(client: _End) -> None:
        try:
            _, server = await loop.create_connection(lambda: _End(down), "127.0.0.1", target)
        except OSError:
            if client._transport is not None:
                client._transport.abort()
            return
        client.join(server)

    class Client(_End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(connect(self))
            connecting.add(task)
            task.add_done_callback(connecting.discard)

    server = await loop.create_server(lambda: Client(up), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    """``python -m tests.support.proxies.delay PORT TARGET ROUND-TRIP-SECONDS [RATE]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("round_trip_s", type=float)
    parser.add_argument("rate", type=float, nargs="?")
    given = parser.parse_args()
    work = _serve(given.port, given.target, given.round_trip_s, given.rate)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main()
