"""Which faults strike when: a function of the seed, the time and the number of workers alone."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a fault is."""

    KILL = "worker killed"
    FREEZE = "worker frozen"
    DRAIN = "worker drained"
    REDIS = "redis killed"
    #: Only where sentinels let a replica take over.
    PAUSE = "redis paused"
    ENGINE = "engine killed"
    CUT = "connections cut"
    LATENCY = "latency"
    BANDWIDTH = "bandwidth"
    RESET = "resets"
    HANG = "hangs"
    ERROR_500 = "500"
    ERROR_502 = "502"
    ERROR_503 = "503"
    ERROR_503_AFTER = "503 Retry-After"
    ERROR_429 = "429"
    ERROR_429_AFTER = "429 Retry-After"


class Side(StrEnum):
    """Before which registry a fault stands."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Times count from the first; unit: s."""

    at_s: float
    kind: Kind
    #: When it is taken away; a kill has none of its own, the crew starts another worker.
    until_s: float
    worker: int = -1
    side: Side | None = None
    #: Before a registry: each how manieth request meets it.
    every: int = 1
    #: Latency in s, bandwidth in B/s, bytes before a reset, or the Retry-After in s.
    amount: float = 0

    @property
    def whom(self) -> str:
        """What it strikes; two faults never hold the same thing at once."""
        if self.side is not None:
            return str(self.side)
        return f"worker {self.worker}" if self.worker >= 0 else self.kind.partition(" ")[0]


OF_WORKERS: Final = frozenset({Kind.KILL, Kind.FREEZE, Kind.DRAIN})
OF_SERVERS: Final = frozenset({Kind.REDIS, Kind.PAUSE, Kind.ENGINE, Kind.CUT})
#: What there is with one Redis.
OF_ONE_REDIS: Final = tuple(kind for kind in Kind if kind is not Kind.PAUSE)

#: Each deck is shuffled and dealt to its end, so that a short run meets each kind, too.
DECK: Final = (*OF_ONE_REDIS, Kind.KILL, Kind.KILL, Kind.FREEZE, Kind.CUT, Kind.RESET)
#: Between two faults. Unit: s.
GAP_S: Final = (0.4, 2.4)
#: What a thing is left alone after a fault, so that it is there to be struck again. Unit: s.
REST_S: Final = 3.0
#: A registry that says 429 without a time is left alone for longer each time, and the fleet
#: remembers that for a minute: it does so no more often. Unit: s.
BARE_429_REST_S: Final = 100.0
#: Sentinels make a replica of an old primary that is back 8 to 10 s later. Unit: s.
FAILOVER_REST_S: Final = 12.0

#: How long a fault lasts. Unit: s.
_LASTS: Final = {
    Kind.KILL: (0.0, 0.0),
    Kind.DRAIN: (0.0, 0.0),
    Kind.CUT: (0.0, 0.0),
    Kind.REDIS: (0.1, 3.5),
    Kind.ENGINE: (0.3, 4.0),
    Kind.ERROR_429: (0.5, 1.0),
}
_FAILOVER_LASTS: Final = {Kind.REDIS: (0.1, 8.0), Kind.PAUSE: (0.5, 8.0)}
_WEATHER_LASTS: Final = (1.5, 5.0)
_AMOUNTS: Final = {
    Kind.LATENCY: (0.05, 0.6),
    Kind.BANDWIDTH: (20_000.0, 200_000.0),
    Kind.RESET: (0.0, 60_000.0),
    Kind.ERROR_503_AFTER: (1.0, 3.0),
    Kind.ERROR_429_AFTER: (1.0, 3.0),
}


def planned(
    seed: int, seconds: float, *, workers: int, lease_s: float, sentinel: bool = False
) -> tuple[Fault, ...]:
    """The faults of so many seconds, in their order.

    With sentinels a primary is killed or paused so long that another one takes over, or shorter.

    The first worker is never killed, only frozen: it lives through all of it, and what it holds
    at the end can be compared.
    """
    return _Planner(seed, workers, lease_s, sentinel=sentinel).faults(seconds)


class _Planner:
    def __init__(self, seed: int, workers: int, lease_s: float, *, sentinel: bool) -> None:
        self._dice = random.Random(f"faults/{seed}")
        self._workers = workers
        self._lease_s = lease_s
        self._deck = (*DECK, Kind.PAUSE, Kind.PAUSE, Kind.REDIS) if sentinel else DECK
        self._lasts = _LASTS | _FAILOVER_LASTS if sentinel else _LASTS
        self._redis_rest_s = FAILOVER_REST_S if sentinel else REST_S
        #: Until when a thing is held or left alone.
        self._busy: defaultdict[str, float] = defaultdict(float)

    def faults(self, seconds: float) -> tuple[Fault, ...]:
        found: list[Fault] = []
        now = 0.5
        while now < seconds:
            deck = list(self._deck)
            self._dice.shuffle(deck)
            for kind in deck:
                now += self._dice.uniform(*GAP_S)
                fault = self._fault(now, kind)
                if fault is not None and fault.until_s < seconds:
                    found.append(fault)
                    rest = BARE_429_REST_S if kind is Kind.ERROR_429 else 0
                    self._busy[f"{fault.whom} {kind}"] = fault.until_s + rest
                    of_redis = kind in {Kind.REDIS, Kind.PAUSE}
                    self._busy[fault.whom] = fault.until_s + (
                        self._redis_rest_s if of_redis else REST_S
                    )
        return tuple(sorted(found, key=lambda fault: fault.at_s))

    def _fault(self, now: float, kind: Kind) -> Fault | None:
        """The next fault of a kind; ``None``: all that it could strike is to be left alone."""
        if kind in OF_WORKERS:
            return self._of_worker(now, kind)
        end = now + self._dice.uniform(*self._lasts.get(kind, _WEATHER_LASTS))
        if kind in OF_SERVERS:
            fault = Fault(now, kind, end)
            return fault if self._free(fault, now) else None
        low, high = _AMOUNTS.get(kind, (0.0, 0.0))
        amount, every = self._dice.uniform(low, high), self._dice.choice((1, 2, 3, 5))
        if kind in {Kind.ERROR_503_AFTER, Kind.ERROR_429_AFTER}:
            amount = round(amount)
        sides = self._dice.sample(list(Side), 2)
        both = (Fault(now, kind, end, side=s, every=every, amount=amount) for s in sides)
        return next((fault for fault in both if self._free(fault, now)), None)

    def _of_worker(self, now: float, kind: Kind) -> Fault | None:
        first = 0 if kind is Kind.FREEZE else 1
        # Past its lease.
        lasts = self._lease_s + self._dice.uniform(0.5, 3.0) if kind is Kind.FREEZE else 0.0
        order = self._dice.sample(range(first, self._workers), self._workers - first)
        every = (Fault(now, kind, now + lasts, worker=number) for number in order)
        return next((fault for fault in every if self._free(fault, now)), None)

    def _free(self, fault: Fault, now: float) -> bool:
        return max(self._busy[fault.whom], self._busy[f"{fault.whom} {fault.kind}"]) <= now
