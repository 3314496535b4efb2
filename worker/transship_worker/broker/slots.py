"""Slots: each class of work has its own, so that none waits for another's.

A hundred thousand bulk jobs wait in their queue, in Redis, while an interactive push starts at
once. The consumers that ask for a free slot are in ``lane_consumers``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from celery.worker import state

from transship_worker.concurrency.waker import Parking

#: Copies that may wait for others without a slot, each in a thread that sleeps.
MOST_PARKED: Final = 64
#: Migrations that one worker plans at once; planning waits for registries most of the time.
PLANNED_AT_ONCE: Final = 4


class Lane(StrEnum):
    """A class of work with slots of its own."""

    PUSH = "push"
    BULK = "bulk"
    COPY = "copy"
    PLAN = "plan"


class Slots:
    """How many bells of each class a worker may hold. Used by the worker's main thread only."""

    def __init__(
        self,
        *,
        interactive: int,
        bulk: int,
        copies: int,
        plans: int = PLANNED_AT_ONCE,
        most_parked: int = MOST_PARKED,
    ) -> None:
        self.limits: Final = {
            Lane.PUSH: interactive,
            Lane.BULK: bulk,
            Lane.COPY: copies,
            Lane.PLAN: plans if copies else 0,
        }
        #: Copies that may wait for others without a slot.
        self.most_parked: Final = most_parked if copies else 0
        self.parking: Final = Parking()
        self._taken: dict[Lane, set[str]] = {lane: set() for lane in Lane}

    def __str__(self) -> str:
        """Such as ``4 push, 32 copy``."""
        return ", ".join(f"{limit} {lane}" for lane, limit in self.limits.items() if limit)

    def scaled(self, percent: int) -> Slots:
        """Fewer slots of each class, but one where there is any."""
        fewer = {
            lane: max(1, limit * percent // 100) if limit else 0
            for lane, limit in self.limits.items()
        }
        return Slots(
            interactive=fewer[Lane.PUSH],
            bulk=fewer[Lane.BULK],
            copies=fewer[Lane.COPY],
            plans=fewer[Lane.PLAN],
            most_parked=self.most_parked * percent // 100,
        )

    @property
    def threads(self) -> int:
        """Threads that all slots together may need."""
        return sum(self.limits.values()) + self.most_parked

    def took(self, lane: Lane, task_id: str) -> None:
        """A bell was taken from the broker."""
        if task_id in state.requests:
            self._taken[lane].add(task_id)

    def free(self, lane: Lane) -> bool:
        """Whether another bell of this class may be taken."""
        if lane is Lane.PUSH:
            # All that no other consumer took.
            others = sum(self._count(other) for other in Lane if other is not Lane.PUSH)
            return len(state.reserved_requests) - others < self.limits[lane]
        taken = self._count(lane)
        if lane is Lane.COPY:
            taken -= min(self.parking.parked, self.most_parked)
        return taken < self.limits[lane]

    def _count(self, lane: Lane) -> int:
        # Celery drops a request from its table when the task ended, whatever way.
        self._taken[lane] = {task for task in self._taken[lane] if task in state.requests}
        return len(self._taken[lane])
