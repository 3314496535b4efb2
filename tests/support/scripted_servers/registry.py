"""A registry that answers as it is told: for the refusals that no registry here gives.

What it is told is what a vendor's registry was reported to say; where, stands at each test.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler, body_of


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


class ScriptedRegistry(Loopback):
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
        super().__init__(_ScriptedHandler)

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


class SlowRegistry(ScriptedRegistry):
    """Keeps manifests, and refuses some requests of one kind for the rate of requests."""

    def __init__(self, kind: str, refused: Collection[int]) -> None:
        """``kind``: a key as in ``script``; ``refused``: which of them, counted from 0."""
        self._kind = kind
        self._refused = refused
        self._seen = itertools.count()
        self._manifests: dict[str, bytes] = {}
        super().__init__()

    def serve_all(self) -> None:
        """Refuse nothing more."""
        self._refused = ()

    def count(self, method: str) -> int:
        """How many requests with this method came, refused ones too."""
        return sum(method == one for one, _ in self.requests)

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """As ``ScriptedRegistry``, but for what is refused and what is kept."""
        if f"{method} {_kind(path)}" == self._kind and next(self._seen) in self._refused:
            self.requests.append((method, path))
            return error(429, "TOOMANYREQUESTS", "slow down")
        content = self._manifests.get(path)
        if method in {"GET", "HEAD"} and content is not None:
            self.requests.append((method, path))
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            kind = json.loads(content)["mediaType"]
            headers = {"Docker-Content-Digest": digest, "Content-Type": kind}
            return Answer(200, content, headers)
        if method == "PUT" and _kind(path) == "manifest":
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            self._manifests[path] = self._manifests[f"{path.rpartition('/')[0]}/{digest}"] = body
        return super().answer(method, path, body)


class _ScriptedHandler(LoopbackHandler):
    owner: ClassVar[ScriptedRegistry]

    def handle_any(self) -> None:
        answer = self.owner.answer(self.command, self.path, body_of(self))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


def _kind(path: str) -> str:
    if path == "/v2/":
        return "ping"
    if "/blobs/uploads/" in path:
        return "upload"
    return "blob" if "/blobs/" in path else "manifest"
