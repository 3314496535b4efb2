"""Small TCP proxies that make a network bad on command."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Self

_PIECE = 16 * 1024


class TcpProxy:
    """Forwards connections to one loopback port, and can slow, stall, cut or refuse them.

    Its own ``address`` takes the place of the server's. "Up" is towards the server.
    """

    def __init__(self, target: int) -> None:
        """``target``: the server's port on 127.0.0.1."""
        self._target = target
        #: Bytes a second up, over all connections; ``None``: as fast as it goes. Unit: B/s.
        self.rate: float | None = None
        #: Connections are reset once this many more bytes went up. Unit: bytes.
        self.reset_after: int | None = None
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0
        self._open = threading.Event()
        self._open.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that neither side has ended yet."""
        with self._lock:
            return len(self._pairs)

    def lead_to(self, target: int) -> None:
        """New connections go to another port; those that are open stay where they are."""
        self._target = target

    def hang(self) -> None:
        """Keep every connection, and forward nothing more."""
        self._open.clear()

    def resume(self) -> None:
        """Forward again."""
        self._open.set()

    def cut(self) -> None:
        """Reset all connections that are open now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _reset(pair)

    def close(self) -> None:
        """Stop listening and reset everything."""
        self._closed = True
        self._open.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def connect(self, client: socket.socket) -> socket.socket | None:
        """Reach the server for a new client; ``None``: it cannot be reached."""
        try:
            return socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            return None

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self.connect(client)
        except OSError:
            server = None
        if server is None:
            _reset((client, client))
            return
        server.settimeout(None)
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        down = threading.Thread(target=self._pump, args=(server, client, pair), daemon=True)
        down.start()
        self._pump(client, server, pair)
        down.join()
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            end.close()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        up = source is pair[0]
        try:
            while piece := source.recv(_PIECE):
                self._open.wait()
                if up and self._spend(len(piece)):
                    _reset(pair)
                    return
                if not up:
                    # Before the send: who has the answer may look at once.
                    self.bytes_down += len(piece)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(pair)

    def _spend(self, size: int) -> bool:
        """Count bytes that go up, at the set rate; whether the connection is to be reset."""
        rate = self.rate
        with self._lock:
            self.bytes_up += size
            if rate:
                # Under the lock: the rate is that of all connections together.
                time.sleep(size / rate)
            if self.reset_after is None:
                return False
            self.reset_after -= size
            return self.reset_after <= 0


class ConnectProxy(TcpProxy):
    """An HTTP proxy (``CONNECT`` only) that leads host names to loopback ports.

    With ``HTTPS_PROXY`` set to ``url``, a Docker Engine takes a local TLS registry for
    ``123456789012.dkr.ecr.eu-west-1.amazonaws.com``.
    """

    def __init__(self, routes: Mapping[str, int]) -> None:
        """``routes``: ``host`` or ``host:port`` → port on 127.0.0.1; others get 502."""
        self.routes = dict(routes)
        super().__init__(0)

    @property
    def url(self) -> str:
        """What ``HTTPS_PROXY`` would be."""
        return f"http://{self.address}"

    def connect(self, client: socket.socket) -> socket.socket | None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(1)
            if not piece:
                return None
            head += piece
        method, _, rest = head.decode("latin-1").partition(" ")
        authority = rest.partition(" ")[0]
        port = self.routes.get(authority) or self.routes.get(authority.removesuffix(":443"))
        if method != "CONNECT" or port is None:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return None
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return socket.create_connection(("127.0.0.1", port), timeout=10)


def _reset(pair: tuple[socket.socket, ...]) -> None:
    """Close with RST, and wake every thread that waits for these sockets."""
    for end in pair:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
