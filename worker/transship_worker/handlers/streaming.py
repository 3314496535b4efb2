"""Whether a push is streamed: composes the component, the engine and the background loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from transship.model.jobs import Via
from transship.model.references import ImageReference
from transship_worker.credentials.access import Credentials
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.identity import HeldImage, Store
from transship_worker.transports.stream.choice import is_possible

if TYPE_CHECKING:
    from transship_worker.handlers.registries import Way
    from transship_worker.oci.client import Repository
    from transship_worker.transports.engine_push import StreamedPush
    from transship_worker.transports.stream.push import StreamGrounds
    from transship_worker.transports.stream.sender import StreamControl

    class PushControl(StreamControl, Protocol):
        """What a push asks of its job to choose its path."""

        @property
        def prefers_stream(self) -> bool:
            """Whether this attempt, or one before it, chose the stream."""

        def prefer_stream(self, reason: str) -> None:
            """This attempt and those after it stream the image, for this reason."""


#: What an image became when it was streamed: by where it goes, its id, and the scope of hints.
Recall = Callable[[ImageReference, str, str], str | None]

logger = logging.getLogger("transship.worker")


@dataclass(frozen=True, slots=True)
class StreamWay:
    """What streamed pushes of a process need of its background loop."""

    grounds: StreamGrounds
    way: Way


@dataclass(frozen=True, slots=True)
class Streaming:
    """The streamed way of one job; implements ``transports.engine_push.Streamed``."""

    #: Makes the background loop when it is first needed; ``None``: the worker stops.
    ways: Callable[[], StreamWay | None]
    #: What an image became in a repository, by the image, its id and who pushed it.
    recall: Recall
    engine: Engine
    component: BaseContainerRegistry
    control: PushControl
    via: Via
    #: Whose hints serve it; empty: those of the whole fleet.
    scope: str = ""

    @property
    def forced(self) -> bool:
        """Whether the job asks for this path, or the registry takes no other.

        An engine sends each layer in one request, which ``max_body`` says is too large, and reaches
        no registry below a path.
        """
        below = bool(urlsplit(self.component.endpoint or "").path)
        no_engine = self.component.max_body is not None or below
        return self.via is Via.STREAM or (no_engine and self.via is not Via.ENGINE)

    @property
    def preferred(self) -> bool:
        """Whether the job chose this path, as the engine's push was refused for its rate."""
        return self.via is Via.AUTO and self.control.prefers_stream

    def prefer(self, image: ImageReference, reason: str) -> None:
        """Stream from now on, in later attempts, too; if the job and the component allow it."""
        if self._is_allowed(image) and not self.preferred and not self.forced:
            logger.info("%s: %s", image, reason)
            self.control.prefer_stream(reason)

    def _is_allowed(self, image: ImageReference) -> bool:
        # A flavor of somebody's own may push to another registry than its component's.
        own = self.component.registry_uri.registry == image.registry
        return own and self.via is not Via.ENGINE

    def remembered(self, image: ImageReference, image_id: str) -> str | None:
        """Digest of the manifest that an image became in this way before; a hint."""
        return None if self.via is Via.ENGINE else self.recall(image, image_id, self.scope)

    def open(
        self,
        image: ImageReference,
        credentials: Credentials | None,
        held: HeldImage,
    ) -> StreamedPush | None:
        """The streamed push of an image; ``None``: it is not to be streamed.

        Left to the worker (``auto``), only images of classic stores are: the containerd store
        sends layers as it holds them, and Podman compresses on all cores. Where the engine's
        pushes are refused for their rate, any image is: an engine cannot be slowed down.
        """
        component = self.component
        if not self._is_allowed(image):
            return None
        if not (self.forced or self.preferred) and not (
            is_possible(held.size)
            and self.engine.endpoint.is_local_socket
            and held.store is Store.CLASSIC
        ):
            return None
        found = self.ways()
        if found is None:
            return None
        # Imported by the first large push: a worker without one does without the HTTP client.
        from transship_worker.transports.stream.push import StreamPush
        from transship_worker.transports.stream.stored import StoredPush

        endpoint = component.registry_endpoint

        async def repository() -> Repository:
            client = found.way.client(endpoint, credentials, component)
            return client.repository(image.repository, writing=True)

        opened_repository = found.grounds.loop.run(repository())
        if held.store.is_content:
            return StoredPush(
                found.grounds.loop, self.engine, opened_repository, self.control, held
            )
        return StreamPush(
            found.grounds, self.engine, opened_repository, self.control, held, scope=self.scope
        )
