"""How a client keeps the fleet's budget, and waits where a registry refuses its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from transship_worker.oci import retry
from transship_worker.oci.budget import tell
from transship_worker.oci.ramp import Ramp
from transship_worker.oci.waiting import waiting

if TYPE_CHECKING:
    import aiohttp

    from transship.errors import PushError
    from transship_worker.oci.budget import GovernorPort
    from transship_worker.oci.headers import RateLimit

T = TypeVar("T")


class Pacing:
    """Between a client and the fleet's budget at its registry."""

    def __init__(self) -> None:
        #: The fleet's budget at this registry with this login; ``None``: nothing is counted, and
        #: what is refused for its rate has failed.
        self.governor: GovernorPort | None = None
        self._ramp = Ramp()

    async def sent(
        self, exchange: Callable[[], Awaitable[T]], *, pull: bool, again: bool, streams: bool
    ) -> T:
        """One exchange with the registry itself, when the fleet may have it.

        Args:
            exchange: makes the request.
            pull: see ``GovernorPort.request``.
            again: see ``GovernorPort.request``.
            streams: it has a body that may take long, and its answer comes after it.

        Raises:
            RegistryPaused: nobody may ask there now.
        """
        governor = self.governor
        if governor is None:
            return await exchange()
        if self._ramp.is_open or streams:
            await governor.request(pull=pull, again=again)
            return await exchange()
        async with self._ramp.place():
            await governor.request(pull=pull, again=again)
            return await exchange()

    async def wait_s(
        self,
        response: aiohttp.ClientResponse,
        limit: RateLimit | None,
        refused: PushError | None,
        tries: int,
        *,
        own: bool,
    ) -> float | None:
        """After how long a request is to be sent again; ``None``: its answer counts. Unit: s.

        Args:
            response: the answer.
            limit: the pull limit that it tells.
            refused: the error that it led to.
            tries: how often the request was sent.
            own: it is the registry's own, not that of storage.

        Raises:
            RegistryPaused: nobody may ask there for a while.
        """
        if self.governor is None:
            return None
        if not own:
            return retry.bounded_wait_s(refused, tries)
        pull = "/manifests/" in response.url.path and response.method in {"GET", "HEAD"}
        slow = await tell(self.governor, response.status, limit, refused, pull=pull)
        if not slow or refused is None:
            return None
        # Those that wait in the ramp are to wait for the rate limiter.
        self._ramp.open()
        return retry.wait_s(refused, tries)


async def wait(seconds: float) -> None:
    """Wait until a request may be sent again; that is no stall of the job."""
    async with waiting():
        await asyncio.sleep(seconds)
