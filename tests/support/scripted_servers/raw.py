"""A server that answers in bytes as they are given, well-formed or not, for as long as it likes."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from typing import Self


class RawServer:
    """Reads the head of a request, then sends pieces, with a pause before each, without end.

    The last piece is sent again and again.
    """

    def __init__(self, *pieces: bytes, pause_s: float = 0.02) -> None:
        self._pieces = pieces[:-1]
        self._last = pieces[-1]
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        #: Connections that the client closed.
        self.left = 0

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def base(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            for piece in itertools.chain(self._pieces, itertools.repeat(self._last)):
                connection.sendall(piece)
                if self._stopped.wait(self._pause_s):
                    return
        self.left += 1
