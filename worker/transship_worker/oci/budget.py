"""What a registry client asks of the fleet's budget; without one, nothing is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from transship.errors import PushError, RateLimited, RegistryPaused

if TYPE_CHECKING:
    from transship_worker.oci.headers import RateLimit
    from transship_worker.oci.login import Login


class GovernorPort(Protocol):
    """The fleet's budget at one registry with one login. Used from the background loop."""

    @property
    def login(self) -> Login:
        """Whose budget it is."""

    @property
    def rate_limit(self) -> RateLimit | None:
        """The newest pull limit that an answer to this process told; ``None``: none did."""

    @property
    def is_limited(self) -> bool:
        """Whether the registry refused requests for their rate of late."""

    async def request(self, *, pull: bool = False, again: bool = False) -> None:
        """Wait until one request more may be sent to the registry's own API.

        ``pull``: it reads a manifest, which some registries count; a spent pull limit stops
        nothing else. ``again``: it was refused for its rate, and goes before others.

        Raises:
            RegistryPaused: nobody may ask there now.
            RedisUnreachable: the budget cannot be drawn from.
        """

    def transfer(self) -> AbstractAsyncContextManager[None]:
        """One of the transfers that may run at once, from when there is room."""

    async def bytes(self, size: int) -> None:
        """Wait until so many bytes more may move. Unit: bytes.

        Raises:
            RedisUnreachable: the budget cannot be drawn from.
        """

    async def answered(
        self,
        status: int,
        retry_after_s: float | None = None,
        rate_limit: RateLimit | None = None,
        *,
        reason: str = "",
        pull: bool = True,
    ) -> bool:
        """Hear of an answer of the registry itself; ``reason`` is one line without secrets.

        Returns whether it refused the request for its rate, so that it is to be sent again after
        the wait that was named: the fleet sends fewer from now on.

        Raises:
            RegistryPaused: it asks for a pause, which the whole fleet keeps from now on.
        """


async def tell(
    governor: GovernorPort,
    status: int,
    limit: RateLimit | None,
    refused: PushError | None,
    *,
    pull: bool = True,
) -> bool:
    """Tell of an answer of the registry itself; ``refused``: the error that it led to.

    Returns what ``answered`` does.

    Raises:
        RegistryPaused: it asks for a pause; this comes instead of ``refused``.
    """
    # A registry may ask for fewer requests with another status, too.
    status = 429 if isinstance(refused, RateLimited) else status
    after, reason = (None, "") if refused is None else (refused.retry_after_s, refused.message)
    try:
        return await governor.answered(status, after, limit, reason=reason, pull=pull)
    except RegistryPaused as paused:
        raise paused from (refused.__cause__ if refused is not None else None)


async def metered(
    governor: GovernorPort | None, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The pieces of a blob on its way from or to a registry, as fast as the budget lets."""
    async for piece in pieces:
        if governor is not None:
            await governor.bytes(len(piece))
        yield piece
