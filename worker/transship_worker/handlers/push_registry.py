"""The registry of a push that is a job, asked in the background loop that all jobs share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.errors import HandedBack
from transship_worker.credentials.access import Credentials
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.handlers.streaming import StreamWay
from transship_worker.transports.port import JobControl
from transship_worker.transports.registry_view import RegistryConnection, RegistryView

if TYPE_CHECKING:
    from transship_worker.concurrency.loop import BackgroundLoop
    from transship_worker.oci.client import RegistryClient
    from transship_worker.oci.endpoint import Endpoint


def registry_of_push(
    ways: Callable[[], StreamWay | None], component: BaseContainerRegistry, control: JobControl
) -> RegistryView:
    """The registry of one job.

    ``ways`` makes the background loop when it is first needed; ``None``: the worker stops.
    """

    def connect() -> AbstractContextManager[RegistryConnection]:
        way = ways()
        if way is None:
            raise HandedBack("the worker stops")
        return nullcontext(_SharedConnection(way, component))

    return RegistryView(connect, lambda: component.registry_endpoint, control)


@dataclass(frozen=True, slots=True)
class _SharedConnection:
    """Implements ``RegistryConnection`` by what the process has for all its jobs."""

    _way: StreamWay
    _component: BaseContainerRegistry

    @property
    def loop(self) -> BackgroundLoop:
        return self._way.grounds.loop

    @asynccontextmanager
    async def client(
        self, endpoint: Endpoint, credentials: Credentials | None, *, own: bool
    ) -> AsyncIterator[RegistryClient]:
        component = self._component if own else None
        yield self._way.way.client(endpoint, credentials, component)
