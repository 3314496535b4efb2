"""Workers that share budgets, all in one event loop, each with its own connection."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis

from transship.ledger.keys import Keys
from transship_worker.fleet.budget import NO_LIMITS, Governor, Governors
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.redis import FleetRedis

T = TypeVar("T")

REGISTRY = "registry.example.com"
USER = "pusher"


class CountingRedis(FleetRedis):
    """The real connection, which counts the calls and can keep replies back."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls = 0
        #: While it is clear, Redis does what it is told, and its replies do not arrive.
        self.arriving = asyncio.Event()
        self.arriving.set()

    async def ask(self, call: Callable[[], Awaitable[T]], *, patience_s: float = 0) -> T:
        self.calls += 1
        reply = await super().ask(call, patience_s=patience_s)
        await self.arriving.wait()
        return reply


class Worker:
    """What one worker process has of budgets."""

    def __init__(self, url: str, keys: Keys, name: str, **options: Any) -> None:
        self.fleet = CountingRedis(url)
        self.governors = Governors(self.fleet, keys, name, **options)

    def governor(
        self, limits: Limits = NO_LIMITS, *, registry: str = REGISTRY, user: str | None = USER
    ) -> Governor:
        """Its governor of a login."""
        return self.governors.of(registry, user, limits)

    async def close(self) -> None:
        """End as a worker does in order."""
        await self.governors.close()
        await self.fleet.close()


class Fleet:
    """Workers in a namespace of their own, and a look at their Redis."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys = Keys(f"budgets-{secrets.token_hex(4)}")
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self._workers: list[Worker] = []

    def worker(self, **options: Any) -> Worker:
        """One worker more."""
        made = Worker(self.url, self.keys, f"worker-{len(self._workers)}", **options)
        self._workers.append(made)
        return made

    def now(self) -> float:
        """Redis's clock. Unit: s."""
        seconds, micros = self.redis.time()
        return float(seconds) + float(micros) / 1e6

    def lasting(self) -> list[str]:
        """Keys of the namespace that would stay for ever."""
        found = list(self.redis.scan_iter(f"{self.keys.prefix}*"))
        return [key for key in found if self.redis.pttl(key) == -1]

    async def close(self) -> None:
        """Close the workers."""
        for worker in self._workers:
            await worker.close()
        self.redis.close()


@asynccontextmanager
async def fleet_at(url: str) -> AsyncIterator[Fleet]:
    """A fleet that leaves no key behind that does not expire."""
    fleet = Fleet(url)
    try:
        yield fleet
        assert fleet.lasting() == []
    finally:
        await fleet.close()


async def held(url: str, namespace: str, count: int, permit_s: float) -> None:
    """What ``HOLDER`` runs: hold permits, say so, and never give them back."""
    worker = Worker(url, Keys(namespace), "holder", permit_s=permit_s)
    governor = worker.governor(Limits(transfers=count))
    for _ in range(count):
        await governor.transfer().__aenter__()
    sys.stdout.write("held\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


#: A program that holds so many permits until it is killed: URL, namespace, count, permit's life.
HOLDER = """
import asyncio, sys
from tests.support.fleet.budgets import held
asyncio.run(held(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
"""
