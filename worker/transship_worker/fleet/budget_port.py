"""What a registry client asks before a request and tells after an answer."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transship_worker.fleet.budget_login import Login
    from transship_worker.oci.headers import RateLimit


class GovernorPort(Protocol):
    """The fleet's budget at one registry with one login. Used from the background loop."""

    @property
    def login(self) -> Login:
        """Whose budget it is."""

    @property
    def rate_limit(self) -> RateLimit | None:
        """The newest pull limit that an answer to this process told; ``None``: none did."""

    async def request(self, *, pull: bool = False) -> None:
        """Wait until one request more may be sent to the registry's own API.

        ``pull``: it reads a manifest, which some registries count; a spent pull limit stops
        nothing else.

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
    ) -> None:
        """Hear of an answer of the registry itself; ``reason`` is one line without secrets.

        Raises:
            RegistryPaused: it asks for a pause, which the whole fleet keeps from now on.
        """
