"""Several workers of one fleet, as far as leads go, in one event loop."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import redis

from transship.ledger.keys import Keys
from transship_worker.fleet.leads import RedisLeads
from transship_worker.fleet.port import Place
from transship_worker.fleet.redis import FleetRedis

_numbers = itertools.count()

#: Where most blobs of the tests go.
PLACE = Place("registry.example.com", "acme/app")


def new_keys() -> Keys:
    """A namespace that nobody else has."""
    return Keys(f"fleet{os.getpid()}-{next(_numbers)}")


def digest(number: int) -> str:
    """A blob."""
    return f"sha256:{number:064x}"


@asynccontextmanager
async def workers(
    url: str, keys: Keys, count: int, *, lease_s: float = 60
) -> AsyncIterator[list[RedisLeads]]:
    """So many worker processes' leads, each with connections of its own."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            fleet = await stack.enter_async_context(FleetRedis(url))
            made.append(await stack.enter_async_context(RedisLeads(fleet, keys, lease_s=lease_s)))
        yield made


def left(client: redis.Redis, keys: Keys, *, hints: bool = False) -> list[str]:
    """The namespace's keys in Redis; those of hints only when asked for."""
    found = sorted(client.scan_iter(match=f"{keys.prefix}*", count=1000))
    return [key for key in found if hints or not key.startswith(keys.blob("", "")[:-1])]
