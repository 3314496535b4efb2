"""A fake of the clouds' token endpoints on a loopback port: answers as it is told.

It stands in for Google's and Microsoft's servers, whose answers it imitates as they document
them; it proves nothing about those servers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler, body_of


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    #: Query and form fields together.
    fields: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Handler(LoopbackHandler):
    owner: ClassVar[FakeCloud]

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        fields = dict(parse_qsl(url.query) + parse_qsl(body_of(self).decode()))
        asked = Asked(self.command, url.path, fields, dict(self.headers.items()))
        reply = self.owner.reply(asked)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class FakeCloud(Loopback):
    """``answers`` maps a path to a reply, or to what makes one; another path fails the request."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.answers: dict[str, Reply | Callable[[Asked], Reply]] = {}
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{self.address}"

    def reply(self, asked: Asked) -> Reply:
        """What is answered."""
        self.asked.append(asked)
        found = self.answers.get(asked.path, Reply(404, {"error": f"unexpected {asked.path}"}))
        return found if isinstance(found, Reply) else found(asked)
