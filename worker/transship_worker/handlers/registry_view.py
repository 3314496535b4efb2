"""What registries hold, asked by the worker itself for a push: implements ``RegistryReader``.

The engine is asked first, from where the push works. This is for what it cannot tell: Podman has
no call for it, and no engine tells a manifest's config.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from transship.errors import HandedBack
from transship.model.references import ImageReference, RegistryUri
from transship_worker.credentials.access import Access, Credentials
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.transports.port import JobControl

if TYPE_CHECKING:
    from transship_worker.handlers.registries import OpenedRegistry
    from transship_worker.handlers.streaming import StreamWay
    from transship_worker.oci.client import Repository
    from transship_worker.oci.descriptors import Manifest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegistryView:
    """The registry of one job, with the login that the push has."""

    #: Makes the background loop when it is first needed; ``None``: the worker stops.
    ways: Callable[[], StreamWay | None]
    component: BaseContainerRegistry
    control: JobControl

    def digest(
        self, image: ImageReference, credentials: Credentials | None, access: Access
    ) -> str | None:
        """See ``RegistryReader``."""
        from transship_worker.oci import manifests

        async def ask(repository: Repository) -> str | None:
            head = await manifests.head(repository, str(image.tag))
            return head.digest if head is not None else None

        return self._asked(image, credentials, access, ask)

    def manifest(
        self,
        image: ImageReference,
        digest: str,
        credentials: Credentials | None,
        access: Access,
    ) -> Manifest:
        """See ``RegistryReader``."""
        from transship_worker.oci import manifests

        return self._asked(
            image, credentials, access, lambda repository: manifests.get(repository, digest)
        )

    def _asked(
        self,
        image: ImageReference,
        credentials: Credentials | None,
        access: Access,
        ask: Callable[[Repository], Awaitable[T]],
    ) -> T:
        """Ask in the background loop; a job that is stopped ends it."""
        from transship_worker.oci.waiting import telling

        found = self.ways()
        if found is None:
            raise HandedBack("the worker stops")
        opened, way = self._opened(image, credentials, access), found.way

        async def work() -> T:
            return await ask(opened.client(way).repository(image.repository))

        # A request that waits for the registry's rate is no stall.
        running = found.grounds.loop.start(telling(self.control.alive, work()))
        try:
            with self.control.closing(running.cancel):
                return running.result()
        except CancelledError:
            self.control.checkpoint()
            raise HandedBack("the worker's event loop stopped") from None

    def _opened(
        self, image: ImageReference, credentials: Credentials | None, access: Access
    ) -> OpenedRegistry:
        # Imported when it is first needed: most pushes do without the HTTP client.
        from transship_worker.handlers.registries import OpenedRegistry
        from transship_worker.oci.endpoint import Endpoint

        component = self.component
        if component.registry_uri.registry == image.registry:
            return OpenedRegistry(
                component.name,
                component.registry_uri,
                component.registry_endpoint,
                component,
                credentials,
            )
        # A flavor of somebody's own may push to another registry than its component's.
        uri = RegistryUri(image.host, image.port, "")
        endpoint = Endpoint(image.registry, access)
        return OpenedRegistry(image.registry, uri, endpoint, credentials=credentials)
