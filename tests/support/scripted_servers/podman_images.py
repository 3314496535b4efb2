"""Podman's Docker-compatible socket for one image, as Podman 5.8 was seen to answer.

It pushes by calling what a test gives it. ``./dev test matrix engines`` runs the real one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler
from tests.support.scripted_servers.podman_socket import INFO, VERSION

#: The digest that Podman lists for a local image; no push makes it.
LOCAL: Final = "sha256:" + "9" * 64

#: Pushes; the status and the lines of the answer.
Pushing = Callable[[], tuple[int, list[dict[str, Any]]]]


def pushed(tag: str, digest: str) -> tuple[int, list[dict[str, Any]]]:
    """A push that succeeded: its only lines, both at its end."""
    return 200, [
        {"status": "The push refers to repository [a]"},
        {"status": f"{tag}: digest: {digest} size: 578"},
    ]


def failed(message: str) -> tuple[int, list[dict[str, Any]]]:
    """A push that failed."""
    return 500, [{"errorDetail": {"message": message}, "error": message}]


class PodmanImages(Loopback):
    """Holds one image under every name."""

    def __init__(self, image_id: str, diff_ids: list[str]) -> None:
        self.inspected = {
            "Id": image_id,
            "RootFS": {"Type": "layers", "Layers": diff_ids},
            "Size": 1000,
            "Os": "linux",
            "Architecture": "amd64",
        }
        self.push: Pushing = lambda: failed("nothing was to be pushed")
        #: ``POST`` and ``GET`` requests, without the API's version.
        self.asked: list[str] = []
        #: The API version that ``/version`` names, and the oldest that is answered.
        self.api = "1.44"
        self.oldest = "1.24"
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"tcp://{self.address}"


class _Handler(LoopbackHandler):
    owner: ClassVar[PodmanImages]

    def handle_any(self) -> None:
        path = re.sub(r"^/v\d+\.\d+", "", unquote(self.path.partition("?")[0]))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.owner.asked.append(f"{self.command} {path}")
        spoken = re.match(r"/v(\d+)\.(\d+)/", self.path)
        oldest = tuple(map(int, self.owner.oldest.split(".")))
        if spoken and tuple(map(int, spoken.groups())) < oldest:
            # As Docker Engine 29 is documented to answer.
            self._json(400, [{"message": f"client version is too old: {self.owner.oldest}"}])
        elif path == "/version":
            self._json(200, [{**VERSION, "ApiVersion": self.owner.api}])
        elif path == "/info":
            self._json(200, [INFO])
        elif path.endswith("/push"):
            self._json(*self.owner.push())
        elif found := re.fullmatch(r"/images/(.+)/json", path):
            name = found[1].rpartition(":")[0]
            listed = [f"{name}@{LOCAL}"] if "/" in name else []
            self._json(200, [{**self.owner.inspected, "RepoDigests": listed}])
        elif path.endswith("/tag"):
            self._answer(201, b"", "text/plain")
        elif path == "/_ping":
            self._answer(200, b"OK", "text/plain")
        else:
            self._answer(404, b"Not Found\n", "text/plain; charset=utf-8")

    def _json(self, status: int, lines: list[dict[str, Any]]) -> None:
        body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        self._answer(status, body, "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "Libpod/5.8.6 (linux)"
