"""Slots of copies: given back while a copy only waits, and never by a copy that has none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from transship.model.jobs import Step
from transship.model.records import Progress
from transship_worker.concurrency.waker import Parking, Waker
from transship_worker.handlers.copy_progress import CopyProgress, CopySlots
from transship_worker.jobs.control import Control


class FakeControl:
    """Stands for the control of a job that nothing stops."""

    def mark(self, step: Step) -> None:
        """See ``Control``."""

    def progress(self, progress: Progress) -> None:
        """See ``Control``."""

    @contextmanager
    def patient(self) -> Iterator[None]:
        """See ``Control``."""
        yield


class Copies:
    """Copies that share one slot."""

    def __init__(self) -> None:
        self.parking = Parking()
        self.slots = CopySlots(1, self.parking, Waker())

    async def work(self, begun: asyncio.Event, ends: asyncio.Event) -> None:
        """Hold the slot until ``ends``."""
        async with self.slots.slot(cast("Control", FakeControl())):
            begun.set()
            await ends.wait()

    async def wait(self, begun: asyncio.Event, ends: asyncio.Event) -> None:
        """Leave the slot until ``ends``."""
        control = cast("Control", FakeControl())
        async with self.slots.slot(control) as slot, CopyProgress(control, slot).parked():
            begun.set()
            await ends.wait()


async def _slots_left(copies: Copies) -> int:
    """How many copies hold a slot at once, of two that try."""
    ends, begun = asyncio.Event(), [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.create_task(copies.work(one, ends)) for one in begun]
    await begun[0].wait()
    # What could run did: nothing here waits for anything but the loop.
    for _ in range(10):
        await asyncio.sleep(0)
    held = sum(one.is_set() for one in begun)
    ends.set()
    await asyncio.gather(*tasks)
    return held


@pytest.mark.parametrize("for_slot", [False, True], ids=["for-a-layer", "for-its-slot"])
async def test_a_copy_that_is_cancelled_while_it_waits_ends_and_gives_no_slot_back(
    for_slot: bool,
) -> None:
    copies = Copies()
    parked, working, awaited, ends = (asyncio.Event() for _ in range(4))
    waits = asyncio.create_task(copies.wait(parked, awaited))
    await parked.wait()
    works = asyncio.create_task(copies.work(working, ends))
    await working.wait()
    if for_slot:
        awaited.set()
        for _ in range(10):
            await asyncio.sleep(0)
        waits.cancel()
    waits.cancel()
    done, _ = await asyncio.wait([waits], timeout=10)
    assert done
    assert copies.parking.parked == 0
    ends.set()
    await works
    assert await _slots_left(copies) == 1


async def test_a_copy_that_waited_has_a_slot_again() -> None:
    copies = Copies()
    parked, awaited = asyncio.Event(), asyncio.Event()
    waits = asyncio.create_task(copies.wait(parked, awaited))
    await parked.wait()
    awaited.set()
    await waits
    assert copies.parking.parked == 0
    assert await _slots_left(copies) == 1
