"""The push through a Docker Engine, for one job."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

from longshore_config.errors import (
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
from longshore_config.job import Progress, Step
from longshore_config.reference import ImageReference, RegistryUri
from longshore_worker.transports.engine import Engine
from longshore_worker.transports.line import Line
from longshore_worker.transports.port import Access, Credentials, JobControl, Pushed
from longshore_worker.transports.push_errors import Spoken, translate
from longshore_worker.transports.push_stream import PushStream

#: A registry that will not be asked for a digest may still take a push: a login may be for
#: pushing only, and questions have rate limits of their own.
_NO_ANSWER = (Denied, RateLimited, PushRejected, RepositoryMissing)


class DockerPush:
    """Pushes one image, fixed by its id; implements ``PushTransport``.

    After ``push`` returned, ``outcome`` says what it came to.
    """

    def __init__(
        self, engine: Engine, *, image_id: str, source: str | None, control: JobControl
    ) -> None:
        """``source``: the image is not yet tagged as the target; its name, for messages."""
        self.outcome: Pushed | None = None
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
        present = self._present_already(line, image, credentials)
        if present is not None:
            return Pushed(present, skipped=True)
        self._control.checkpoint()
        self._control.step(Step.PUSHING)
        stream = self._send(line, image, credentials)
        self._control.step(Step.VERIFYING)
        return Pushed(self._verified(line, image, credentials, stream))

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
        self, line: Line, image: ImageReference, credentials: Credentials | None
    ) -> str | None:
        """The digest, when the registry's tag holds this very image already."""
        digests = self._engine.digests(line, self._image_id, image)
        if not digests:
            # Never pushed there from here: no answer could tell that it is the same image.
            return None
        try:
            remote = self._engine.look_up(line, image, credentials)
        except _NO_ANSWER:
            return None
        return remote if remote in digests else None

    def _send(
        self, line: Line, image: ImageReference, credentials: Credentials | None
    ) -> PushStream:
        """Push, and read the stream to its end."""
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

    def _verified(
        self,
        line: Line,
        image: ImageReference,
        credentials: Credentials | None,
        stream: PushStream,
    ) -> str:
        """Make sure that what was pushed is the job's image, and see what the tag holds now."""
        digest = str(stream.digest)
        digests = self._engine.digests(line, self._image_id, image)
        if digest not in digests and stream.instead_of not in {*digests, self._image_id}:
            raise DigestMismatch(
                f"{image} was tagged anew while it was pushed: {digest} is not "
                f"{self._image_id[:19]}; push it again"
            )
        # The push is done: whatever happens to this last question, it did succeed.
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
