"""What a worker process holds for copies and planning: one loop, one pool, one view of the fleet.

Made when the first such job comes: a worker that only pushes never loads any of it.
"""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from transship.ledger.keys import Keys
from transship.model.jobs import Kind
from transship_worker.broker.slots import Lane, Slots
from transship_worker.catalog.model import Components
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.concurrency.waker import Waker
from transship_worker.fleet.budget import Governors
from transship_worker.fleet.layers import RedisLayers
from transship_worker.fleet.leads import RedisLeads
from transship_worker.fleet.redis import FleetRedis
from transship_worker.handlers.copy import Copying, Grounds
from transship_worker.handlers.copy_progress import CopySlots
from transship_worker.handlers.migration.handler import Planning, PlanningGrounds
from transship_worker.handlers.registries import Way
from transship_worker.handlers.streaming import StreamWay
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.handler import Work
from transship_worker.jobs.sweep import Due
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.stream.compression import THREADS
from transship_worker.transports.stream.push import StreamGrounds

logger = logging.getLogger("transship.worker")

#: How long the lead of a blob outlives a silent worker. Unit: s.
LEAD_S = 15.0
#: How long the end of the loop's connections is waited for. Unit: s.
CLOSE_S = 3.0


class Background:
    """The work that is done in the background loop."""

    def __init__(
        self,
        *,
        url: str,
        keys: Keys,
        name: str,
        claims: Claims,
        components: Callable[[], Components],
        ring: Callable[[Sequence[Due]], None],
        slots: Slots,
        waker: Waker,
    ) -> None:
        self._loop = BackgroundLoop()
        self._made = made = self._loop.run(_make(url, keys, name, slots, waker))
        way, fleet, copies = Way(made.pool, made.governors), made.fleet, made.copies
        grounds = Grounds(way, made.leads, copies)
        planning = PlanningGrounds(way, fleet, keys)
        self._squeezers = ThreadPoolExecutor(THREADS, "transship-squeezer")
        self.streams = StreamWay(StreamGrounds(self._loop, made.layers, self._squeezers), way)
        self.work: dict[Kind, Work] = {
            Kind.COPY: Copying(components, self._loop, grounds),
            Kind.MIGRATION: Planning(components, claims, ring, self._loop, planning),
        }

    def close(self) -> None:
        """Let go of what the loop holds, and end it."""
        try:
            self._loop.run(self._close(), timeout_s=CLOSE_S)
        except (TimeoutError, concurrent.futures.CancelledError, OSError) as error:
            logger.debug("the background loop did not close in order: %r", error)
        self._loop.close()
        self._squeezers.shutdown(wait=False, cancel_futures=True)

    async def _close(self) -> None:
        await self._made.governors.close()
        await self._made.leads.close()
        await self._made.pool.close()
        await self._made.fleet.close()


@dataclass(frozen=True, slots=True)
class _Made:
    fleet: FleetRedis
    pool: ClientPool
    governors: Governors
    leads: RedisLeads
    copies: CopySlots
    layers: RedisLayers


async def _make(url: str, keys: Keys, name: str, slots: Slots, waker: Waker) -> _Made:
    """In the loop itself, where connections and locks belong."""
    fleet = FleetRedis(url)
    return _Made(
        fleet,
        ClientPool(),
        Governors(fleet, keys, name),
        RedisLeads(fleet, keys, lease_s=LEAD_S),
        CopySlots(slots.limits[Lane.COPY], slots.parking, waker),
        RedisLayers(fleet, keys),
    )
