"""The push through a Docker Engine, for one job.

The engine pushes by itself, or exports the image and the worker sends it (``stream.push``),
where that is faster or asked for.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Final, Protocol

from transship.errors import (
    Denied,
    DigestMismatch,
    EngineMisconfigured,
    EngineUnavailable,
    ImageNotFound,
    PushError,
    RateLimited,
    RegistryPaused,
    RegistryUnavailable,
)
from transship.model.jobs import Step
from transship.model.migration.platforms import Platform
from transship.model.records import Progress
from transship.model.references import ImageReference, RegistryUri
from transship_worker.credentials.access import Access, Credentials
from transship_worker.fleet.pause import is_pause
from transship_worker.transports.engine.calls import spoken_by
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.confirmation import Confirmation, RegistryReader, Target
from transship_worker.transports.engine.connection import PLATFORM_API, Line
from transship_worker.transports.engine.events import PushStream
from transship_worker.transports.engine.identity import HeldImage, Store
from transship_worker.transports.engine.liveness import kept_alive
from transship_worker.transports.engine.push_errors import translate
from transship_worker.transports.port import JobControl, Pushed
from transship_worker.transports.stream.choice import Fallback, begins, pays

logger = logging.getLogger("transship.worker")

#: Tries of the engine in a row that the registry refuses for their rate and that bring no layer
#: more; then the worker streams the image, and sends again what the engine brought before.
FRUITLESS_MOST: Final = 2


class StreamedPush(Protocol):
    """A push of what the engine exports; made for one use."""

    @property
    def size(self) -> int:
        """What the engine says that the image has. Unit: bytes."""

    @property
    def known_size(self) -> int:
        """How much of it was streamed to the registry before. Unit: bytes."""

    def look(self) -> None:
        """Ask what is known of the image at the registry.

        Raises:
            PushError: the worker cannot reach the registry, as its engine may.
        """

    def push(self, line: Line, image: ImageReference) -> str:
        """Push, and return the digest that is under the tag now.

        Raises:
            Fallback: it cannot be done so.
            PushError: what went wrong.
        """


class Streamed(Protocol):
    """The streamed push, as far as a job may use it."""

    @property
    def forced(self) -> bool:
        """Whether the job asks for it."""

    @property
    def preferred(self) -> bool:
        """Whether it was chosen as the registry refuses the engine's requests for their rate."""

    def prefer(self, image: ImageReference, reason: str) -> None:
        """Choose it for the rest of the job, if the job and the component allow it."""

    def remembered(self, image: ImageReference, image_id: str) -> str | None:
        """Digest of the manifest that an image became in this way before; a hint."""

    def open(
        self,
        image: ImageReference,
        credentials: Credentials | None,
        held: HeldImage,
    ) -> StreamedPush | None:
        """The streamed push of an image, of which the engine tells this; ``None``: there is none.

        Raises:
            PushError: it cannot be tried.
        """


class DockerPush:
    """Pushes one image, fixed by its id; implements ``PushTransport``.

    After ``push`` returned, ``outcome`` says what it came to.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        image_id: str,
        source: str | None,
        control: JobControl,
        streamed: Streamed | None = None,
        registry: RegistryReader | None = None,
        platform: str | None = None,
        require_all_platforms: bool = False,
    ) -> None:
        """A push for one job.

        Args:
            engine: the engine that has the image.
            image_id: what identifies it in the engine's store.
            source: the image is not yet tagged as the target; its name, for messages.
            control: the job.
            streamed: the streamed push; ``None``: the engine pushes in any case.
            registry: the worker's own view of the registry; ``None``: only the engine's counts.
            platform: the one that is pushed of an index (``linux/arm64``); ``None``: all.
            require_all_platforms: one manifest instead of a partly pulled index is a failure.
        """
        self.outcome: Pushed | None = None
        self._registry = registry
        self._platform = Platform.parse(platform) if platform is not None else None
        self._whole = require_all_platforms
        self._streamed = streamed
        self._engine = engine
        self._image_id = image_id
        self._source = source
        self._control = control
        self._fruitless = 0

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        """Push the image as ``image`` and return the digest that the registry confirmed.

        Raises:
            PushError: what went wrong; when the job was stopped, why it was.
        """
        image = image.tagged
        self._control.settled()
        try:
            with (
                self._engine.line(self._control.closing) as line,
                self._engine.exclusive(image, self._wait),
            ):
                self._check_settings(line, image, access)
                target = Target(image, credentials, access, self._platform, self._whole)
                self.outcome = self._push(line, target)
        except PushError:
            # A job that is stopped has its line cut: the reason is not the broken line.
            self._control.checkpoint()
            raise
        return self.outcome.digest

    def _check_settings(self, line: Line, image: ImageReference, access: Access) -> None:
        registry = RegistryUri(image.host, image.port, "")
        missing = self._engine.settings_missing(line, registry, access, only_certain=True)
        if missing:
            raise EngineMisconfigured("; ".join(missing))

    def _wait(self) -> None:
        """Another job of this process pushes the same reference; that is no stall."""
        self._control.checkpoint()
        self._control.alive()

    def _push(self, line: Line, target: Target) -> Pushed:
        self._control.checkpoint()
        image = target.image
        self._settle_reference(line, image)
        held = self._engine.held(line, self._image_id, image)
        self._check_platform(line, held)
        confirmation = Confirmation(self._engine, line, target, self._control, self._registry)
        # The engine does not know what it became when it was streamed.
        became = self._streamed.remembered(image, self._image_id) if self._streamed else None
        present = confirmation.present(held, became)
        if present is not None:
            return Pushed(present, skipped=True)
        confirmation.check_whole(held)
        self._control.checkpoint()
        streamed = self._open_stream(target, held)
        self._control.step(Step.PUSHING)
        digest = None
        if streamed is not None and self._begins_streaming(streamed):
            digest = self._stream(line, image, streamed)
            streamed = None
        if digest is None:
            digest = self._push_by_engine(line, target, held, streamed, confirmation)
        else:
            self._control.step(Step.VERIFYING)
        confirmation.confirm_tag(digest)
        return Pushed(digest)

    def _check_platform(self, line: Line, held: HeldImage) -> None:
        """Return if the engine can push the one platform that is asked for.

        Raises:
            ImageNotFound: the image is of another platform.
            EngineMisconfigured: the engine is too old to choose one of an index.
        """
        wanted = self._platform
        if wanted is None:
            return
        if held.store.is_content:
            if line.api < PLATFORM_API:
                raise EngineMisconfigured(
                    f"engine {self._engine.label} speaks version {line.api[0]}.{line.api[1]} of "
                    "the Docker API; a push of one platform needs 1.46 or newer (Docker Engine 27)"
                )
            listed = self._engine.manifests(line, held.id) or ()
            there = [one.platform for one in listed if one.is_image and one.available]
        else:
            there = [held.platform]
        known = [platform for platform in there if platform is not None]
        if known and not any(map(wanted.matches, known)):
            names = ", ".join(map(str, known))
            raise ImageNotFound(
                f"image {held.short} has no {wanted} in this engine; it has {names}"
            )

    def _push_by_engine(
        self,
        line: Line,
        target: Target,
        held: HeldImage,
        streamed: StreamedPush | None,
        confirmation: Confirmation,
    ) -> str:
        """Let the engine push, and change over where it turns out that most is new."""
        self._control.checkpoint()
        stream = self._send(line, target, held, streamed)
        if stream is None and streamed is not None:
            logger.debug("%s: most of it is new: it is streamed", target.image)
            digest = self._stream(line, target.image, streamed)
            if digest is not None:
                self._control.step(Step.VERIFYING)
                return digest
            stream = self._send(line, target, held, None)
        if stream is None:
            raise EngineUnavailable(f"engine {self._engine.label} did not push {target.image}")
        return self._verified(confirmation, held, stream)

    def _verified(self, confirmation: Confirmation, held: HeldImage, stream: PushStream) -> str:
        """The digest of what the engine pushed, if that is the job's image."""
        self._control.step(Step.VERIFYING)
        return confirmation.pushed(held, stream)

    def _open_stream(self, target: Target, held: HeldImage) -> StreamedPush | None:
        """The streamed push, with what is remembered; ``None``: the engine is to push."""
        if self._streamed is None:
            return None
        if _engine_chooses(target, held):
            if self._is_forced:
                self._control.warn("it was not streamed, the engine pushed it: one platform")
            return None
        try:
            streamed = self._streamed.open(target.image, target.credentials, held)
            if streamed is not None:
                streamed.look()
        except PushError as error:
            self._control.checkpoint()
            refused = isinstance(error, RateLimited | RegistryPaused)
            if self._streamed.forced or (self._streamed.preferred and refused):
                raise
            # The engine may have a way to the registry that the worker has not.
            logger.debug("%s cannot be streamed: %s", target.image, error.message)
            return None
        return streamed

    def _begins_streaming(self, streamed: StreamedPush) -> bool:
        chosen = self._is_forced or self._is_preferred
        return chosen or begins(streamed.size, streamed.known_size)

    @property
    def _is_forced(self) -> bool:
        return self._streamed is not None and self._streamed.forced

    @property
    def _is_preferred(self) -> bool:
        return self._streamed is not None and self._streamed.preferred

    def _stream(self, line: Line, image: ImageReference, streamed: StreamedPush) -> str | None:
        """Stream; ``None``: the engine is to push instead."""
        try:
            digest = streamed.push(line, image)
        except Fallback as reason:
            logger.debug("%s is left to the engine: %s", image, reason)
            if self._is_forced or self._is_preferred:
                self._control.warn(f"it was not streamed, the engine pushed it: {reason}")
            return None
        if self._is_preferred:
            self._control.warn(
                f"the worker streamed it: {image.registry} refused the engine's push for its rate"
            )
        return digest

    def _refused_for_rate(
        self, target: Target, held: HeldImage, stream: PushStream, error: RateLimited
    ) -> None:
        """Choose the stream where further tries of the engine promise nothing.

        An engine sends requests at its own rate, and a registry that allows less refuses each of
        its tries. Layers that it brought would be sent again, so it may try again while it brings
        more, and once more where some are there.
        """
        self._fruitless = 0 if stream.brought else self._fruitless + 1
        is_last = stream.progress.layers_done == 0 or is_pause(error.retry_after_s)
        if self._streamed is None or self._fruitless < (1 if is_last else FRUITLESS_MOST):
            return
        if not _engine_chooses(target, held):
            registry = target.image.registry
            self._streamed.prefer(
                target.image,
                f"{registry} refuses the engine's push for its rate; the worker streams the image "
                "from now on",
            )

    def _settle_reference(self, line: Line, image: ImageReference) -> None:
        """Make sure that the reference means the job's image in the engine."""
        if self._source is not None:
            try:
                self._engine.tag(line, self._image_id, image)
            except ImageNotFound:
                raise ImageNotFound(
                    f"image {self._source} ({self._image_id}) is no longer in engine "
                    f"{self._engine.label}"
                ) from None
            return
        now = str(self._engine.inspect(line, str(image))["Id"])
        if now != self._image_id:
            raise DigestMismatch(
                f"{image} was rebuilt since the job was claimed (it was {self._image_id[:19]} and "
                f"is {now[:19]}); push it again"
            )

    def _send(
        self, line: Line, target: Target, held: HeldImage, streamed: StreamedPush | None
    ) -> PushStream | None:
        """Push, and read the stream to its end; ``None``: aborted, as streaming is faster."""
        stream = PushStream()
        before = Progress()
        platform = target.platform if held.store.is_content else None
        credentials = target.credentials
        with ExitStack() as stack:
            if held.store is Store.PODMAN:
                self._control.step(Step.UPLOADING_UNREPORTED)
                stack.enter_context(kept_alive(self._engine, self._control.alive))
            events = self._engine.push_events(line, target.image, credentials, platform)
            for event in stack.enter_context(closing(events)):
                stream.feed(event)
                # An engine that never ends its stream does not outlast the deadline.
                self._control.checkpoint()
                self._control.alive()
                progress = stream.progress
                if progress != before:
                    self._control.progress(progress)
                    before = progress
                if streamed is not None and pays(streamed.size, *stream.new):
                    return None
        if stream.error is not None:
            spoken = spoken_by(line, self._engine.named, target.image, credentials)
            error = translate(stream.error, spoken)
            if isinstance(error, RateLimited):
                self._refused_for_rate(target, held, stream, error)
            raise self._why(error, credentials)
        return stream

    def _why(self, error: PushError, credentials: Credentials | None) -> PushError:
        """A refusal is final, unless the login had simply ended during the upload."""
        expires_at = credentials.expires_at if credentials else None
        if isinstance(error, Denied) and expires_at and expires_at <= datetime.now(UTC):
            return RegistryUnavailable(f"the login ended during the push: {error.message}")
        return error


def _engine_chooses(target: Target, held: HeldImage) -> bool:
    """Whether the engine must push: of an index, it chooses the manifest of a platform."""
    return target.platform is not None and held.store.is_content
