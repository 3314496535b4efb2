"""What the registry holds, compared with the image of the job: before a push, and after it.

An engine's word is evidence. What counts is that the registry has the digest under the tag, and
that this digest belongs to the image: by the manifest's config, or as the manifest or index that
the engine stores.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from transship.errors import (
    Denied,
    DigestMismatch,
    EngineUnavailable,
    ImageNotFound,
    PushError,
    PushRejected,
    RateLimited,
    RegistryUnavailable,
    RegistryUnreachable,
    RepositoryMissing,
)
from transship.model.migration.platforms import Platform
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.oci.descriptors import Manifest
from transship_worker.transports.engine.calls import LookupMissing
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.connection import Line
from transship_worker.transports.engine.events import PushStream
from transship_worker.transports.engine.identity import HeldImage, HeldManifest, Store
from transship_worker.transports.port import JobControl

logger = logging.getLogger("transship.worker")

#: A registry that will not be asked for a digest may still take a push: a login may be for
#: pushing only, and questions have rate limits of their own.
_NO_ANSWER: Final = (Denied, RateLimited, PushRejected, RepositoryMissing)
#: Platforms that a message names.
_NAMED: Final = 20


class RegistryReader(Protocol):
    """The worker's own view of registries, where the engine's does not tell enough."""

    def digest(
        self, image: ImageReference, credentials: Credentials | None, access: Access
    ) -> str | None:
        """What the registry holds under the image's tag; ``None``: there is no such tag.

        Raises:
            PushError: it refuses, or cannot be asked from here.
        """

    def manifest(
        self,
        image: ImageReference,
        digest: str,
        credentials: Credentials | None,
        access: Access,
    ) -> Manifest:
        """A manifest of the image's repository, verified.

        Raises:
            PushError: there is none; the registry refuses, or cannot be asked from here.
        """


@dataclass(frozen=True, slots=True)
class Target:
    """Where an image is pushed to, and how."""

    image: ImageReference
    credentials: Credentials | None
    access: Access
    #: The one that is pushed of an index; ``None``: all.
    platform: Platform | None = None
    #: A part of an index is no success.
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Whether a digest belongs to the job's image; ``None``: that could not be found out."""

    belongs: bool | None
    #: Why it could not.
    reason: str = ""


_YES: Final = _Verdict(True)
_NO: Final = _Verdict(False)


class Confirmation:
    """Asks what the registry holds, for one job and on its connection to the engine."""

    def __init__(
        self,
        engine: Engine,
        line: Line,
        target: Target,
        control: JobControl,
        reader: RegistryReader | None,
    ) -> None:
        self._engine = engine
        self._line = line
        self._target = target
        self._control = control
        self._reader = reader

    # Before a push.

    def present(self, held: HeldImage, became: str | None) -> str | None:
        """The digest, when the registry's tag holds this very image already.

        ``became``: the manifest that the image is remembered to have become when it was streamed.
        """
        expected = self._expected(held, became)
        if expected is not None and not expected:
            # Never pushed there from here: no answer could tell that it is the same image.
            return None
        try:
            remote = self._tag_digest() if expected is not None else self._read_digest()
            if remote is None or (expected is not None and remote not in expected):
                return None
            if expected is None and self._by_config(held, remote, layers=True) != _YES:
                return None
        except _NO_ANSWER:
            return None
        except PushError as error:
            self._control.checkpoint()
            if expected is not None:
                raise
            # The engine may have a way to the registry that the worker has not.
            logger.debug("%s: not known whether it is there: %s", self._image, error.message)
            return None
        return remote

    def _expected(self, held: HeldImage, became: str | None) -> Collection[str] | None:
        """Digests that are known to be this image; ``None``: only its config tells."""
        remembered = {became} if became is not None else set()
        if held.store is Store.PODMAN:
            return None
        if held.store is Store.CLASSIC:
            # An entry of a classic store comes from a pull or a push of this very image.
            return held.listed | remembered
        platform = self._target.platform
        if platform is None:
            return {held.id}
        listed = self._engine.manifests(self._line, held.id) or ()
        return {one.digest for one in listed if _is_for(one, platform)}

    def check_whole(self, held: HeldImage) -> None:
        """Return unless all of an index is asked for, and the engine says that it lacks a part.

        Raises:
            ImageNotFound: naming what it lacks.
        """
        if not (self._target.whole and held.store.is_content) or self._target.platform is not None:
            return
        listed = self._engine.manifests(self._line, held.id) or ()
        missing = [one for one in listed if one.is_image and not one.available]
        if missing:
            raise ImageNotFound(
                f"engine {self._engine.label} does not hold all platforms of index {held.id}: "
                f"{_named(missing)} missing; pull them, or push without --require-all-platforms"
            )

    # After a push by the engine.

    def pushed(self, held: HeldImage, stream: PushStream) -> str:
        """The digest of what the engine pushed, which belongs to the job's image.

        Raises:
            DigestMismatch: it does not.
            EngineUnavailable: the engine names no digest, and the tag does not hold the image.
        """
        digest = stream.digest
        if digest is None:
            return self._by_tag(held, stream)
        verdict = self._verdict(held, digest, stream)
        if verdict.belongs is False:
            raise DigestMismatch(
                f"{self._image} was tagged anew while it was pushed: {digest} is not "
                f"{held.short}; push it again"
            )
        if verdict.belongs is None:
            self._control.warn(
                f"pushed, but it could not be confirmed that {digest} is image {held.short}: "
                f"{verdict.reason}"
            )
        return digest

    def _by_tag(self, held: HeldImage, stream: PushStream) -> str:
        """The registry decides where the engine names no digest."""
        ended = f"engine {self._engine.label} ended the push of {self._image} without a digest"
        try:
            digest = self._tag_digest()
        except PushError as error:
            self._control.checkpoint()
            raise type(error)(
                f"{ended}, and the registry could not be asked: {error.message}",
                retry_after_s=error.retry_after_s,
            ) from None
        if digest is None:
            raise EngineUnavailable(f"{ended}, and the registry does not have the tag")
        verdict = self._verdict(held, digest, stream)
        if verdict.belongs is None:
            raise EngineUnavailable(
                f"{ended}, and it is not known whether the tag's {digest} is the image: "
                f"{verdict.reason}"
            )
        if not verdict.belongs:
            raise EngineUnavailable(f"{ended}, and the tag has {digest}, which is not the image")
        return digest

    def _verdict(self, held: HeldImage, digest: str, stream: PushStream) -> _Verdict:
        if held.store.is_content:
            return self._by_content(held, digest, stream)
        if held.store is Store.CLASSIC:
            # Asked anew: the push itself made the engine record the digest.
            inspected = self._engine.inspect(self._line, held.id)
            if digest in HeldImage.of(inspected, held.store, self._image).listed:
                return _YES
        try:
            found = self._by_config(held, digest)
        except PushError as error:
            self._control.checkpoint()
            found = _Verdict(None, error.message)
        if found.belongs is None and held.store is Store.CLASSIC:
            # Its own record says that it pushed another image.
            return _NO
        return found

    def _by_config(self, held: HeldImage, digest: str, *, layers: bool = False) -> _Verdict:
        """Whether a manifest at the registry has the image's config, and so many layers.

        Raises:
            PushError: it could not be read.
        """
        if self._reader is None:
            return _Verdict(None, "no connection to the registry but the engine's")
        target = self._target
        manifest = self._reader.manifest(self._image, digest, target.credentials, target.access)
        if manifest.config is None or manifest.config.digest != held.id:
            return _NO
        if layers and held.diff_ids and len(manifest.layers) != len(held.diff_ids):
            return _NO
        return _YES

    def _by_content(self, held: HeldImage, digest: str, stream: PushStream) -> _Verdict:
        """Whether a digest is that of the stored manifest or index, or of a part of the index.

        Raises:
            ImageNotFound: it is a part, and all was asked for.
        """
        if digest == held.id:
            return _YES
        listed = self._engine.manifests(self._line, held.id)
        part = next((one for one in listed or () if one.digest == digest), None)
        platform = self._target.platform
        instead = stream.instead_of == held.id and stream.selected == digest
        if platform is not None:
            if listed is None:
                return _Verdict(
                    None, f"engine {self._engine.label} does not list the manifests of its images"
                )
            return _YES if part is not None and _is_for(part, platform) else _NO
        if part is None and (listed or not instead):
            return _NO
        self._tell_part(held, digest, listed or ())
        return _YES

    def _tell_part(self, held: HeldImage, digest: str, listed: Collection[HeldManifest]) -> None:
        """Say that the engine pushed one manifest of an index.

        Raises:
            ImageNotFound: all was asked for.
        """
        own = next((f" ({one})" for one in listed if one.digest == digest), "")
        omitted = [one for one in listed if one.is_image and one.digest != digest]
        what = _named(omitted) if omitted else "the others, which the engine does not list"
        text = (
            f"the engine pushed manifest {digest}{own} instead of index {held.id}, of which it "
            f"does not hold all; omitted platforms: {what}"
        )
        if self._target.whole:
            raise ImageNotFound(
                f"{text}; {self._image} has only that manifest now: pull the missing platforms "
                "and push again"
            )
        self._control.warn(text)

    def confirm_tag(self, digest: str) -> None:
        """See what the tag holds now, after a push. Another image there is somebody else's push.

        Raises:
            RegistryUnavailable: the registry does not have the tag, whatever it answered.
        """
        try:
            remote = self._tag_digest()
            if remote is None and self._reader is not None:
                # The engine also reads the image's config, and calls a tag absent whose config is
                # refused for the rate of its requests (seen with Docker Engine 20.10).
                remote = self._read_digest()
        except PushError as error:
            self._control.warn(
                f"pushed, but the registry could not be asked to confirm it: {error.message}"
            )
            return
        if remote is None:
            raise RegistryUnavailable(
                f"the registry answered that it took {digest}, and does not have the tag "
                f"{self._image}"
            )
        if remote != digest:
            self._control.warn(
                f"the tag {self._image} was moved since the push of {digest}: the registry now has "
                f"{remote}"
            )

    # Where the registry is asked.

    @property
    def _image(self) -> ImageReference:
        return self._target.image

    def _tag_digest(self) -> str | None:
        """What the tag holds: through the engine, or where it has no such call from here.

        Raises:
            PushError: neither could tell.
        """
        try:
            return self._engine.look_up(self._line, self._image, self._target.credentials)
        except LookupMissing as missing:
            if self._reader is None:
                raise PushRejected(str(missing)) from None
            return self._read_digest()
        except (RegistryUnreachable, RateLimited):
            # The worker may reach it where the engine cannot: at an endpoint below a path. And it
            # waits in place, at the fleet's rate, where the engine's request was refused.
            if self._reader is None:
                raise
            return self._read_digest()

    def _read_digest(self) -> str | None:
        if self._reader is None:
            raise PushRejected("no connection to the registry but the engine's")
        return self._reader.digest(self._image, self._target.credentials, self._target.access)


def _is_for(manifest: HeldManifest, platform: Platform) -> bool:
    return (
        manifest.is_image and manifest.platform is not None and platform.matches(manifest.platform)
    )


def _named(manifests: Collection[HeldManifest]) -> str:
    names = [str(one) for one in manifests]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
