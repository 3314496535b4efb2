"""What a registry client asks of the fleet's budget; without one, nothing is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from transship.errors import PushError, RateLimited, RegistryPaused

if TYPE_CHECKING:
    from transship_worker.fleet.budget_port import GovernorPort
    from transship_worker.oci.headers import RateLimit


async def tell(
    governor: GovernorPort, status: int, limit: RateLimit | None, refused: PushError | None
) -> None:
    """Tell of an answer of the registry itself; ``refused``: the error that it led to.

    Raises:
        RegistryPaused: it asks for a pause; this comes instead of ``refused``.
    """
    # A registry may ask for fewer requests with another status, too.
    status = 429 if isinstance(refused, RateLimited) else status
    after, reason = (None, "") if refused is None else (refused.retry_after_s, refused.message)
    try:
        await governor.answered(status, after, limit, reason=reason)
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
