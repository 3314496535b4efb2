"""The push through a Docker Engine, for one job.

The engine pushes by itself, or exports the image and the worker sends it (``stream.push``),
where that is faster or asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from transship.errors import (
    Denied,
    DigestMismatch,
    EngineMisconfigured,
    EngineUnavailable,
    ImageNotFound,
    PushError,
    PushRejected,
    RateLimited,
    RegistryUnavailable,
    RepositoryMissing,
)
from transship.model.jobs import Step
from transship.model.records import Progress
from transship.model.references import ImageReference, RegistryUri
from transship_worker.credentials.access import Access, Credentials
from transship_worker.transports.engine.client import Engine, digests_of
from transship_worker.transports.engine.connection import Line
from transship_worker.transports.engine.events import PushStream
from transship_worker.transports.engine.push_errors import Spoken, translate
from transship_worker.transports.port import JobControl, Pushed
from transship_worker.transports.stream.choice import Fallback, begins, pays

if TYPE_CHECKING:
    from transship_worker.transports.stream.push import StreamPush

logger = logging.getLogger("transship.worker")

#: A registry that will not be asked for a digest may still take a push: a login may be for
#: pushing only, and questions have rate limits of their own.
_NO_ANSWER = (Denied, RateLimited, PushRejected, RepositoryMissing)


class Streamed(Protocol):
    """The other way, as far as it is open to a job."""

    @property
    def forced(self) -> bool:
        """Whether the job asks for it."""

    def remembered(self, image: ImageReference, image_id: str) -> str | None:
        """Digest of the manifest that an image became in this way before; a hint."""

    def open(
        self,
        image: ImageReference,
        credentials: Credentials | None,
        inspected: Mapping[str, Any],
    ) -> StreamPush | None:
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
    ) -> None:
        """A push for one job.

        ``source``: the image is not yet tagged as the target; its name, for messages.
        ``streamed``: the other way; ``None``: the engine pushes in any case.
        """
        self.outcome: Pushed | None = None
        self._streamed = streamed
        self._engine = engine
        self._image_id = image_id
        self._source = source
        self._control = control

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
                self.outcome = self._push(line, image, credentials)
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

    def _push(self, line: Line, image: ImageReference, credentials: Credentials | None) -> Pushed:
        self._control.checkpoint()
        self._settle_reference(line, image)
        inspected = self._engine.inspect(line, self._image_id)
        present = self._present_already(line, image, credentials, inspected)
        if present is not None:
            return Pushed(present, skipped=True)
        self._control.checkpoint()
        streamed = self._open_stream(image, credentials, inspected)
        self._control.step(Step.PUSHING)
        digest = None
        if streamed is not None and self._begins_streaming(streamed):
            digest = self._stream(line, image, streamed)
            streamed = None
        if digest is None:
            digest = self._push_by_engine(line, image, credentials, streamed)
        return Pushed(self._confirmed(line, image, credentials, digest))

    def _push_by_engine(
        self,
        line: Line,
        image: ImageReference,
        credentials: Credentials | None,
        streamed: StreamPush | None,
    ) -> str:
        """Let the engine push, and change over where it turns out that most is new."""
        self._control.checkpoint()
        stream = self._send(line, image, credentials, streamed)
        if stream is None and streamed is not None:
            logger.debug("%s: most of it is new: it is streamed", image)
            digest = self._stream(line, image, streamed)
            if digest is not None:
                return digest
            stream = self._send(line, image, credentials, None)
        if stream is None:
            raise EngineUnavailable(f"engine {self._engine.label} did not push {image}")
        return self._verified(line, image, stream)

    def _open_stream(
        self,
        image: ImageReference,
        credentials: Credentials | None,
        inspected: Mapping[str, Any],
    ) -> StreamPush | None:
        """The streamed way, with what is remembered; ``None``: the engine is to push."""
        if self._streamed is None:
            return None
        try:
            streamed = self._streamed.open(image, credentials, inspected)
            if streamed is not None:
                streamed.look()
        except PushError as error:
            self._control.checkpoint()
            if self._streamed.forced:
                raise
            # The engine may have a way to the registry that the worker has not.
            logger.debug("%s cannot be streamed: %s", image, error.message)
            return None
        return streamed

    def _begins_streaming(self, streamed: StreamPush) -> bool:
        return self._is_forced or begins(streamed.size, streamed.known_size)

    @property
    def _is_forced(self) -> bool:
        return self._streamed is not None and self._streamed.forced

    def _stream(self, line: Line, image: ImageReference, streamed: StreamPush) -> str | None:
        """Stream; ``None``: the engine is to push instead."""
        try:
            return streamed.push(line, image)
        except Fallback as reason:
            logger.debug("%s is left to the engine: %s", image, reason)
            if self._is_forced:
                self._control.warn(f"it was not streamed, the engine pushed it: {reason}")
            return None

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

    def _present_already(
        self,
        line: Line,
        image: ImageReference,
        credentials: Credentials | None,
        inspected: Mapping[str, Any],
    ) -> str | None:
        """The digest, when the registry's tag holds this very image already."""
        digests = digests_of(inspected, image)
        # The engine does not know what it became when it was streamed.
        became = self._streamed.remembered(image, self._image_id) if self._streamed else None
        if became is not None:
            digests.add(became)
        if not digests:
            # Never pushed there from here: no answer could tell that it is the same image.
            return None
        try:
            remote = self._engine.look_up(line, image, credentials)
        except _NO_ANSWER:
            return None
        return remote if remote in digests else None

    def _send(
        self,
        line: Line,
        image: ImageReference,
        credentials: Credentials | None,
        streamed: StreamPush | None,
    ) -> PushStream | None:
        """Push, and read the stream to its end; ``None``: given up, as streaming is faster."""
        stream = PushStream()
        before = Progress()
        with closing(self._engine.push_events(line, image, credentials)) as events:
            for event in events:
                stream.feed(event)
                self._control.alive()
                progress = stream.progress
                if progress != before:
                    self._control.progress(progress)
                    before = progress
                if streamed is not None and pays(streamed.size, *stream.new):
                    return None
        if stream.error is not None:
            spoken = Spoken(self._engine.label, image, credentials)
            raise self._why(translate(stream.error, spoken), credentials)
        if stream.digest is None:
            raise EngineUnavailable(
                f"engine {self._engine.label} ended the push of {image} without a digest"
            )
        return stream

    def _why(self, error: PushError, credentials: Credentials | None) -> PushError:
        """A refusal is for good, unless the login had simply ended during the upload."""
        expires_at = credentials.expires_at if credentials else None
        if isinstance(error, Denied) and expires_at and expires_at <= datetime.now(UTC):
            return RegistryUnavailable(f"the login ended during the push: {error.message}")
        return error

    def _verified(self, line: Line, image: ImageReference, stream: PushStream) -> str:
        """The digest of what the engine pushed, if that is the job's image."""
        digest = str(stream.digest)
        # Asked anew: the push itself made the engine record the digest.
        digests = digests_of(self._engine.inspect(line, self._image_id), image)
        if digest not in digests and stream.instead_of not in {*digests, self._image_id}:
            raise DigestMismatch(
                f"{image} was tagged anew while it was pushed: {digest} is not "
                f"{self._image_id[:19]}; push it again"
            )
        return digest

    def _confirmed(
        self, line: Line, image: ImageReference, credentials: Credentials | None, digest: str
    ) -> str:
        """See what the tag holds now. The push is done: whatever comes of this, it succeeded."""
        self._control.step(Step.VERIFYING)
        try:
            remote = self._engine.look_up(line, image, credentials)
        except PushError as error:
            self._control.warn(
                f"pushed, but the registry could not be asked to confirm it: {error.message}"
            )
            return digest
        if remote != digest:
            now = f"the registry now has {remote}" if remote else "the registry has it no longer"
            self._control.warn(f"the tag {image} was moved since the push of {digest}: {now}")
        return digest
