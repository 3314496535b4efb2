"""A SOCKS proxy (RFC 1928, RFC 1929; SOCKS 4A) that leads host names to loopback ports."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from tests.support.proxies.tcp import TcpProxy


class SocksProxy(TcpProxy):
    """Speaks versions 5 and 4A; its names exist nowhere else, so that only it can resolve them."""

    def __init__(
        self,
        routes: Mapping[str, int],
        *,
        login: tuple[str, str] | None = None,
        hang_up: bool = False,
    ) -> None:
        """``routes``: ``host:port`` → port on 127.0.0.1; others are refused."""
        self.routes = dict(routes)
        self._login, self._hang_up = login, hang_up
        #: ``host:port`` that were asked for.
        self.asked: list[str] = []
        super().__init__(0)

    def connect(self, client: socket.socket) -> socket.socket | None:
        if self._hang_up:
            return None
        version = _read(client, 1)[0]
        return self._five(client) if version == 5 else self._four(client)

    def _five(self, client: socket.socket) -> socket.socket | None:
        methods = _read(client, _read(client, 1)[0])
        wanted = 2 if self._login else 0
        if wanted not in methods:
            client.sendall(b"\x05\xff")
            return None
        client.sendall(bytes([5, wanted]))
        if self._login:
            _read(client, 1)
            user, password = (_read(client, _read(client, 1)[0]).decode() for _ in range(2))
            good = (user, password) == self._login
            client.sendall(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return None
        _, _, _, kind = _read(client, 4)
        host = {
            1: lambda: socket.inet_ntop(socket.AF_INET, _read(client, 4)),
            3: lambda: _read(client, _read(client, 1)[0]).decode(),
            4: lambda: socket.inet_ntop(socket.AF_INET6, _read(client, 16)),
        }[kind]()
        server = self._lead(host, int.from_bytes(_read(client, 2)))
        # Host unreachable.
        client.sendall(bytes([5, 0 if server else 4, 0, 1, 0, 0, 0, 0, 0, 0]))
        return server

    def _four(self, client: socket.socket) -> socket.socket | None:
        _read(client, 1)
        port = int.from_bytes(_read(client, 2))
        address = _read(client, 4)
        _text(client)
        # An address 0.0.0.x announces a name.
        host = _text(client) if address[:3] == b"\0\0\0" else socket.inet_ntoa(address)
        server = self._lead(host, port)
        client.sendall(bytes([0, 90 if server else 91, 0, 0, 0, 0, 0, 0]))
        return server

    def _lead(self, host: str, port: int) -> socket.socket | None:
        self.asked.append(f"{host}:{port}")
        found = self.routes.get(f"{host}:{port}")
        return socket.create_connection(("127.0.0.1", found), timeout=10) if found else None


def _read(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = client.recv(size - len(found))
        if not piece:
            raise ConnectionResetError
        found += piece
    return found


def _text(client: socket.socket) -> str:
    found = b""
    while (byte := _read(client, 1)) != b"\0":
        found += byte
    return found.decode()
