"""Stands for a Docker Engine whose pushes never end: each event names another layer.

A real engine does not do that; it answers here what a worker asks before a push, as Docker Engine
28.5 with a graph driver does.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, ClassVar, Final

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler, body_of

VERSION: Final[dict[str, Any]] = {
    "Platform": {"Name": "Docker Engine - Community"},
    "Components": [{"Name": "Engine", "Version": "28.5.2", "Details": {"ApiVersion": "1.51"}}],
    "Version": "28.5.2",
    "ApiVersion": "1.51",
    "MinAPIVersion": "1.24",
}
INFO: Final[dict[str, Any]] = {
    "Name": "build-7",
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": ["127.0.0.0/8"]},
    "ServerVersion": "28.5.2",
}
IMAGE: Final[dict[str, Any]] = {
    "Id": f"sha256:{'c' * 64}",
    "RepoDigests": [],
    "Os": "linux",
    "Architecture": "amd64",
    "Size": 1000,
    "RootFS": {"Type": "layers", "Layers": []},
}
#: Events that are sent at once.
_EVENTS: Final = 200


class EndlessEngine(Loopback):
    """Reached by TCP; ``layers`` counts those that were named so far."""

    def __init__(self) -> None:
        self.layers = 0
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"tcp://{self.address}"


class _Handler(LoopbackHandler):
    owner: ClassVar[EndlessEngine]

    def handle_any(self) -> None:
        body_of(self)
        path = re.sub(r"^/v\d+\.\d+", "", self.path).partition("?")[0]
        if path.endswith("/push"):
            self._push()
            return
        answers = {"/_ping": "OK", "/version": VERSION, "/info": INFO}
        found = IMAGE if re.fullmatch(r"/images/.+/json", path) else answers.get(path)
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        content = json.dumps(found or {"message": "manifest unknown"}).encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _push(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for first in itertools.count(0, _EVENTS):
            events = "".join(
                json.dumps({"id": f"{number:064x}", "status": "Preparing"}) + "\r\n"
                for number in range(first, first + _EVENTS)
            ).encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(events), events))
            self.owner.layers += _EVENTS
