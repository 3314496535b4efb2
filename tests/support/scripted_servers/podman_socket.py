"""Stands for Podman's Docker-compatible socket where no Podman is installed.

It answers what a worker asks of an engine besides images, as Podman 5.8 does: which engine it is,
and 404 ``Not Found`` for calls that Podman does not have (``/distribution/NAME/json``).
``./dev test matrix engines`` runs the real one.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Final

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler

VERSION: Final[dict[str, Any]] = {
    "Platform": {"Name": "linux/amd64/debian-14"},
    "Components": [
        {
            "Name": "Podman Engine",
            "Version": "5.8.6",
            "Details": {"APIVersion": "5.8.6", "MinAPIVersion": "4.0.0", "Os": "linux"},
        },
        {"Name": "Conmon", "Version": "conmon version 2.1.13, commit: unknown"},
        {"Name": "OCI Runtime (crun)", "Version": "crun version 1.21"},
    ],
    "Version": "5.8.6",
    "ApiVersion": "1.44",
    "MinAPIVersion": "1.24",
}
INFO: Final[dict[str, Any]] = {
    "Name": "build-7",
    "Driver": "overlay",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Native Overlay Diff", "true"]],
    "SecurityOptions": ["name=seccomp,profile=default"],
    "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": []},
    "ServerVersion": "5.8.6",
    "BuildahVersion": "1.43.1",
}


class PodmanSocket(Loopback):
    """Reached by TCP; ``asked`` has the path of each request, without the API's version."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"tcp://{self.address}"


class _Handler(LoopbackHandler):
    owner: ClassVar[PodmanSocket]

    def handle_any(self) -> None:
        path = re.sub(r"^/v\d+\.\d+", "", self.path)
        self.owner.asked.append(path)
        answers = {"/_ping": "OK", "/version": VERSION, "/info": INFO}
        found = answers.get(path)
        body = "Not Found\n" if found is None else found
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(404 if found is None else 200)
        kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
