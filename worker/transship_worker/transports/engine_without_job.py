"""A push through the Docker Engine without a queue: ``push_image`` as a library call."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.errors import EngineMisconfigured
from transship.installation import extra_hint
from transship.model.jobs import Step
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_config.errors import UsageError
from transship_worker.credentials.access import Access, Credentials
from transship_worker.transports.registry_view import RegistryView

if TYPE_CHECKING:
    from transship_worker.concurrency.loop import BackgroundLoop
    from transship_worker.oci.client import RegistryClient
    from transship_worker.oci.endpoint import Endpoint

logger = logging.getLogger("transship.flavor")


class NoJob:
    """The ``JobControl`` of a push that is no job: nothing stops it, and warnings are logged."""

    def step(self, step: Step) -> None:
        """Log it."""
        logger.debug("%s", step)

    def progress(self, progress: Progress) -> None:
        """Nobody looks on."""

    def alive(self) -> None:
        """There is no stall limit."""

    def warn(self, message: str) -> None:
        """Log it."""
        logger.warning("%s", message)

    def settled(self) -> None:
        """There is no later attempt."""

    def checkpoint(self) -> None:
        """It always goes on."""

    def closing(self, close: Callable[[], None]) -> AbstractContextManager[None]:  # noqa: ARG002
        """Nothing stops it."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class OwnConnection:
    """Implements ``RegistryConnection`` without a fleet; each question opens its own."""

    loop: BackgroundLoop

    @asynccontextmanager
    async def client(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        *,
        own: bool,  # noqa: ARG002 - without a fleet there are no quotas
    ) -> AsyncIterator[RegistryClient]:
        """A client of its own, closed at the end."""
        from transship_worker.oci.pool import ClientPool

        async with ClientPool() as pool:
            yield pool.client(endpoint, credentials)


@contextmanager
def own_connection() -> Iterator[OwnConnection]:
    """A connection in a thread of its own: the caller may be in an event loop, as in a notebook."""
    from transship_worker.concurrency.loop import BackgroundLoop

    with BackgroundLoop() as loop:
        yield OwnConnection(loop)


class EngineTransport:
    """Pushes what the ``docker`` command's engine has under a name; implements ``PushTransport``.

    The engine is looked for at each push, as the environment and the current context are then.
    """

    def __init__(self, endpoint: Callable[[], Endpoint]) -> None:
        """``endpoint``: how the component's registry is reached where the engine cannot ask it."""
        self._registry = RegistryView(own_connection, endpoint, NoJob())

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        """Push the image of this name once, and return the digest that the registry confirmed.

        Raises:
            EngineMisconfigured: the environment names no usable engine, the Docker SDK is not
                installed, or the engine lacks a setting that the registry needs.
            EngineUnavailable: the engine does not answer.
            ImageNotFound: the engine has no image of this name.
            PushError: what else went wrong, as a typed error.
        """
        try:
            from transship_worker.transports.engine.client import find_engine
            from transship_worker.transports.engine_push import DockerPush
        except ModuleNotFoundError as error:
            raise EngineMisconfigured(
                f"no Docker Engine can be used: {error.name} is not installed; "
                f"hint: {extra_hint('worker')}"
            ) from None
        try:
            engine = find_engine()
        except UsageError as error:
            raise EngineMisconfigured(error.message) from None
        with closing(engine):
            image_id = engine.image_id(str(image))
            push = DockerPush(
                engine,
                image_id=image_id,
                source=None,
                control=NoJob(),
                registry=self._registry,
            )
            return push.push(image, credentials=credentials, access=access)
