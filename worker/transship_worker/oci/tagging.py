"""The write of a tag within a lease: none is written by a job that is another worker's by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar

from transship.errors import RegistryUnavailable
from transship_worker.oci.waiting import told_of_waits

T = TypeVar("T")

#: How long the write may take, and how much of what is left of the lease. Unit: s.
TAG_TIMEOUT_S: Final = 30.0
LEASE_SHARE: Final = 0.8
#: With less than this the renewal is waited for. Unit: s.
LEASE_LEAST_S: Final = 1.0
#: Between two looks whether the lease was renewed. Unit: s.
LEASE_LOOK_S: Final = 0.1


class Leased(Protocol):
    """What is asked of the job."""

    def checkpoint(self) -> None:
        """Return if the job may go on, else raise why not."""

    def lease_left_s(self) -> float:
        """For how long the job is certainly still this worker's. Unit: s."""


async def write_tag(
    control: Leased, where: str, tag: str, write: Callable[[float], Awaitable[T]]
) -> T:
    """Write a tag, when more is left of the lease than that may take.

    Args:
        control: the job.
        where: the repository, for messages.
        tag: the tag.
        write: writes it, in so many seconds at most.

    Raises:
        RegistryUnavailable: it took longer.
        PushError: the job may not go on; the registry refused.
    """
    timeout_s = await _time_left(control)
    timeout = asyncio.timeout(timeout_s)

    @asynccontextmanager
    async def uncounted() -> AsyncIterator[None]:
        # While the registry asks for fewer requests, nothing is on its way.
        if not timeout.expired():
            timeout.reschedule(None)
        yield
        left_s = await _time_left(control)
        if not timeout.expired():
            timeout.reschedule(asyncio.get_running_loop().time() + left_s)

    try:
        async with timeout:
            with told_of_waits(uncounted):
                return await write(timeout_s)
    except TimeoutError:
        raise RegistryUnavailable(
            f"{where} took more than {timeout_s:.1f} s to write the tag {tag}"
        ) from None


async def _time_left(control: Leased) -> float:
    """How long a write may take from now on, once the lease lasts long enough. Unit: s.

    Raises:
        PushError: the job may not go on.
    """
    control.checkpoint()
    while (left_s := control.lease_left_s()) < LEASE_LEAST_S:
        await asyncio.sleep(LEASE_LOOK_S)
        control.checkpoint()
    return min(TAG_TIMEOUT_S, left_s * LEASE_SHARE)
