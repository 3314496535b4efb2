"""An HTTP server that stands before a registry, as nginx does: below a path, with a body limit.

It changes no header of an answer: what nginx's ``proxy_redirect`` would mend stays wrong here.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from dataclasses import dataclass
from typing import ClassVar

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler, body_of

#: What is between two servers only, and not passed on.
_HOPS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    #: Of its body. Unit: bytes.
    size: int


class Front(Loopback):
    """Listens on the loopback before a registry there."""

    def __init__(
        self, target: int, *, prefix: str = "/", strips: bool = True, max_body: int | None = None
    ) -> None:
        """A proxy.

        Args:
            target: the registry's port.
            prefix: the path below which the registry lies, with slashes at both ends.
            strips: the path is not passed on.
            max_body: a larger body gets 413, before it is read where its length is told.
        """
        self.prefix, self._strips, self._max_body = prefix, strips, max_body
        self._target = target
        #: In the order in which they came.
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        super().__init__(_FrontHandler)

    @property
    def endpoint(self) -> str:
        """What ``endpoint:`` says of it."""
        return f"http://{self.address}{self.prefix}".rstrip("/")

    def count(self, method: str, part: str = "") -> int:
        """How many requests of a method had this in their path."""
        return sum(one.method == method and part in one.path for one in self.asked)


class _FrontHandler(LoopbackHandler):
    owner: ClassVar[Front]
    #: Two writes of an answer do not wait for each other.
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        front = self.owner
        told = int(self.headers.get("Content-Length") or 0)
        if front._max_body is not None and told > front._max_body:
            self._note(told)
            self._refuse(413, "Request Entity Too Large")
            return
        body = body_of(self)
        self._note(len(body))
        if front._max_body is not None and len(body) > front._max_body:
            self._refuse(413, "Request Entity Too Large")
            return
        if not self.path.startswith(front.prefix):
            self._refuse(404, "Not Found")
            return
        path = self.path
        if front._strips:
            path = f"/{path.removeprefix(front.prefix)}"
        names = {name.title() for name in self.headers if name.lower() not in _HOPS}
        # Engines repeat Accept.
        headers = {name: ", ".join(self.headers.get_all(name, [])) for name in names}
        there = http.client.HTTPConnection("127.0.0.1", front._target, timeout=30)
        with contextlib.closing(there):
            if body or self.command in {"POST", "PUT", "PATCH"}:
                headers["Content-Length"] = str(len(body))
            there.request(self.command, path, body or None, headers)
            answer = there.getresponse()
            self._write(answer.status, answer.getheaders(), answer.read())

    def _note(self, size: int) -> None:
        with self.owner._lock:
            self.owner.asked.append(Asked(self.command, self.path, size))

    def _refuse(self, status: int, title: str) -> None:
        page = f"<html><head><title>{status} {title}</title></head></html>".encode()
        self._write(status, [("Content-Type", "text/html"), ("Connection", "close")], page)
        self.close_connection = True
        # nginx reads on for a while (lingering_close), so that the client sees the answer.
        self.connection.settimeout(5)
        with contextlib.suppress(OSError):
            while self.rfile.read1(65_536):
                pass

    def _write(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in _HOPS - {"connection"}:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()
