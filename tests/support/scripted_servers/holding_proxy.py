"""An HTTP proxy before a registry that holds single requests, or their answers, and notes all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import threading
from dataclasses import dataclass, field
from typing import ClassVar

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler, body_of

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


class Gate(Loopback):
    """Listens on the loopback before a registry there; its ``address`` takes the other's place."""

    def __init__(self, target: int) -> None:
        """``target``: the registry's port."""
        #: In the order in which the registry got them.
        self.passed: list[Passed] = []
        self._target = target
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        super().__init__(_GateHandler)

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

    def _held(self, method: str, path: str) -> Hold | None:
        with self._lock:
            for hold in self._holds:
                fits = hold.method == method and hold.path.fullmatch(path)
                if fits and not hold.reached.is_set():
                    hold.reached.set()
                    return hold
        return None


class _GateHandler(LoopbackHandler):
    owner: ClassVar[Gate]

    def handle_any(self) -> None:
        body = body_of(self)
        hold = self.owner._held(self.command, self.path.partition("?")[0])
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
        there = http.client.HTTPConnection("127.0.0.1", self.owner._target, timeout=30)
        with contextlib.closing(there):
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            with self.owner._lock:
                path = self.path.partition("?")[0]
                self.owner.passed.append(Passed(self.command, path, digest))
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
