"""The registry clients of one worker process; made once, in the background loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from transship_worker.credentials.access import Credentials
from transship_worker.oci.client import RegistryClient
from transship_worker.oci.connections import Connections
from transship_worker.oci.endpoint import Endpoint

if TYPE_CHECKING:
    from transship_worker.oci.budget import GovernorPort

#: Clients kept; those unused for longest are dropped first, their connections stay shared.
CLIENTS_KEPT: Final = 256


class ClientPool:
    """Clients by registry, login and access. Not to be used outside its event loop."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.connections: Final = Connections(environment)
        self._clients: OrderedDict[tuple[Endpoint, Credentials | None], RegistryClient] = (
            OrderedDict()
        )

    def client(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None = None,
        *,
        renew: Callable[[], Credentials | None] | None = None,
        governor: GovernorPort | None = None,
    ) -> RegistryClient:
        """The client for a registry with a login; the same one for the same values.

        ``renew`` gives the login anew when the registry refuses it or its end is near; it may
        block, and is called in a thread. ``governor``: the fleet's budget for this login, also
        of a client that is there already.
        """
        key = (endpoint, credentials)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = RegistryClient(
                self.connections, endpoint, credentials, renew=renew
            )
        if governor is not None:
            client.governor = governor
        self._clients.move_to_end(key)
        while len(self._clients) > CLIENTS_KEPT:
            self._clients.popitem(last=False)
        return client

    async def close(self) -> None:
        """Close all connections."""
        self._clients.clear()
        await self.connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
