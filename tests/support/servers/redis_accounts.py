"""A Redis with the accounts that the project ships, and an administrator for the test."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from tests.support.processes import missing
from tests.support.repository import ROOT
from tests.support.servers.redis import RedisServer, redis_binary
from transship.ledger.keys import Keys

SHIPPED = ROOT / "config" / "redis"
#: What an operator exports.
PASSWORDS = {
    "producer": "planted-producer-password",
    "worker": "planted-worker-password",
    "monitor": "planted-monitor-password",
}
#: A second producer, made by the command that the shipped file gives.
OTHER = "ci"
#: The examples of the shipped file, which a command of it switches on.
TEAMS = ("team-a", "team-b", "team-c", "ci-gateway")
_ADMIN = "planted-admin-password"


def made(
    users: str, passwords: Mapping[str, str], *, namespace: str = ""
) -> subprocess.CompletedProcess[str]:
    """What ``accounts.sh`` makes of a text such as users.acl."""
    named = {
        f"REDIS_{name.upper().replace('-', '_')}_PASSWORD": word for name, word in passwords.items()
    }
    return subprocess.run(
        ["sh", str(SHIPPED / "accounts.sh"), "/dev/stdin"],
        input=users,
        env={"PATH": os.environ["PATH"], "TRANSSHIP_NAMESPACE": namespace} | named,
        capture_output=True,
        text=True,
        check=False,
    )


def shipped() -> str:
    """The accounts as they are shipped."""
    return (SHIPPED / "users.acl").read_text("utf-8")


def with_another() -> str:
    """The shipped accounts and one more producer, added by the command that the file gives."""
    return _changed(shipped(), r"sed .+ users\.acl >> users\.acl")


def with_teams() -> str:
    """The same, and the three teams and their gateway, switched on as the file says."""
    return _changed(with_another(), r"sed -i .+ users\.acl")


def _changed(users: str, command: str) -> str:
    found = re.search(f"^# +({command})$", shipped(), re.M)
    assert found
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "users.acl").write_text(users)
        subprocess.run(["sh", "-euc", found[1]], cwd=folder, check=True)
        return (Path(folder) / "users.acl").read_text()


def _words() -> dict[str, str]:
    """Passwords of all accounts."""
    return (
        PASSWORDS
        | {name: f"planted-{name}-password" for name in (OTHER, *TEAMS)}
        | {"admin": _ADMIN}
    )


class GuardedRedis(RedisServer):
    """Redis with the shipped accounts, its teams, a producer ``ci``, and an administrator."""

    def __init__(
        self, namespace: str = "transship", *, binary: str = "", arguments: Sequence[str] = ()
    ) -> None:
        """``binary``: the server to run, when it is not the installed one."""
        super().__init__(arguments=arguments)
        self._binary = binary or redis_binary()
        version = subprocess.run([self._binary, "--version"], capture_output=True, text=True)
        if " v=6." in version.stdout:
            missing("Redis 7.0 or newer is needed for accounts with selectors")
        #: May be changed until the server starts.
        self.namespace = namespace

    def url_of(self, user: str = "admin", password: str | None = None, database: int = 0) -> str:
        """The URL of one Redis account."""
        return super().url_of(user, password or _words()[user], database)

    def as_account(self, name: str) -> redis.Redis:
        """A new client of one account, which decodes text; the caller closes it."""
        return redis.Redis.from_url(self.url_of(name), decode_responses=True, driver_info=None)

    @contextmanager
    def refusing_nothing(self) -> Iterator[None]:
        """No account is refused anything meanwhile."""
        with closing(self.client()) as admin:
            admin.acl_log_reset()
            yield
            found = [
                f"{one['username']}: {one['reason']} {one['object']}"
                for one in admin.acl_log()
                # Clients do without the first; Redis 7.0 does not know it, so that no account can
                # have it. A narrow client asks for the other one, to learn that it is narrow.
                if one["object"] not in {"client|setinfo", Keys(self.namespace).of_all}
            ]
        if found:
            pytest.fail(f"refused: {found}")

    def command(self) -> Sequence[str]:
        users = with_teams() + "\nuser admin on ~* &* +@all\n"
        lines = made(users, _words(), namespace=self.namespace)
        assert lines.returncode == 0, lines.stderr
        file = self.folder / "users.acl"
        file.write_text(lines.stdout)
        return [self._binary, *super().command()[1:], "--aclfile", str(file)]

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
