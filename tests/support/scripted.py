"""A registry that answers as it is told: for the refusals that no registry here gives.

What it is told is what a vendor's registry was reported to say; where, stands at each test.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; its length is that of the body unless a header says otherwise."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    """An answer in the form of the distribution-spec ("Error Codes")."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, body, {"Content-Type": "application/json", **headers})


class ScriptedRegistry:
    """Accepts every upload and forgets every manifest, except where ``script`` has an answer.

    ``script`` maps ``"METHOD what"`` to answers, where *what* is ``ping``, ``blob``,
    ``upload`` or ``manifest``; ``"* *"`` is everything.
    """

    def __init__(self) -> None:
        self.script: dict[str, Answer] = {}
        #: Every request: method and path.
        self.requests: list[tuple[str, str]] = []
        #: Blobs by digest.
        self.blobs: dict[str, bytes] = {}
        self._uploads: dict[str, bytes] = {}
        self._numbers = itertools.count(1)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """What the script says, else what a registry that has nothing yet says."""
        what = _kind(path)
        self.requests.append((method, path))
        for key in (f"{method} {what}", f"* {what}", f"{method} *", "* *"):
            if key in self.script:
                return self.script[key]
        if what == "ping":
            return Answer(200, b"{}")
        if what == "upload":
            return self._upload(method, path, body)
        if what == "blob" and path.rpartition("/")[2] in self.blobs:
            digest = path.rpartition("/")[2]
            size = str(len(self.blobs[digest]))
            return Answer(200, headers={"Content-Length": size, "Docker-Content-Digest": digest})
        if what == "manifest" and method == "PUT":
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            return Answer(201, headers={"Docker-Content-Digest": digest})
        return error(404, "MANIFEST_UNKNOWN" if what == "manifest" else "BLOB_UNKNOWN", "unknown")

    def _upload(self, method: str, path: str, body: bytes) -> Answer:
        place = urlsplit(path).path
        if method == "POST":
            place = f"{place.rstrip('/')}/{next(self._numbers)}"
        self._uploads[place] = data = self._uploads.get(place, b"") + body
        if method == "PUT":
            digest = parse_qs(urlsplit(path).query)["digest"][0]
            self.blobs[digest] = data
            return Answer(201, headers={"Location": path, "Docker-Content-Digest": digest})
        return Answer(202, headers={"Location": place, "Range": f"0-{max(len(data) - 1, 0)}"})

    def _handler(registry) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                answer = registry.answer(self.command, self.path, self._body())
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", "0")))
                pieces = []
                while size := int(self.rfile.readline(), 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        return Handler


def _kind(path: str) -> str:
    if path == "/v2/":
        return "ping"
    if "/blobs/uploads/" in path:
        return "upload"
    return "blob" if "/blobs/" in path else "manifest"
