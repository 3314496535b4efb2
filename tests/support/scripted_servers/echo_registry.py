"""A registry that says back all that it is told: the worst that an error's body can hold.

What it does is named by the repository: ``denied``, ``failing``, ``plain`` (an error that is no
JSON), ``redirecting``, ``hanging``, ``dropping``; anything else is refused, too.
"""

from __future__ import annotations

import base64
import json
import threading
from typing import ClassVar
from urllib.parse import quote

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler, body_of

#: What ``/token`` hands out; planted.
TOKEN = "planted-echo-token-0123456789abcdef"


class EchoRegistry(Loopback):
    """Asks for a login, Basic or ``bearer``, and repeats it in every answer."""

    def __init__(self, *, bearer: bool = False) -> None:
        self.bearer = bearer
        self._end = threading.Event()
        super().__init__(_EchoHandler)

    def release(self) -> None:
        self._end.set()


class _EchoHandler(LoopbackHandler):
    owner: ClassVar[EchoRegistry]

    def handle_any(self) -> None:
        body_of(self)
        login = self.headers.get("Authorization", "")
        if not login:
            self._challenge()
        elif self.path.startswith("/token"):
            self._token(login)
        elif self.path.rstrip("/") == "/v2":
            self._send(200, b"{}")
        else:
            self._refuse(login)

    def _challenge(self) -> None:
        kind = f'Basic realm="{self.owner.address}"'
        if self.owner.bearer:
            kind = f'Bearer realm="http://{self.owner.address}/token",service="echo"'
        self._send(401, b"", **{"WWW-Authenticate": kind})

    def _token(self, login: str) -> None:
        if "refused" in self.path:
            self._send(401, self._errors(login))
        elif "broken" in self.path:
            self._send(200, self._errors(login))
        else:
            self._send(200, json.dumps({"token": TOKEN}).encode())

    def _refuse(self, login: str) -> None:
        if "/dropping/" in self.path:
            self.close_connection = True
        elif "/hanging/" in self.path:
            self.owner._end.wait(20)
            self.close_connection = True
        elif "/redirecting/" in self.path:
            secret = quote(login.partition(" ")[2], safe="")
            place = f"http://{secret}@{self.owner.address}/{secret}/x?t={secret}"
            self._send(307, b"", Location=place)
        elif "/plain/" in self.path:
            self._send(400, f"no: {login} {_password(login)}\n{login}".encode())
        else:
            status = 503 if "/failing/" in self.path else 403
            self._send(status, self._errors(login))

    def _errors(self, login: str) -> bytes:
        secret = _password(login)
        words = f"not for Authorization: {login}, {secret}, {quote(secret, safe='')}"
        errors = [
            {"code": "DENIED", "message": words, "detail": secret},
            {"code": secret, "message": f"https://u:{secret}@host/?a={secret}"},
        ]
        return json.dumps({"errors": errors}).encode()

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _password(login: str) -> str:
    """The bare secret in an ``Authorization``."""
    kind, _, value = login.partition(" ")
    if kind.lower() != "basic":
        return value
    return base64.b64decode(value).decode().partition(":")[2]
