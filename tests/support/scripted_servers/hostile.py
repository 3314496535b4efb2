"""A scripted HTTP server: it answers what it is told to, broken on purpose where wanted.

A request that was not expected fails the test, and so does one that was and never came.
"""

from __future__ import annotations

import contextlib
import itertools
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.support.scripted_servers.loopback import body_of


@dataclass(frozen=True)
class Reply:
    """One answer. Its length is that of the body unless ``length`` says otherwise."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: What ``Content-Length`` says; the connection closes after the body if it is a lie.
    length: int | None = None
    #: Without ``Content-Length``, the body again and again until the client hangs up.
    endless: bool = False
    #: Without ``Content-Length``, in one chunk.
    chunked: bool = False
    #: No answer at all: the connection closes.
    hang_up: bool = False
    #: The answer waits until this is set.
    gate: threading.Event | None = None
    #: The body comes in single bytes with such pauses, again and again. Unit: s.
    drip_s: float | None = None


@dataclass
class Expected:
    """A request that may come so often, with its answer."""

    method: str
    target: str
    reply: Reply
    #: What the request's headers must be; ``None``: absent.
    headers: Mapping[str, str | None]
    #: The request's body, if it matters.
    body: bytes | None
    left: int


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class _Http(ThreadingHTTPServer):
    """Takes many connections at once."""

    daemon_threads = True
    request_queue_size = 64


class HostileServer:
    """Listens on the loopback; as a context manager it checks its script at the end."""

    def __init__(
        self,
        *,
        tls: tuple[Path, Path] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """``port``: zero chooses one."""
        self.seen: list[Seen] = []
        self._script: list[Expected] = []
        self._wrong: list[str] = []
        self._lock = threading.Lock()
        self._rules: dict[str, Callable[[Seen], Reply]] = {}
        self._listens = address
        self._stopped = threading.Event()
        self._http = _Http((address, port), self._handler())
        self._scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._http.server_address[1])

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"{self._listens}:{self.port}"

    @property
    def base(self) -> str:
        """Its URL."""
        return f"{self._scheme}://{self.address}"

    def expect(
        self,
        method: str,
        target: str,
        reply: Reply | None = None,
        *,
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        times: int = 1,
    ) -> None:
        """Say what comes (path and query) and what is answered; in any order, so often."""
        self._script.append(Expected(method, target, reply or Reply(), headers or {}, body, times))

    def follow(self, path: str, rule: Callable[[Seen], Reply]) -> None:
        """Answer whatever is asked below a path, so often as it comes, as a rule says."""
        self._rules[path] = rule

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        if kind is None:
            missing = [f"{e.method} {e.target}" for e in self._script if e.left]
            assert not self._wrong, f"came and were not expected: {self._wrong}"
            assert not missing, f"were expected and did not come: {missing}"

    def _reply(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            for expected in self._script:
                if expected.left and (expected.method, expected.target) == (
                    seen.method,
                    seen.target,
                ):
                    expected.left -= 1
                    self._compare(expected, seen)
                    return expected.reply
            for path, rule in self._rules.items():
                if seen.target.startswith(path):
                    return rule(seen)
            self._wrong.append(f"{seen.method} {seen.target}")
            return Reply(418)

    def _compare(self, expected: Expected, seen: Seen) -> None:
        what = f"{seen.method} {seen.target}"
        for name, value in expected.headers.items():
            if seen.headers.get(name.lower()) != value:
                self._wrong.append(f"{what} with {name}: {seen.headers.get(name.lower())!r}")
        if expected.body is not None and seen.body != expected.body:
            self._wrong.append(f"{what} with the body {seen.body!r}")

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A head and a body are two writes: the second does not wait for the first to arrive.
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = server._reply(Seen(self.command, self.path, headers, body_of(self)))
                if reply.gate is not None:
                    reply.gate.wait(30)
                if reply.hang_up:
                    self.close_connection = True
                    return
                # The client may hang up on what it does not want.
                with contextlib.suppress(OSError):
                    self._write(reply)

            def _write(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                body = reply.body
                if reply.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                elif reply.endless or reply.drip_s is not None:
                    self.send_header("Connection", "close")
                elif "Content-Length" not in reply.headers:
                    length = len(reply.body) if reply.length is None else reply.length
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if reply.drip_s is not None:
                    for byte in itertools.cycle(reply.body):
                        self.wfile.write(bytes([byte]))
                        if server._stopped.wait(reply.drip_s):
                            return
                if self.command != "HEAD":
                    self.wfile.write(body)
                while reply.endless:
                    self.wfile.write(reply.body)
                if reply.length is not None and self.command != "HEAD":
                    self.close_connection = True

        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        return Handler
