"""Several workers of one fleet, as far as leads go, in one event loop."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import redis

from tests.support.processes import PATIENCE_S, POLL_S
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


async def soon(
    look: Callable[[], Awaitable[object]], *, what: str, within: float = PATIENCE_S
) -> None:
    """Look again and again until the answer is true; fail after ``within`` s."""
    deadline = time.monotonic() + within
    while not (answer := await look()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {within:.0f} s; last seen: {answer!r}")
        await asyncio.sleep(POLL_S)


def left(client: redis.Redis, keys: Keys, *, hints: bool = False) -> list[str]:
    """The namespace's keys in Redis; those of hints only when asked for."""
    found = sorted(client.scan_iter(match=f"{keys.prefix}*", count=1000))
    return [key for key in found if hints or not key.startswith(keys.blob("", "")[:-1])]
