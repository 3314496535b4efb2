"""The rate that a registry serves, found by the whole fleet from the first refusal on.

Until a registry answers 429, nothing is asked of Redis and no request waits. The first 429 makes
the rate limiter of this registry and login in Redis. It begins at the rate at which the registry
answered the fleet just before, goes down by a factor of 0.8 at most once a second while the
registry refuses, and grows again while requests wait for it. After a time in which the registry
refused everything it doubles every 4 s until it is nearly what it was. The scripts hold the rules.
What was not refused for ``QUIET_S`` is forgotten.

The other processes learn of it with their look at pauses (``fleet.pause``).
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from dataclasses import dataclass
from typing import Final

from redis.commands.core import AsyncScript

from transship.errors import RedisUnreachable
from transship.ledger.connection import plain
from transship.ledger.keys import Keys
from transship_worker.concurrency.semaphore import PrioritySemaphore
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci.login import Login
from transship_worker.oci.waiting import waiting

logger = logging.getLogger("transship.worker")

#: How long after the last refusal the rate limiter is remembered. Unit: s.
QUIET_S: Final = 300.0
#: The most that a process draws at once, as the time that the rate takes to give it. Unit: s.
BATCH_S: Final = 0.02
#: How long what was drawn may be used. Unit: s.
LIFE_S: Final = 0.25
#: How far ahead a draw may be. What is further away is asked for again then: the rate may have
#: grown, and whoever drew may have died. Unit: s.
AHEAD_S: Final = 1.0
#: The longest time between two questions of a process that waits. Unit: s.
ASK_AGAIN_S: Final = 1.0
#: How long a call may take while Redis cannot be reached; then the last known rate is kept alone.
#: Unit: s.
PATIENCE_S: Final = 2.0
#: The rate to begin with where no process was answered before. Unit: 1/s.
FIRST_RATE: Final = 1.0
#: Without Redis: the factor after a refusal, and the slowest. Unit: 1/s.
ALONE_FACTOR, ALONE_LEAST = 0.8, 0.1
#: A registry that only refuses for so long, and so many requests, is paused. Unit: s.
REFUSES_ALL_S: Final = 30.0
REFUSES_ALL: Final = 5


class Answers:
    """How many requests a registry served of late, and whether it serves any."""

    def __init__(self) -> None:
        #: All that were served.
        self.total = 0
        self._second = 0
        self._now = self._before = 0
        self._refused = 0
        self._refusing_since = 0.0

    def served(self) -> None:
        """One was."""
        second = int(time.monotonic())
        if second != self._second:
            self._turn(second)
        self.total += 1
        self._now += 1
        self._refused = 0

    def refused(self) -> None:
        """One was refused for its rate."""
        if self._refused == 0:
            self._refusing_since = time.monotonic()
        self._refused += 1

    @property
    def rate(self) -> float:
        """Served in the last one to two seconds. Unit: 1/s."""
        now = time.monotonic()
        if int(now) != self._second:
            self._turn(int(now))
        return (self._before + self._now) / (1 + now % 1 if self._before else 1)

    @property
    def refuses_all(self) -> bool:
        """Whether nothing was served for long although several requests were sent."""
        since = time.monotonic() - self._refusing_since
        return self._refused >= REFUSES_ALL and since >= REFUSES_ALL_S

    def _turn(self, second: int) -> None:
        self._before = self._now if second == self._second + 1 else 0
        self._now = 0
        self._second = second


@dataclass(frozen=True, slots=True)
class News:
    """What a process tells with each call of a script."""

    #: Names the process.
    token: str
    #: At which the registry answered it of late. Unit: 1/s.
    rate: float = 0.0
    #: How many requests it served to the process since it last told.
    served: int = 0
    #: The last refusal that lowered the rate, as far as the process knows; Redis's clock. Unit: µs.
    since: int = 0

    @property
    def args(self) -> list[str | int]:
        """The first arguments of each script."""
        return [self.token, f"{self.rate:.3f}", self.served, self.since]


def refusal(news: News, named_s: float | None, first_rate: float) -> list[str | int]:
    """Arguments of the script that hears of a refusal.

    Args:
        news: what the process tells with it.
        named_s: the wait that the registry named; ``None``: it named none. Unit: s.
        first_rate: to begin with where no process was answered. Unit: 1/s.
    """
    named_us = int((named_s or 0) * 1_000_000)
    return [*news.args, named_us, f"{first_rate:.3f}", int(QUIET_S * 1000)]


class RateLimiter:
    """One process's view of the fleet's rate limiter for one login. Callers are served in order."""

    def __init__(self, login: Login, fleet: FleetRedis, keys: Keys) -> None:
        self.login = login
        self.answers = Answers()
        self._fleet = fleet
        self._key = keys.limiter(login.registry, login.name)
        self._token = secrets.token_hex(4)
        self._draw_script = fleet.script("limiter_common", "limiter_draw")
        self._refused_script = fleet.script("limiter_common", "limiter_refused")
        #: One draws at a time; a request that was refused goes first.
        self._turn = PrioritySemaphore(1)
        #: Until when it is known to be there; the monotonic clock. Unit: s.
        self._until = 0.0
        #: When this process met the first refusal. Unit: s.
        self._began = 0.0
        #: The newest that is known. Unit: 1/s.
        self._rate = FIRST_RATE
        #: How many of the served answers Redis was told of, or need not know.
        self._told = 0
        #: The last refusal that is known; see ``News``.
        self._since = 0
        #: What was drawn and not used, and from when until when it may be.
        self._left = 0
        self._from = self._end = 0.0

    @property
    def is_on(self) -> bool:
        """Whether requests are to be drawn."""
        return time.monotonic() < self._until

    def heard(self, life_ms: int, asked: float) -> None:
        """Redis said for how long the rate limiter lives; below 1: there is none.

        ``asked``: when Redis was asked, on the monotonic clock. What this process began since
        stays.
        """
        if life_ms > 0 or asked > self._began:
            self._until = time.monotonic() + max(life_ms, 0) / 1000

    async def take(self, ceiling: float | None, *, again: bool = False) -> None:
        """Wait until one request may be sent; returns at once where nothing is limited.

        Args:
            ceiling: the most that is allowed in any case. Unit: 1/s.
            again: the request was refused before, and goes first.
        """
        async with waiting():
            await self._turn.acquire(0 if again else 1)
            try:
                await self._granted(ceiling or 0.0)
            finally:
                self._turn.release()

    async def refused(self, named_s: float | None, *, first_rate: float = FIRST_RATE) -> None:
        """The registry refused a request for its rate, and named a wait or none. Unit: s."""
        self.answers.refused()
        if self.is_on:
            await self._refuse(named_s, first_rate)
            return
        # At once: nothing more is sent before the rate is known.
        self._began = time.monotonic()
        self._until = self._began + QUIET_S
        await self._turn.acquire(0)
        try:
            await self._refuse(named_s, first_rate)
        finally:
            self._turn.release()

    async def _granted(self, ceiling: float) -> None:
        while self.is_on:
            now = time.monotonic()
            if not self._left or now >= self._end:
                await self._draw(ceiling)
            elif now < self._from:
                # Whoever is cancelled here leaves the draw to the next.
                await asyncio.sleep(self._from - now)
            else:
                self._left -= 1
                return

    async def _draw(self, ceiling: float) -> None:
        """Draw, or wait until it is worth asking again."""
        many = max(1, int(self._rate * BATCH_S))
        args = [*self._news().args, many, f"{ceiling:.3f}", int(AHEAD_S * 1_000_000)]
        asked = time.monotonic()
        reply = await self._ask(self._draw_script, args)
        wait_s, granted = many / self._rate, 1
        if reply is not None:
            life_ms, wait_us, rate, granted, since = map(int, reply)
            self.heard(life_ms, asked)
            if life_ms < 1:
                return
            self._learn(rate, since)
            wait_s = wait_us / 1_000_000
        if not granted:
            # Not all processes at the same moment.
            spread = random.uniform(0.8, 1.0)  # noqa: S311 - only spreads questions
            await asyncio.sleep(min(wait_s, ASK_AGAIN_S) * spread)
            return
        self._left = many
        self._from = time.monotonic() + wait_s
        self._end = self._from + LIFE_S

    def _news(self) -> News:
        served, self._told = self.answers.total - self._told, self.answers.total
        return News(self._token, self.answers.rate, served, self._since)

    def _learn(self, rate: int, since: int) -> None:
        """``rate`` in 1/1000 s; ``since`` as in ``News``."""
        self._rate = max(rate, 1) / 1000
        if since != self._since:
            # Only what is served from now on says anything of the new rate.
            self._since, self._told = since, self.answers.total

    async def _refuse(self, named_s: float | None, first_rate: float) -> None:
        args = refusal(self._news(), named_s, first_rate)
        reply = await self._ask(self._refused_script, args)
        if reply is None:
            self._rate = max(self._rate * ALONE_FACTOR, ALONE_LEAST)
            return
        life_ms, made, rate, since = map(int, reply)
        self._until = time.monotonic() + life_ms / 1000
        self._learn(rate, since)
        if made:
            logger.info(
                "%s asks for fewer requests; the fleet sends %.1f/s and adapts",
                self.login.registry,
                self._rate,
            )

    async def _ask(self, script: AsyncScript, args: list[str | int]) -> list[str | int] | None:
        """What a script says; ``None``: Redis cannot be reached."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reply: list[str | int] = await self._fleet.ask(
                    lambda: script(keys=[self._key], args=args)
                )
                return reply
        except (RedisUnreachable, TimeoutError) as error:
            logger.debug("the rate limiter cannot be asked: %s", plain(error))
            return None
