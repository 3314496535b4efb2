"""A fleet that three teams share, each with a Redis account and rights of its own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis

from tests.support.servers.redis_accounts import GuardedRedis
from tests.support.workers.copy_site import component
from tests.support.workers.process import Site, WorkerProcess
from transship import Client
from transship_config.settings import Settings

TEAM_A, TEAM_B, GATEWAY = "team-a", "team-b", "ci-gateway"


def rights(team: str) -> dict[str, Any]:
    """What a team may do: its part of ``prod``, and a registry of its own, ``NAME-own``."""
    mine = [f"prod/{team}/**"]
    return {
        "push": mine,
        "copy_from": [*mine, f"{team}-own"],
        "copy_to": [*mine, f"{team}-own"],
        "labels": {"team": team},
    }


class TeamSite:
    """Redis with the shipped accounts, a catalog with rights, and clients of each account.

    ``own``: addresses of the registries of the teams; ``prod``: of the one that they share.
    """

    def __init__(self, folder: Path, docker_url: str, *, prod: str, own: dict[str, str]) -> None:
        self.server = GuardedRedis()
        self.site = Site(folder, self.server.url_of("worker"), docker_url)
        self.server.namespace = self.site.namespace
        self._registries = {"prod": component(prod)} | {
            f"{team}-own": component(address) for team, address in own.items()
        }
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.server)
        self._stack.callback(self.site.close)
        self.set_rights()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def set_rights(self, **accounts: dict[str, Any]) -> None:
        """Replace the section; as it is at first, each team has its own and there is a gateway."""
        section = accounts or {
            TEAM_A: rights(TEAM_A),
            TEAM_B: rights(TEAM_B),
            GATEWAY: {"acts_for": [TEAM_A]},
        }
        self.site.write_catalog(self._registries, accounts=section)

    def allow_everything(self) -> None:
        """A catalog without the section."""
        self.site.write_catalog(self._registries)

    def start(self, *arguments: str) -> WorkerProcess:
        """Start a worker; its lease is long, so that a busy machine loses nothing."""
        return self.site.start_worker(*arguments, TRANSSHIP_LEASE="30")

    def settings(self, account: str) -> Settings:
        url = {"TRANSSHIP_URL": self.server.url_of(account)}
        return Settings.from_environment(self.site.environment | url)

    def client(self, account: str) -> Client:
        """An honest client of an account, open until the end."""
        return self._stack.enter_context(Client(settings=self.settings(account)))

    def redis(self, account: str) -> redis.Redis:
        """A client of Redis with an account, open until the end."""
        found = self.server.as_account(account)
        self._stack.callback(found.close)
        return found
