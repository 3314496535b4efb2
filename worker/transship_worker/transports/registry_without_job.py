"""What a registry holds, asked directly and without a fleet, for a push that is no job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials

if TYPE_CHECKING:
    from transship_worker.oci.client import Repository
    from transship_worker.oci.descriptors import Manifest
    from transship_worker.oci.endpoint import Endpoint

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegistryWithoutJob:
    """Implements ``RegistryReader``; each question opens connections of its own."""

    #: How the component's registry is reached, made when it is first needed.
    endpoint: Callable[[], Endpoint]

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
        # Imported when it is first needed: most pushes do without the HTTP client.
        from transship_worker.concurrency.loop import BackgroundLoop
        from transship_worker.oci.endpoint import Endpoint
        from transship_worker.oci.pool import ClientPool

        endpoint = self.endpoint()
        if endpoint.registry != image.registry:
            # A custom flavor may push to another registry than its component's.
            endpoint = Endpoint(image.registry, access)

        async def work() -> T:
            async with ClientPool() as pool:
                return await ask(pool.client(endpoint, credentials).repository(image.repository))

        # In a thread of its own: the caller may be in an event loop, as in a notebook.
        with BackgroundLoop() as loop:
            return loop.run(work())
