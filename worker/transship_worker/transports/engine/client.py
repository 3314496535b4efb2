"""The Docker Engine that a worker pushes from.

Each job has a ``Line`` of its own, so that it can be cut off without touching another. Short
questions share a few lines that stay open; an engine that restarts is simply there again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import docker

from transship.errors import (
    EngineMisconfigured,
    EngineUnavailable,
    ImageNotFound,
    InvalidReference,
    PushRejected,
)
from transship.model.migration.platforms import Platform
from transship.model.references import ImageReference, RegistryUri
from transship_config.errors import UsageError
from transship_config.names import NAME_PATTERN
from transship_worker.credentials.access import Access, Credentials
from transship_worker.credentials.redaction import clean
from transship_worker.transports.engine import calls, stores
from transship_worker.transports.engine.connection import MANIFESTS_API, OLDEST, Line, is_spoken
from transship_worker.transports.engine.endpoint import Endpoint, find_endpoint
from transship_worker.transports.engine.errors import Named, asked, engine_errors
from transship_worker.transports.engine.identity import HeldImage, HeldManifest, held_manifests
from transship_worker.transports.engine.idle_connections import IdleLines, Question
from transship_worker.transports.engine.references import References
from transship_worker.transports.engine.settings import (
    PODMAN_CERTIFICATES,
    Place,
    ca_missing,
    client_missing,
    insecure_missing,
    podman_insecure_missing,
)

_IMAGE_ID = re.compile(r"(?:sha256:)?[a-f0-9]{64}", re.ASCII)

#: Lets something be ended from elsewhere while a block runs; ``JobControl.closing`` is one.
Guard = Callable[[Callable[[], None]], AbstractContextManager[None]]


def _unguarded(_: Callable[[], None]) -> AbstractContextManager[None]:
    return nullcontext()


class Engine:
    """One Docker Engine. Safe to use from any thread."""

    def __init__(self, endpoint: Endpoint, *, name: str = "", version: str = "") -> None:
        """``name``: what workers call it; ``version``: the API version, when not negotiated."""
        self.endpoint = endpoint
        self._name = name
        self._told_name = name
        self._told_version = version
        self._version = version
        self._references = References()
        self._idle = IdleLines()

    @property
    def name(self) -> str:
        """The given name, else the one in ``docker info``, made to fit.

        Raises:
            EngineUnavailable: it has no given name and cannot be asked.
        """
        if not self._name:
            self._name = _fitting(str(self.info().get("Name", "")))
        return self._name

    @property
    def label(self) -> str:
        """The name for messages; never asks the engine."""
        return self._name or self.endpoint.url

    @property
    def named(self) -> Named:
        """Its name and its address, for messages; never asks the engine."""
        return Named(self.label, self.endpoint)

    def ping(self) -> None:
        """Return if the engine answers.

        Raises:
            EngineUnavailable: it does not; the message says where it was looked for.
        """
        with self._question() as line:
            self._asked(line.ping)

    def info(self) -> dict[str, Any]:
        """What ``docker info`` tells.

        Raises:
            EngineUnavailable: it does not answer.
        """
        with self.line() as line:
            return self._info(line)

    def version(self) -> dict[str, Any]:
        """What ``docker version`` tells of the engine.

        Raises:
            EngineUnavailable: it does not answer.
        """
        with self.line() as line:
            version: dict[str, Any] = self._asked(line.version)
            return version

    def image_id(self, name: str, guard: Guard = _unguarded) -> str:
        """The id of a local image, by name or id. ``guard``: as for ``line``.

        Raises:
            ImageNotFound: it is not in this engine.
            EngineUnavailable: the engine does not answer.
        """
        with self._question(guard) as line:
            return str(self.inspect(line, name)["Id"])

    def remote_digest(self, image: ImageReference, credentials: Credentials | None) -> str | None:
        """The digest that the registry holds under the image's tag, asked by the engine.

        ``None``: there is no such tag, or no such repository.

        Raises:
            PushError: the registry refused, or could not be asked.
        """
        with self.line() as line:
            try:
                return self.look_up(line, image, credentials)
            except calls.LookupMissing as missing:
                raise PushRejected(str(missing)) from None

    def missing_settings(
        self, uri: RegistryUri, access: Access, *, only_certain: bool = False
    ) -> list[str]:
        """Settings that this engine lacks to reach the registry as its component says.

        Each is a sentence that says what to change. With ``only_certain`` those are left out
        that the engine might have in a way that cannot be seen from here.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        with self.line() as line:
            return self.settings_missing(line, uri, access, only_certain=only_certain)

    def close(self) -> None:
        """Close the lines that nobody uses; whoever asks again opens others."""
        self._idle.close()

    @contextmanager
    def _question(self, guard: Guard = _unguarded) -> Iterator[Line]:
        """A line for one short question, open already where another question left it so.

        A line whose engine restarted meanwhile connects anew by itself.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        line = self._idle.take() or self._new_line()
        question = Question(line)
        kept = False
        try:
            with guard(question.cut):
                self._settle_version(line)
                yield line
            # Else, an answer may have been left half read.
            kept = question.end() and not self.endpoint.is_ssh and self._idle.keep(line)
        except EngineUnavailable:
            # It may come back as another version. What waits idle is no better than this one.
            self._version = self._told_version
            self.close()
            raise
        finally:
            if not kept:
                question.end()
                line.hang_up()

    # What a transport works with, on one line for a whole job.

    def settings_missing(
        self, line: Line, uri: RegistryUri, access: Access, *, only_certain: bool
    ) -> list[str]:
        """As ``missing_settings``, on a line of the caller's."""
        if access.is_plain:
            return []
        info = self._info(line)
        found: list[str | None] = []
        podman = stores.is_podman(line.server)
        if access.insecure:
            missing = podman_insecure_missing if podman else insecure_missing
            found.append(missing(info, self.label, uri))
        elif not only_certain:
            place = Place(info, self.label, uri, local=self.endpoint.is_local_socket)
            own = replace(place, certificates=PODMAN_CERTIFICATES)
            place = own if podman and own.folder.is_dir() else place
            if access.ca is not None:
                found.append(ca_missing(place, access.ca))
            if access.client_cert is not None and access.client_key is not None:
                found.append(client_missing(place, access.client_cert, access.client_key))
        return [sentence for sentence in found if sentence]

    @contextmanager
    def line(self, guard: Guard = _unguarded) -> Iterator[Line]:
        """A connection of its own; what runs on it is broken off at the end of the block.

        ``guard`` is entered with the means to cut the line, before anything is asked on it.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        line = self._new_line()
        try:
            with guard(line.cut):
                self._settle_version(line)
                yield line
        except EngineUnavailable:
            # It may come back as another version.
            self._version = self._told_version
            raise
        finally:
            line.hang_up()

    @contextmanager
    def exclusive(self, image: ImageReference, wait: Callable[[], None]) -> Iterator[None]:
        """Let one job at a time tag and push a reference; ``wait`` is called while another does.

        The engine pushes what a reference means at that moment, so two jobs that tag
        different images as one reference would push one of them twice.
        """
        with self._references.exclusive(str(image), wait):
            yield

    def inspect(self, line: Line, name: str) -> dict[str, Any]:
        """What the engine knows of a local image.

        Raises:
            ImageNotFound: it is not in this engine.
        """
        missing = ImageNotFound(f"image {clean(name)} is not in engine {self.label}")
        if not _IMAGE_ID.fullmatch(name):
            try:
                ImageReference.parse(name)
            except InvalidReference:
                # The name becomes part of a URL of the engine's.
                raise missing from None
        try:
            found: dict[str, Any] = self._asked(lambda: line.inspect_image(name))  # type: ignore[no-untyped-call]
        except docker.errors.NotFound:
            raise missing from None
        return found

    def held(self, line: Line, image_id: str, image: ImageReference) -> HeldImage:
        """An image that is tagged as ``image``, with what identifies it in this engine's store.

        Raises:
            ImageNotFound: it is not in this engine.
        """
        inspected = self.inspect(line, image_id)
        return HeldImage.of(inspected, stores.store_of(line, self.named, inspected), image)

    def manifests(self, line: Line, image_id: str) -> tuple[HeldManifest, ...] | None:
        """The manifests of an index in the containerd image store; ``None``: it cannot tell.

        Raises:
            ImageNotFound: it is not in this engine.
        """
        if line.api < MANIFESTS_API:
            return None
        try:
            return held_manifests(self._asked(lambda: line.inspect_manifests(image_id)))
        except docker.errors.NotFound:
            raise ImageNotFound(f"image {image_id} is not in engine {self.label}") from None

    def tag(self, line: Line, image_id: str, image: ImageReference) -> None:
        """Let the reference mean this image.

        Raises:
            ImageNotFound: the image is not in this engine any more.
        """
        try:
            self._asked(lambda: line.tag(image_id, image.name, image.tag))
        except docker.errors.NotFound:
            raise ImageNotFound(f"image {image_id} is not in engine {self.label}") from None

    def look_up(
        self, line: Line, image: ImageReference, credentials: Credentials | None
    ) -> str | None:
        """As ``remote_digest``, on a line of the caller's.

        Raises:
            LookupMissing: the engine has no such call.
            PushError: the registry refused, or could not be asked.
        """
        return calls.look_up(line, self.named, image, credentials)

    def push_events(
        self,
        line: Line,
        image: ImageReference,
        credentials: Credentials | None,
        platform: Platform | None = None,
    ) -> Generator[dict[str, Any], None, None]:
        """Push, and give the engine's events as they come; of an index, one platform if named.

        Raises:
            PushError: the engine refused to start, went away, or broke off.
        """
        return calls.push_events(line, self.named, image, credentials, platform)

    def export(self, line: Line, image_id: str) -> Generator[bytes, None, None]:
        """An image as a tar (``docker save``), in pieces as they come.

        Raises:
            ImageNotFound: the image is not in this engine any more.
            EngineUnavailable: the engine broke off.
        """
        return calls.export(line, self.named, image_id)

    def _new_line(self) -> Line:
        try:
            with engine_errors(self.label, self.endpoint):
                return Line(self.endpoint)
        except EngineUnavailable as error:
            if isinstance(error.__cause__, docker.errors.InvalidConfigFile | ValueError):
                # The SDK reads the login state, of which nothing is used, and wants it sound.
                raise EngineUnavailable(
                    f"engine {self.label} cannot be used: the Docker SDK cannot read this user's "
                    "config.json; mend it, or let DOCKER_CONFIG name another folder"
                ) from None
            raise

    def _settle_version(self, line: Line) -> None:
        """Let a connection speak the newest API of the engine, or the one that was told.

        Raises:
            EngineUnavailable: it does not answer.
            EngineMisconfigured: it is too old.
        """
        version = self._asked(lambda: line.use_version(self._version))
        if not is_spoken(version):
            self._version = self._told_version
            raise EngineMisconfigured(
                f"engine {self.label} speaks version {clean(version)[:40]} of the Docker API; "
                f"{OLDEST} or newer is needed (Docker Engine 20.10, Podman 4)"
            )
        self._version = version

    def _info(self, line: Line) -> dict[str, Any]:
        info: dict[str, Any] = self._asked(line.info)
        return info

    def _asked(self, ask: Callable[[], Any]) -> Any:
        return asked(self.named, ask)


def find_engine(environment: Mapping[str, str] | None = None, *, name: str = "") -> Engine:
    """The engine that the ``docker`` command would talk to; nothing is connected yet.

    ``name`` is what workers call it; without one it is called as ``docker info`` does.

    Raises:
        UsageError: a variable or a context that cannot be used, and what would be right.
    """
    environment = os.environ if environment is None else environment
    version = environment.get("DOCKER_API_VERSION", "")
    if version and not is_spoken(version):
        raise UsageError(
            f"DOCKER_API_VERSION={version[:40]!r} cannot be used; leave it unset, or write "
            f"{OLDEST} or newer"
        )
    return Engine(find_endpoint(environment), name=name, version=version)


def connect(environment: Mapping[str, str] | None = None) -> docker.DockerClient | None:
    """The Docker SDK's own client for that engine; ``None`` when it does not answer."""
    endpoint = find_endpoint(os.environ if environment is None else environment)
    tls = endpoint.tls.config() if endpoint.tls else False
    try:
        with engine_errors(endpoint.url, endpoint):
            return docker.DockerClient(base_url=endpoint.url, tls=tls, use_ssh_client=True)
    except (EngineUnavailable, docker.errors.APIError):
        return None


def _fitting(name: str) -> str:
    """An engine's own name as one that can stand in keys, queues and commands."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("_.-")[:63]
    return name if re.fullmatch(NAME_PATTERN, name) else "engine"
