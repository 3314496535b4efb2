"""A push through the Docker Engine without a queue: ``push_image`` as a library call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, TypeVar

from transship.errors import EngineMisconfigured
from transship.installation import extra_hint
from transship.model.jobs import Step
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_config.errors import UsageError
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.credentials.access import Access, Credentials

if TYPE_CHECKING:
    from transship_worker.oci.client import Repository
    from transship_worker.oci.descriptors import Manifest

T = TypeVar("T")

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


class DirectReader:
    """Asks a registry itself, with a client for each question; implements ``RegistryReader``."""

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
        from transship_worker.oci.endpoint import Endpoint
        from transship_worker.oci.pool import ClientPool

        async def work() -> T:
            async with ClientPool() as pool:
                client = pool.client(Endpoint(image.registry, access), credentials)
                return await ask(client.repository(image.repository))

        # In a loop of its own, and a thread of its own: the caller may run in one.
        with BackgroundLoop() as loop:
            return loop.run(work())


class EngineTransport:
    """Pushes what the ``docker`` command's engine has under a name; implements ``PushTransport``.

    The engine is looked for at each push, as the environment and the current context are then.
    """

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
                registry=DirectReader(),
            )
            return push.push(image, credentials=credentials, access=access)
