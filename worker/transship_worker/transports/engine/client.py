"""The Docker Engine that a worker pushes from.

Each job has a ``Line`` of its own, so that it can be cut off without touching another. Short
questions share a few lines that stay open; an engine that restarts is simply there again.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any, Final

import docker
import requests

from transship.errors import (
    EngineUnavailable,
    ImageNotFound,
    InvalidReference,
    PushError,
    PushRejected,
    RegistryUnreachable,
)
from transship.model.references import ImageReference, RegistryUri
from transship_config.names import NAME_PATTERN
from transship_worker.credentials.access import Access, Credentials
from transship_worker.credentials.redaction import clean
from transship_worker.transports.engine.connection import CALL_TIMEOUT_S, Line
from transship_worker.transports.engine.endpoint import Endpoint, find_endpoint
from transship_worker.transports.engine.errors import engine_errors
from transship_worker.transports.engine.idle_connections import IdleLines, Question
from transship_worker.transports.engine.push_errors import Spoken, translate
from transship_worker.transports.engine.settings import (
    Place,
    ca_missing,
    client_missing,
    insecure_missing,
)

#: Seconds between two looks at whether a job that waits for another may go on. Unit: s.
_PATIENCE_S: Final = 0.2
_IMAGE_ID = re.compile(r"(?:sha256:)?[a-f0-9]{64}", re.ASCII)
#: Docker's user name for a password that is an identity token (docker-credential-helpers).
_IDENTITY_TOKEN: Final = "<token>"  # noqa: S105

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
        self._lock = threading.Lock()
        self._references: dict[str, tuple[threading.Lock, int]] = {}
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

    def keeps_layers_compressed(self) -> bool:
        """Whether it has the containerd image store, which sends layers as it holds them.

        Source: docs.docker.com, "containerd image store"; ``DriverStatus`` in ``docker info``.

        Raises:
            EngineUnavailable: it does not answer.
        """
        status = self.info().get("DriverStatus") or []
        return any("io.containerd.snapshotter" in str(pair) for pair in status)

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
            return self.look_up(line, image, credentials)

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
                self._version = self._asked(lambda: line.use_version(self._version))
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
        if access.insecure:
            found.append(insecure_missing(info, self.label, uri))
        elif not only_certain:
            place = Place(info, self.label, uri, local=self.endpoint.is_local_socket)
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
                self._version = self._asked(lambda: line.use_version(self._version))
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
        key = str(image)
        with self._lock:
            lock, users = self._references.get(key, (threading.Lock(), 0))
            self._references[key] = lock, users + 1
        try:
            while not lock.acquire(timeout=_PATIENCE_S):
                wait()
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._lock:
                lock, users = self._references.pop(key)
                if users > 1:
                    self._references[key] = lock, users - 1

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
        """As ``remote_digest``, on a line of the caller's."""
        login = auth_config(credentials)
        try:
            with engine_errors(self.label, self.endpoint):
                found = line.inspect_distribution(str(image), auth_config=login)  # type: ignore[no-untyped-call]
                return str(found["Descriptor"]["digest"])
        except docker.errors.APIError as error:
            text = str(error.explanation or "")
            if error.status_code == 404 and "page not found" not in text:
                return None
            raise translate(text, Spoken(self.label, image, credentials)) from None
        except EngineUnavailable as error:
            if isinstance(error.__cause__, requests.Timeout):
                raise RegistryUnreachable(
                    f"engine {self.label} got no answer from {image.registry} within "
                    f"{CALL_TIMEOUT_S:.0f} s"
                ) from None
            raise

    def push_events(
        self, line: Line, image: ImageReference, credentials: Credentials | None
    ) -> Generator[dict[str, Any], None, None]:
        """Push, and give the engine's events as they come.

        Raises:
            PushError: the engine refused to start, went away, or broke off.
        """
        events = line.push_events(image.name, str(image.tag), auth_config(credentials))
        with closing(events):
            while True:
                try:
                    with engine_errors(self.label, self.endpoint):
                        event = next(events, None)
                except docker.errors.APIError as error:
                    text = str(error.explanation or error)
                    raise translate(text, Spoken(self.label, image, credentials)) from None
                if event is None:
                    return
                yield event

    def export(self, line: Line, image_id: str) -> Generator[bytes, None, None]:
        """An image as a tar (``docker save``), in pieces as they come.

        Raises:
            ImageNotFound: the image is not in this engine any more.
            EngineUnavailable: the engine broke off.
        """
        pieces = line.export_image(image_id)
        with closing(pieces):
            while True:
                try:
                    with engine_errors(self.label, self.endpoint):
                        piece = next(pieces, None)
                except docker.errors.NotFound:
                    raise ImageNotFound(f"image {image_id} is not in engine {self.label}") from None
                except docker.errors.APIError as error:
                    text = clean(str(error.explanation or error))
                    raise EngineUnavailable(
                        f"engine {self.label} cannot export {image_id[:19]}: {text}"
                    ) from None
                if piece is None:
                    return
                yield piece

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

    def _info(self, line: Line) -> dict[str, Any]:
        info: dict[str, Any] = self._asked(line.info)
        return info

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """Call the SDK; the engine's own failures become typed, its 404 stays."""
        try:
            with engine_errors(self.label, self.endpoint):
                return ask()
        except docker.errors.NotFound:
            raise
        except docker.errors.APIError as error:
            text = clean(str(error.explanation or error))
            kind: type[PushError] = EngineUnavailable if error.is_server_error() else PushRejected
            raise kind(f"engine {self.label} refused: {text}") from None


def find_engine(environment: Mapping[str, str] | None = None, *, name: str = "") -> Engine:
    """The engine that the ``docker`` command would talk to; nothing is connected yet.

    ``name`` is what workers call it; without one it is called as ``docker info`` does.

    Raises:
        UsageError: a variable or a context that cannot be used, and what would be right.
    """
    environment = os.environ if environment is None else environment
    version = environment.get("DOCKER_API_VERSION", "")
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


def digests_of(inspected: Mapping[str, Any], image: ImageReference) -> set[str]:
    """Digests under which an image is known to be in the reference's repository.

    ``inspected``: what the engine knows of the image.
    """
    recorded = inspected.get("RepoDigests") or []
    return {digest for text in recorded if (digest := _digest_in(text, image))}


def auth_config(credentials: Credentials | None) -> dict[str, str]:
    """A login as the engine takes it with one call.

    Never ``None``, also without a login: for ``None`` the SDK looks into ``config.json``.
    """
    if credentials is None:
        return {}
    secret = credentials.password.get_secret_value()
    if credentials.username == _IDENTITY_TOKEN:
        return {"identitytoken": secret}
    return {"username": credentials.username, "password": secret}


def _digest_in(text: str, image: ImageReference) -> str | None:
    """The digest of ``repository@digest`` when the repository is the image's."""
    try:
        recorded = ImageReference.parse(text)
    except InvalidReference:
        return None
    return recorded.digest if recorded.name == image.name else None


def _fitting(name: str) -> str:
    """An engine's own name as one that can stand in keys, queues and commands."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("_.-")[:63]
    return name if re.fullmatch(NAME_PATTERN, name) else "engine"
