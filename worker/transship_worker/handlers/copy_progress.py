"""Between a copy in the background loop and the job that it is done for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from transship.model.jobs import Step
from transship.model.records import Progress
from transship_worker.concurrency.waker import Parking, Waker
from transship_worker.jobs.control import Control

#: Between two looks at how far a copy is; the ledger hears of it no more often. Unit: s.
TELL_S: Final = 0.1


class CopySlots:
    """The slots of copies in the background loop; a copy that only waits holds none."""

    def __init__(self, count: int, parking: Parking, waker: Waker) -> None:
        self._free = asyncio.Semaphore(count)
        self._parking = parking
        self._waker = waker

    @asynccontextmanager
    async def slot(self, control: Control) -> AsyncIterator[CopySlot]:
        """Hold a slot while the block runs; the wait for one is no stall of the job's."""
        with control.patient():
            await self._free.acquire()
        slot = CopySlot(self._free, self._parking, self._waker)
        try:
            yield slot
        finally:
            if slot.held:
                self._free.release()


class CopySlot:
    """The slot of one copy, which it may leave for a while."""

    def __init__(self, free: asyncio.Semaphore, parking: Parking, waker: Waker) -> None:
        self._free = free
        self._parking = parking
        self._waker = waker
        self.held = True

    def leave(self) -> None:
        """Give the slot back; another copy may take it."""
        self.held = False
        self._free.release()
        self._parking.parked += 1
        # The worker's main thread may take another copy now.
        self._waker.wake()

    async def enter(self) -> None:
        """Take a slot again."""
        self.end()
        await self._free.acquire()
        self.held = True

    def end(self) -> None:
        """Wait no more, without a slot."""
        self._parking.parked -= 1


class CopyProgress:
    """What one copy tells its job; implements ``CopyControl``. Used from the loop alone."""

    def __init__(self, control: Control, slot: CopySlot) -> None:
        self._control = control
        self._slot = slot
        self._total = self._layers = self._layers_done = 0
        self._moved = self._mounted = self._present = 0
        self._told = 0.0
        self._parked = 0

    def planned(self, size: int, layers: int) -> None:
        """So many bytes and blobs more belong to the image. Unit: bytes."""
        self._total += size
        self._layers += layers
        self._tell()

    def moved(self, size: int) -> None:
        """So many bytes arrived by being sent; negative when a blob starts again. Unit: bytes."""
        self._moved += size
        self._tell()

    def mounted(self, size: int) -> None:
        """A blob came from another repository of the target registry. Unit: bytes."""
        self._mounted += size
        self._tell()

    def present(self, size: int) -> None:
        """A blob was there already. Unit: bytes."""
        self._present += size
        self._tell()

    def blob_done(self) -> None:
        """One blob more is at the target."""
        self._layers_done += 1
        self._tell()

    def alive(self) -> None:
        """Something moved: the stall limit starts again."""
        self._control.alive()

    def warn(self, message: str) -> None:
        """Keep a sentence with the job that a person should read although it succeeds."""
        self._control.warn(message)

    def checkpoint(self) -> None:
        """Return if the job may go on, else raise why not."""
        self._control.checkpoint()

    def lease_left_s(self) -> float:
        """For how long the job is certainly still this worker's. Unit: s."""
        return self._control.lease_left_s()

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        """While the block runs the job only waits, and holds no slot; it ends with a slot.

        A copy that is cancelled meanwhile ends without one: what it leads and is in line for
        must not wait for the slots of others.
        """
        # Several blobs of one image may be waited for at once; the slot is one.
        self._parked += 1
        if self._parked == 1:
            self._control.mark(Step.WAITING)
            self._slot.leave()
        try:
            with self._control.patient():
                yield
        except BaseException:
            self._parked -= 1
            if self._parked == 0:
                self._slot.end()
            raise
        self._parked -= 1
        if self._parked == 0:
            with self._control.patient():
                await self._slot.enter()
            self._control.mark(Step.COPYING)

    def tell(self) -> None:
        """Tell the ledger how far the copy is, however often it heard."""
        self._told = time.monotonic()
        self._control.progress(
            Progress(
                bytes_done=self._moved + self._mounted + self._present,
                bytes_total=self._total,
                layers_done=self._layers_done,
                layers_total=self._layers,
                bytes_mounted=self._mounted,
                bytes_present=self._present,
            )
        )

    def _tell(self) -> None:
        if time.monotonic() > self._told + TELL_S:
            self.tell()
        else:
            self._control.alive()
