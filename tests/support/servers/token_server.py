"""A token server for the registry's ``token`` auth: short-lived, counted, revocable.

The protocol is the distribution project's ("Token Authentication Specification"). Two facts
of its code matter here: the registry (2.8) accepts a token until 60 s after its ``exp``, and
the Docker Engine takes every token for valid for at least 60 s after its ``issued_at``. So a
token that both hold for expired after two seconds is issued as one of a minute ago.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
import time
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler, body_of
from tests.support.servers.certificates import self_signed

#: What the registry adds to ``exp``, and the engine's shortest belief. Unit: s.
LEEWAY_S = 60


class _Handler(LoopbackHandler):
    owner: ClassVar[TokenServer]

    def handle_any(self) -> None:
        if self.command == "GET":
            query = parse_qs(urlsplit(self.path).query)
            login = self.headers.get("Authorization", "").removeprefix("Basic ")
            user, _, password = base64.b64decode(login).decode().partition(":")
            self._answer(user, password, query)
        elif self.command == "POST":
            query = parse_qs(body_of(self).decode())
            user, password = (query.get(k, [""])[0] for k in ("username", "password"))
            if owner := self.owner.refresh.get(query.get("refresh_token", [""])[0]):
                user, password = owner, self.owner.users[owner]
            self._answer(user, password, query)
        else:
            self.send_error(501)

    def _answer(self, user: str, password: str, query: dict[str, list[str]]) -> None:
        scopes = [one for many in query.get("scope", []) for one in many.split()]
        self.owner.requests.append((user, " ".join(scopes)))
        if self.owner.users.get(user) != password or not user:
            body = {"errors": [{"code": "UNAUTHORIZED", "message": "bad login"}]}
            self._send(401, body)
        else:
            self._send(200, self.owner.token(user, scopes))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class TokenServer(Loopback):
    """Answers ``GET /token`` (Basic auth) and ``POST /token`` (password grant) with JWTs.

    A user gets ``pull`` and ``push`` on everything, or only the actions in ``rights``, where ``*``
    is the list of repositories.
    """

    ISSUER = "transship-tests"
    SERVICE = "registry"

    def __init__(
        self,
        folder: Path,
        users: dict[str, str],
        *,
        lifetime_s: float = 300,
        rights: dict[str, set[str]] | None = None,
    ) -> None:
        super().__init__(_Handler)
        self.users = users
        #: Seconds that the next tokens are accepted, and known by the engine to be. Unit: s.
        self.lifetime_s = lifetime_s
        #: Seconds that the engine believes in; ``None``: the truth. Unit: s.
        self.claimed_s: float | None = None
        self.rights = rights or {}
        #: Scopes asked for, one entry a request, with the user ("" when anonymous).
        self.requests: list[tuple[str, str]] = []
        #: Every token that was handed out.
        self.issued: list[str] = []
        #: Refresh tokens, and whose they are ("OAuth2 Token Authentication").
        self.refresh: dict[str, str] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = self_signed("tokens", self._key)
        self.certificate = folder / "tokens.pem"
        self.certificate.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    @property
    def realm(self) -> str:
        """Where the registry sends its clients."""
        return f"http://{self.address}/token"

    def token(self, user: str, scopes: list[str]) -> dict[str, Any]:
        """What the server answers, as the specification says."""
        now = time.time()
        engine_s = self.lifetime_s if self.claimed_s is None else self.claimed_s
        claims = {
            "iss": self.ISSUER,
            "sub": user,
            "aud": self.SERVICE,
            "iat": int(now),
            "nbf": int(now) - 10,
            "exp": int(now + self.lifetime_s - LEEWAY_S),
            "jti": secrets.token_hex(8),
            "access": [access for scope in scopes if (access := self._access(user, scope))],
        }
        der = base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()
        signed = jwt.encode(claims, self._key, algorithm="RS256", headers={"x5c": [der]})
        self.issued.append(signed)
        issued = dt.datetime.fromtimestamp(now + engine_s - LEEWAY_S, dt.UTC)
        return {
            "token": signed,
            "access_token": signed,
            "expires_in": LEEWAY_S,
            "issued_at": issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _access(self, user: str, scope: str) -> dict[str, Any] | None:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        # The list of repositories is `registry:catalog:*`.
        if kind not in {"repository", "registry"}:
            return None
        allowed = self.rights.get(user, {"pull", "push"}) & set(actions.split(","))
        return {"type": kind, "name": name, "actions": sorted(allowed)}
