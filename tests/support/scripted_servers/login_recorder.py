"""A loopback server that passes reads on to a registry and keeps the logins that it was given."""

from __future__ import annotations

from typing import ClassVar, Final

import requests

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler

#: What is passed on of a request, and of an answer.
_UP: Final = ("Accept", "Authorization", "Range")
_DOWN: Final = ("Content-Type", "Docker-Content-Digest", "ETag", "WWW-Authenticate")


class Recorder(Loopback):
    """Stands before one registry; its own ``address`` takes the place of the registry's."""

    def __init__(self, base: str) -> None:
        #: The URL of the registry that reads are passed on to.
        self.base = base
        #: ``Authorization`` of each request, "" without one.
        self.logins: list[str] = []
        super().__init__(_RecorderHandler)


class _RecorderHandler(LoopbackHandler):
    owner: ClassVar[Recorder]

    def handle_any(self) -> None:
        assert self.command in {"GET", "HEAD"}, self.command
        self.owner.logins.append(self.headers.get("Authorization", ""))
        headers = {name: self.headers[name] for name in _UP if name in self.headers}
        answer = requests.request(
            self.command, f"{self.owner.base}{self.path}", headers=headers, timeout=30
        )
        self.send_response(answer.status_code)
        for name in _DOWN:
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        # Of a HEAD, too, it is what the registry says.
        self.send_header("Content-Length", answer.headers.get("Content-Length", "0"))
        self.end_headers()
        self.wfile.write(answer.content)
