"""Small HTTP servers on the loopback, for what plays a part that cannot be had."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self


def body_of(request: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, with a length or in chunks."""
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", "0") or 0))
    pieces = []
    while size := int(request.rfile.readline() or b"0", 16):
        pieces.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(pieces)


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers every method in one place."""

    protocol_version = "HTTP/1.1"
    #: The server that it answers for; subclasses say its type.
    owner: ClassVar[Any]

    def handle_any(self) -> None:
        """Answer one request."""
        raise NotImplementedError

    def handle(self) -> None:
        # A client may leave at any time.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(LoopbackHandler, f"do_{_method}", lambda self: self.handle_any())


class Loopback:
    """Listens from its making on; answers within a ``with`` block."""

    def __init__(self, handler: type[LoopbackHandler]) -> None:
        bound = type(handler.__name__, (handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    def release(self) -> None:
        """Let go of requests that are held, at the end."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
