"""The servers of a run, and the fleet's settings."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from tests.chaos.faulty import FaultyProxy
from tests.chaos.plan import Side
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.servers.sentinel import Watched
from tests.support.workers.process import Site

#: Unit: s.
LEASE_S: Final = 5.0
#: Short times, so that much happens in a run; so many attempts that a good job needs bad luck to
#: use them up. Units: s.
SETTINGS: Final = {
    "TRANSSHIP_LEASE": f"{LEASE_S:g}",
    "TRANSSHIP_REAP": "0.5",
    "TRANSSHIP_BACKOFF": "0.5",
    "TRANSSHIP_BACKOFF_MAX": "4",
    "TRANSSHIP_ATTEMPTS": "40",
    "TRANSSHIP_STALL": "10",
    "TRANSSHIP_GRACE": "2",
}
#: Of both components, so that permits and tokens are drawn. Units: blobs, 1/s.
LIMITS: Final = {"transfers": 6, "requests_per_second": 150}


class Ground:
    """Redis, an engine, and two registries behind faulty proxies; no worker yet."""

    def __init__(self, folder: Path, *, sentinel: bool = False) -> None:
        """``sentinel``: Redis is a primary and a replica under three sentinels."""
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.watched = stack.enter_context(Watched()) if sentinel else None
            self._redis = None if self.watched else stack.enter_context(RedisServer())
            self.engine = stack.enter_context(DockerDaemon())
            self.source = stack.enter_context(Registry())
            self.target = stack.enter_context(Registry())
            self.registries = {Side.SOURCE: self.source, Side.TARGET: self.target}
            self.ways = {
                side: stack.enter_context(FaultyProxy(registry.port))
                for side, registry in self.registries.items()
            }
            url = self.watched.url if self.watched else self.redis.url
            more = {"TRANSSHIP_WAIT_REPLICAS": "1"} if sentinel else {}
            self.site = Site(folder, url, self.engine.url, **SETTINGS, **more)
            stack.callback(self.site.close)
            self.site.write_catalog(
                {
                    name: {"flavor": "default", "uri": self.ways[side].address, "limits": LIMITS}
                    for name, side in (("old", Side.SOURCE), ("new", Side.TARGET))
                }
            )
            self._stack = stack.pop_all()

    @property
    def redis(self) -> RedisServer:
        """The Redis, or the primary as it is known now."""
        if self.watched is not None:
            return self.watched.primary
        assert self._redis is not None
        return self._redis

    @property
    def redis_ports(self) -> list[int]:
        """Those of all servers of Redis."""
        servers = [self.redis] if self.watched is None else self.watched.servers
        return [server.port for server in servers]

    @property
    def redis_logs(self) -> dict[str, str]:
        """What all servers of Redis wrote."""
        if self.watched is None:
            return {"redis": self.redis.log_text()}
        logs = {f"redis-{n}": one.log_text() for n, one in enumerate(self.watched.servers)}
        return logs | {
            f"sentinel-{n}": one.log_text() for n, one in enumerate(self.watched.sentinels)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
