"""What registries hold, asked by the worker itself for a push: implements ``RegistryReader``.

The engine is asked first, from where the push works. This is for what it cannot tell: Podman has
no call for it, and no engine tells a manifest's config.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from transship.errors import HandedBack
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.transports.port import JobControl

if TYPE_CHECKING:
    from transship_worker.concurrency.loop import BackgroundLoop
    from transship_worker.oci.client import RegistryClient, Repository
    from transship_worker.oci.descriptors import Manifest
    from transship_worker.oci.endpoint import Endpoint

T = TypeVar("T")


class RegistryConnection(Protocol):
    """Makes the client of one question."""

    @property
    def loop(self) -> BackgroundLoop:
        """The event loop that the question is asked in."""

    def client(
        self, endpoint: Endpoint, credentials: Credentials | None, *, own: bool
    ) -> AbstractAsyncContextManager[RegistryClient]:
        """The registry's client, for as long as the block runs. To be called in the loop.

        ``own``: it is the registry of the component, whose options hold.
        """


@dataclass(frozen=True, slots=True)
class RegistryView:
    """The registry of one push, with the login that the push has."""

    #: Opens what a question needs, when it is first needed.
    #:
    #: Raises:
    #:     HandedBack: the worker stops.
    connect: Callable[[], AbstractContextManager[RegistryConnection]]
    #: How the component's registry is reached, made when it is first needed.
    endpoint: Callable[[], Endpoint]
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
        """Ask in the event loop; a job that is stopped ends it."""
        # Imported when it is first needed: most pushes do without the HTTP client.
        from transship_worker.oci.endpoint import Endpoint
        from transship_worker.oci.waiting import telling

        with self.connect() as connection:
            endpoint = self.endpoint()
            own = endpoint.registry == image.registry
            if not own:
                # A custom flavor may push to another registry than its component's.
                endpoint = Endpoint(image.registry, access)

            async def work() -> T:
                async with connection.client(endpoint, credentials, own=own) as client:
                    return await ask(client.repository(image.repository))

            # A request that waits for the registry's rate is no stall.
            running = connection.loop.start(telling(self.control.alive, work()))
            try:
                with self.control.closing(running.cancel):
                    return running.result()
            except CancelledError:
                self.control.checkpoint()
                raise HandedBack("the worker's event loop stopped") from None
            finally:
                # Nothing once it is done; else an interrupt ended the wait.
                running.cancel()
