"""Budgets: how fast all workers together may go at one registry with one login.

A process has one ``Governor`` for each registry and login. Without limits it costs next to
nothing; pauses, and the rate that a registry was found to serve, hold all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from typing import Final

from transship.ledger.keys import Keys
from transship_worker.fleet.budget_draw import Allowance
from transship_worker.fleet.budget_permits import Permits
from transship_worker.fleet.budget_pots import PERMIT_S
from transship_worker.fleet.limiter import RateLimiter
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.pause import Pauses, is_pause
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci.budget import GovernorPort
from transship_worker.oci.headers import RateLimit
from transship_worker.oci.login import Login
from transship_worker.oci.waiting import waiting

#: For how long a draw goes on trying while Redis is away. Unit: s.
PATIENCE_S: Final = 30.0
#: The pause once all of Docker Hub's pulls are used up. Its window rolls
#: (docker.com/blog, "Checking Your Current Docker Pull Rate Limits and Status"), so that nobody
#: tells when the next pull is free; asking by HEAD costs none of them. Unit: s.
SPENT_S: Final = 900.0

NO_LIMITS: Final = Limits()


class Governor:
    """The fleet's budget at one registry with one login. Implements ``GovernorPort``."""

    def __init__(
        self,
        login: Login,
        limits: Limits,
        *,
        fleet: FleetRedis,
        keys: Keys,
        pauses: Pauses,
        permits: Permits,
        limiter: RateLimiter,
    ) -> None:
        self.login = login
        #: The newest that the catalogue says.
        self.limits = limits
        self.rate_limit: RateLimit | None = None
        #: Whether it is looked whether pulls are used up.
        self._watching = False
        self._fleet = fleet
        self._rate_key = keys.rate(login.registry, login.name)
        self._pauses = pauses
        self._permits = permits
        self._limiter = limiter
        self._script = fleet.script("budget_draw")
        self._requests = Allowance(lambda rate, count: self._draw("requests", rate, count))
        self._bytes = Allowance(lambda rate, count: self._draw("bytes", rate, count))

    def __repr__(self) -> str:
        return f"Governor({self.login.registry}, {self.login.name})"

    @property
    def is_limited(self) -> bool:
        """See ``GovernorPort``."""
        return self._limiter.is_on

    async def request(self, *, pull: bool = False, again: bool = False) -> None:
        """See ``GovernorPort``."""
        await self._pauses.check(self.login)
        if pull:
            self._watch_pulls()
            await self._pauses.check(self.login.pulls)
        rate = self.limits.requests_per_second
        if self._limiter.is_on:
            await self._limiter.take(rate, again=again)
        elif rate is not None:
            async with waiting():
                await self._requests.take(1, rate)
        else:
            return
        # The wait may have been long.
        await self._pauses.check(self.login)

    def transfer(self) -> AbstractAsyncContextManager[None]:
        """See ``GovernorPort``."""
        limit = self.limits.transfers
        return nullcontext() if limit is None else self._permits.permit(self.login, limit)

    async def bytes(self, size: int) -> None:
        """See ``GovernorPort``."""
        rate = self.limits.bytes_per_second
        if rate is not None and size > 0:
            await self._bytes.take(size, rate)

    async def answered(
        self,
        status: int,
        retry_after_s: float | None = None,
        rate_limit: RateLimit | None = None,
        *,
        reason: str = "",
        pull: bool = True,
    ) -> bool:
        """See ``GovernorPort``."""
        if rate_limit is not None:
            await self._heard(rate_limit)
        if not (status == 429 or (status == 503 and retry_after_s is not None)):
            if status < 500:
                self._limiter.answers.served()
            return False
        words = reason or f"it answered {status}"
        if rate_limit is not None and rate_limit.remaining == 0:
            # Where it refuses pulls, it refuses nothing else.
            login = self.login.pulls if pull else self.login
            wait_s = retry_after_s or _spent_s(rate_limit)
            raise (await self._pauses.set(login, wait_s, words)).error
        if not is_pause(retry_after_s):
            await self._limiter.refused(retry_after_s)
            if not self._limiter.answers.refuses_all:
                return True
            # Whatever wait it names, waiting that long does not help.
            retry_after_s, words = None, f"it refuses all requests: {words}"
        raise (await self._pauses.set(self.login, retry_after_s, words)).error

    async def _heard(self, limit: RateLimit) -> None:
        """Hear of the pulls that are left; where none is, nobody reads manifests for a while."""
        self._watch_pulls()
        self.rate_limit = limit
        if limit.remaining == 0 and self._pauses.of(self.login.pulls) is None:
            words = "all pulls of this login are used up"
            await self._pauses.set(self.login.pulls, _spent_s(limit), words)

    def _watch_pulls(self) -> None:
        if not self._watching:
            self._watching = True
            self._pauses.watch(self.login.pulls)

    async def _draw(self, field: str, rate: float, count: int) -> float:
        args: list[str | float] = [field, rate, count]
        wait_us = await self._fleet.ask(
            lambda: self._script(keys=[self._rate_key], args=args), patience_s=PATIENCE_S
        )
        return int(wait_us) / 1_000_000


def _spent_s(limit: RateLimit) -> float:
    """How long nothing is pulled when nothing is left. Unit: s."""
    return min(limit.window_s or SPENT_S, SPENT_S)


class Governors:
    """All governors of one process. Made once, in the background loop."""

    def __init__(
        self, fleet: FleetRedis, keys: Keys, process: str, *, permit_s: float = PERMIT_S
    ) -> None:
        """``process``: the worker's name; ``permit_s``: how long a permit outlives it."""
        self._fleet = fleet
        self._keys = keys
        self._pauses = Pauses(fleet, keys)
        self._permits = Permits(fleet, keys, process, permit_s=permit_s)
        self._governors: dict[Login, Governor] = {}

    def of(self, registry: str, username: str | None, limits: Limits = NO_LIMITS) -> Governor:
        """The governor of a login; ``None``: without one. The newest limits count.

        ``registry`` is ``host[:port]``, as an endpoint has it.
        """
        login = Login.of(self._keys, registry, username)
        governor = self._governors.get(login)
        if governor is None:
            limiter = RateLimiter(login, self._fleet, self._keys)
            governor = self._governors[login] = Governor(
                login,
                limits,
                fleet=self._fleet,
                keys=self._keys,
                pauses=self._pauses,
                permits=self._permits,
                limiter=limiter,
            )
            self._pauses.watch(login, limiter)
        governor.limits = limits
        return governor

    async def close(self) -> None:
        """Give back what is held; to be called when nothing is copied any more."""
        await self._permits.close()


@asynccontextmanager
async def transfers(*governors: GovernorPort | None) -> AsyncIterator[None]:
    """One transfer between registries: a permit of each, however often it is named.

    They are taken in one order everywhere, so that no two transfers wait for each other.
    """
    found = {governor.login: governor for governor in governors if governor is not None}
    async with AsyncExitStack() as stack:
        for login in sorted(found):
            await stack.enter_async_context(found[login].transfer())
        yield
