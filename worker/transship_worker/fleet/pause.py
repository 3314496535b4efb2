"""Pauses: what a registry asked of one worker, the whole fleet keeps.

A process looks at all pauses and rate limiters that concern it in one call, at most every
``LOOK_S`` and only when it is about to ask a registry: without traffic there are no looks.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from transship.errors import RedisUnreachable, RegistryPaused
from transship.ledger.keys import Keys
from transship_worker.fleet.limiter import RateLimiter
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci.headers import LONGEST_WAIT_S
from transship_worker.oci.login import Login
from transship_worker.oci.retry import IN_PLACE_S

#: How old what is known may be when a registry is asked. Unit: s.
LOOK_S: Final = 0.5
#: How long a look may take; then the registry is asked without it. Unit: s.
LOOK_PATIENCE_S: Final = 2.0
#: Between two looks while Redis is away. Unit: s.
AWAY_S: Final = 5.0
#: Where the registry did not say how long: the first pause, doubled while it repeats, and the
#: longest. Unit: s.
DEFAULT_S: Final = 5.0
DEFAULT_MOST_S: Final = 300.0
#: No pause is shorter: a registry that asks for one means some time. Unit: s.
LEAST_S: Final = 1.0
#: For how long after its end a pause counts as repeated by the next, at least. Unit: s.
REMEMBERED_S: Final = 60.0
#: What is kept of a reason. Unit: characters.
REASON_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class Pause:
    """A registry is not to be asked with a login."""

    login: Login
    reason: str
    #: By Redis's clock, for people. Unit: s since 1970.
    ends_at: float
    #: On this process's monotonic clock.
    until: float
    #: When this process heard of it, on the same clock.
    heard: float
    #: Redis does not know of it.
    alone: bool = False

    @classmethod
    def parsed(cls, login: Login, now_ms: str, text: str, heard: float) -> Self | None:
        """What stands in Redis; ``None``: nothing that can be understood, or it is over."""
        end, _, reason = text.partition(" ")
        if not (end.isascii() and end.isdigit() and len(end) < 16) or int(end) <= int(now_ms):
            return None
        left_s = (int(end) - int(now_ms)) / 1000
        return cls(login, reason, int(end) / 1000, heard + left_s, heard)

    @property
    def over(self) -> bool:
        """Whether the registry may be asked again."""
        return time.monotonic() >= self.until

    @property
    def error(self) -> RegistryPaused:
        """What ends a job that would ask; the job goes on by itself when the pause is over."""
        end = datetime.fromtimestamp(math.ceil(self.ends_at), UTC)
        return RegistryPaused(
            f"{self.login.registry} is not asked until {end:%Y-%m-%dT%H:%M:%SZ}: {self.reason}",
            retry_after_s=max(self.until - time.monotonic(), 0.0),
        )


def set_arguments(
    keys: Keys, login: Login, wait_s: float | None, reason: str
) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of the script that sets a pause."""
    wait_ms = 0 if wait_s is None else int(bounded(wait_s) * 1000)
    return [
        keys.pause(login.registry, login.name),
        keys.rate(login.registry, login.name),
    ], [
        wait_ms,
        one_line(reason),
        int(DEFAULT_S * 1000),
        int(DEFAULT_MOST_S * 1000),
        int(REMEMBERED_S * 1000),
    ]


def is_pause(wait_s: float | None) -> bool:
    """Whether a wait that a registry named is a pause; ``None``: it named none. Unit: s."""
    return wait_s is not None and wait_s > IN_PLACE_S


def bounded(wait_s: float) -> float:
    """A wait that a registry asked for, within reason. Unit: s."""
    return min(max(wait_s, LEAST_S), LONGEST_WAIT_S)


def one_line(reason: str) -> str:
    """A reason on one bounded line."""
    line = " ".join(reason.split()) or "it asked for a pause"
    return line if len(line) <= REASON_LENGTH else f"{line[: REASON_LENGTH - 1]}…"


def alone(login: Login, wait_s: float | None, reason: str) -> Pause:
    """A pause that only this process keeps, since Redis cannot be told."""
    now, left_s = time.monotonic(), DEFAULT_S if wait_s is None else bounded(wait_s)
    return Pause(login, one_line(reason), time.time() + left_s, now + left_s, now, alone=True)


class Pauses:
    """The pauses that one process knows of. Used from the background loop."""

    def __init__(self, fleet: FleetRedis, keys: Keys) -> None:
        self._fleet = fleet
        self._keys = keys
        self._look_script = fleet.script("pause_look")
        self._set_script = fleet.script("pause_set")
        self._logins: list[Login] = []
        self._limiters: list[RateLimiter] = []
        self._known: dict[Login, Pause] = {}
        self._next_look = 0.0
        self._look: asyncio.Task[None] | None = None

    def watch(self, login: Login, limiter: RateLimiter | None = None) -> None:
        """Look at this login's pause, and at its rate limiter, from now on."""
        self._logins.append(login)
        if limiter is not None:
            self._limiters.append(limiter)
        self._next_look = 0.0

    async def check(self, login: Login) -> None:
        """Return if the registry may be asked; a Redis that is away keeps nobody from it.

        Raises:
            RegistryPaused: it may not.
        """
        if time.monotonic() >= self._next_look:
            if self._look is None:
                self._look = asyncio.create_task(self._looked())
            # One that gives up must not take the answer from the others.
            await asyncio.shield(self._look)
        pause = self.of(login)
        if pause is not None:
            raise pause.error

    def of(self, login: Login) -> Pause | None:
        """What was known of it at the last look; ``None``: no pause."""
        pause = self._known.get(login)
        return None if pause is None or pause.over else pause

    async def set(self, login: Login, wait_s: float | None, reason: str) -> Pause:
        """Make the whole fleet pause; ``None``: the registry did not say how long."""
        keys, args = set_arguments(self._keys, login, wait_s, reason)
        try:
            async with asyncio.timeout(LOOK_PATIENCE_S):
                now_ms, text = await self._fleet.ask(lambda: self._set_script(keys=keys, args=args))
            found = Pause.parsed(login, now_ms, text, time.monotonic())
        except (RedisUnreachable, TimeoutError):
            found = None
        pause = found or alone(login, wait_s, reason)
        self._known[login] = pause
        return pause

    async def _looked(self) -> None:
        asked = time.monotonic()
        logins, limiters = list(self._logins), list(self._limiters)
        keys = [self._keys.pause(login.registry, login.name) for login in logins]
        keys += [self._keys.limiter(one.login.registry, one.login.name) for one in limiters]
        args = [len(logins)]
        try:
            async with asyncio.timeout(LOOK_PATIENCE_S):
                reply = await self._fleet.ask(lambda: self._look_script(keys=keys, args=args))
        except (RedisUnreachable, TimeoutError):
            self._next_look = time.monotonic() + AWAY_S
        else:
            self._next_look = asked + LOOK_S
            self._learn(logins, reply[: len(logins) + 1], asked)
            for limiter, life_ms in zip(limiters, reply[len(logins) + 1 :], strict=True):
                limiter.heard(int(life_ms), asked)
        finally:
            self._look = None

    def _learn(self, logins: Sequence[Login], reply: Sequence[str], asked: float) -> None:
        heard = time.monotonic()
        for login, text in zip(logins, reply[1:], strict=True):
            found = Pause.parsed(login, reply[0], text, heard)
            known = self._known.get(login)
            if found is not None:
                self._known[login] = found
            elif known is not None and known.heard < asked and not known.alone:
                # Over, or somebody lifted it.
                del self._known[login]
