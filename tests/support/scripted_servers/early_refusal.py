"""A registry that refuses the body of an upload while it is sent, and resets the connection.

As proxies do that limit the size of a request: the answer comes early, and nothing more is read.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_ANSWERS: Final = {
    b"GET": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"POST": b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a/b/blobs/uploads/1\r\n"
    b"Content-Length: 0\r\n\r\n",
}
_REFUSAL: Final = (
    b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
    b"too large"
)


class EarlyRefusal:
    """Listens on the loopback."""

    def __init__(self, *, tls: tuple[Path, Path] | None = None) -> None:
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        #: A body was refused, and its connection reset.
        self.reset = threading.Event()

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread in accept() is woken by the shutdown.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        client.settimeout(30)
        with suppress(OSError):
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            while head := _read_head(client):
                answer = _ANSWERS.get(head.partition(b" ")[0])
                client.sendall(answer or _REFUSAL)
                if answer is None:
                    break
        with suppress(OSError):
            # Closes with RST.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.reset.set()


def _read_head(client: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        piece = client.recv(65_536)
        if not piece:
            return b""
        found += piece
    return found
