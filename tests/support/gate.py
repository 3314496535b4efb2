"""An HTTP proxy before a registry that holds single requests, or their answers, and notes all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

#: What is between two servers only, and not passed on.
_HOPS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Hold:
    """One request that is held: the first that matches, before the registry hears of it.

    With ``answer`` it is the registry's answer that is held.
    """

    method: str
    path: re.Pattern[str]
    answer: bool
    #: Set when the request came.
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Passed:
    """A request that the registry got."""

    method: str
    path: str
    #: Of its body.
    digest: str


class Gate:
    """Listens on the loopback before a registry there; its ``address`` takes the other's place."""

    def __init__(self, target: int) -> None:
        """``target``: the registry's port."""
        #: In the order in which the registry got them.
        self.passed: list[Passed] = []
        self._target = target
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    def hold(self, method: str, path: str, *, answer: bool = False) -> Hold:
        """Hold the next request of this method whose whole path matches a pattern."""
        found = Hold(method, re.compile(path), answer)
        with self._lock:
            self._holds.append(found)
        return found

    def release(self) -> None:
        """Let all go on that is held."""
        for hold in self._holds:
            hold.released.set()

    def written(self, repository: str, tag: str) -> list[str]:
        """Digests that were written under a tag, in their order."""
        path = f"/v2/{repository}/manifests/{tag}"
        return [one.digest for one in self.passed if (one.method, one.path) == ("PUT", path)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _held(self, method: str, path: str) -> Hold | None:
        with self._lock:
            for hold in self._holds:
                fits = hold.method == method and hold.path.fullmatch(path)
                if fits and not hold.reached.is_set():
                    hold.reached.set()
                    return hold
        return None

    def _handler(gate) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self._body()
                hold = gate._held(self.command, self.path.partition("?")[0])
                if hold is not None and not hold.answer:
                    hold.released.wait(60)
                status, headers, answer = self._ask(body)
                if hold is not None and hold.answer:
                    hold.released.wait(60)
                # The client may have hung up meanwhile.
                with contextlib.suppress(OSError):
                    self._write(status, headers, answer)

            def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOPS}
                there = http.client.HTTPConnection("127.0.0.1", gate._target, timeout=30)
                with contextlib.closing(there):
                    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
                    with gate._lock:
                        path = self.path.partition("?")[0]
                        gate.passed.append(Passed(self.command, path, digest))
                    there.request(self.command, self.path, body or None, headers)
                    found = there.getresponse()
                    return found.status, found.getheaders(), found.read()

            def _write(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                length = str(len(body))
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value
                    elif name.lower() not in _HOPS:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", "0")))
                pieces = []
                while size := int(self.rfile.readline() or b"0", 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        return Handler
