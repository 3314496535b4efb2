"""Carries the planned faults out, one after another, in the main thread."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import redis

from tests.chaos.crew import Crew, Held
from tests.chaos.faulty import Weather
from tests.chaos.ground import Ground
from tests.chaos.memory import Sampler
from tests.chaos.plan import Fault, Kind
from tests.support.servers.redis import RedisServer

#: How often it is looked what the first worker holds.
SAMPLES: Final = 10


@dataclass
class Struck:
    """A fault that was carried out. Times as the ledger has them; unit: s since 1970."""

    fault: Fault
    at: float
    #: The worker that was struck, as the ledger calls it; empty: none.
    worker: str = ""
    #: Connections that were cut.
    cut: int = 0


class Striker:
    """Strikes; ``struck`` is what happened."""

    def __init__(
        self, ground: Ground, crew: Crew, memory: Sampler, tell: Callable[[str], None]
    ) -> None:
        """``memory`` hears which workers lose connections."""
        self.struck: list[Struck] = []
        #: What the first worker held on the way: when (s), memory (MiB), open files.
        self.samples: list[tuple[int, int, int]] = []
        self._ground = ground
        self._crew = crew
        self._memory = memory
        self._tell = tell
        #: The server that is killed or paused now, or was last.
        self._struck_redis: RedisServer | None = None

    def run(self, faults: Sequence[Fault]) -> None:
        """Carry all faults out and take all of them away again."""
        actions = [(fault.at_s, fault, True) for fault in faults]
        actions += [(fault.until_s, fault, False) for fault in faults]
        start = time.monotonic()
        for at_s, fault, begins in sorted(actions, key=lambda action: (action[0], not action[2])):
            time.sleep(max(0.0, start + at_s - time.monotonic()))
            self._sample(at_s, faults[-1].at_s / SAMPLES)
            if begins:
                self._begin(fault)
            else:
                self._end(fault)

    def _sample(self, at_s: float, period_s: float) -> None:
        if at_s < len(self.samples) * period_s:
            return
        hand = self._crew.hands[0]
        if hand.status is None:
            held = Held.of(hand.pid)
            self.samples.append((round(at_s), held.memory // 2**20, len(held.files)))

    def _begin(self, fault: Fault) -> None:
        struck = Struck(fault, time.time())
        self.struck.append(struck)
        amount = f", {fault.amount:.3g}, each {fault.every}" if fault.side else ""
        self._tell(f"{fault.at_s:6.1f} s  {fault.kind} ({fault.whom}{amount})")
        if fault.worker >= 0:
            self._strike_worker(struck)
        elif fault.side is not None:
            weather = Weather(fault.kind, fault.every, fault.amount)
            self._ground.ways[fault.side].set(weather)
        elif fault.kind is Kind.REDIS:
            self._lose()
            self._struck_redis = self._ground.redis
            self._struck_redis.kill9()
        elif fault.kind is Kind.PAUSE:
            self._struck_redis = self._ground.redis
            self._struck_redis.freeze()
        elif fault.kind is Kind.ENGINE:
            self._ground.engine.kill9()
        elif fault.kind is Kind.CUT:
            struck.cut = self._cut()

    def _strike_worker(self, struck: Struck) -> None:
        hand = self._crew.hands[struck.fault.worker]
        if hand.status is not None or hand.doomed is not None:
            # It could not begin just now, and there is nobody to strike.
            return
        struck.worker = hand.names[-1]
        if struck.fault.kind is Kind.FREEZE:
            hand.halt()
        else:
            kill = struck.fault.kind is Kind.KILL
            hand.strike(signal.SIGKILL if kill else signal.SIGTERM)

    def _cut(self) -> int:
        """Cut all connections to Redis: those of Celery, of the ledger and of producers."""
        self._lose()
        with self._ground.redis.client() as client:
            try:
                return int(client.execute_command("CLIENT", "KILL", "TYPE", "normal"))
            except redis.RedisError:
                return 0

    def _lose(self) -> None:
        """Count the connections to Redis that each worker is about to lose."""
        port = f"port {self._ground.redis.port}"

        def connections(pid: int) -> int:
            try:
                return Held.of(pid).files.count(port)
            except OSError:
                # It ended just now.
                return 0

        self._memory.lose(connections)

    def _end(self, fault: Fault) -> None:
        if fault.kind is Kind.FREEZE:
            self._crew.hands[fault.worker].go_on()
        elif fault.side is not None:
            self._ground.ways[fault.side].set(None)
        elif fault.kind is Kind.REDIS:
            assert self._struck_redis is not None
            self._struck_redis.start()
        elif fault.kind is Kind.PAUSE:
            assert self._struck_redis is not None
            self._struck_redis.thaw()
        elif fault.kind is Kind.ENGINE:
            self._ground.engine.start()
