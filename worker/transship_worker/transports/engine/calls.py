"""The calls of a push, on one connection to an engine; what they raise is typed."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import closing
from typing import Any, Final

import docker
import requests

from transship.errors import (
    EngineUnavailable,
    ImageNotFound,
    PushRejected,
    RegistryUnreachable,
)
from transship.model.migration.platforms import Platform
from transship.model.references import ImageReference
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.redaction import clean
from transship_worker.transports.engine.connection import CALL_TIMEOUT_S, PLATFORM_API, Line
from transship_worker.transports.engine.errors import Named, engine_errors
from transship_worker.transports.engine.push_errors import Spoken, translate
from transship_worker.transports.engine.stores import is_podman

#: Docker's user name for a password that is an identity token (docker-credential-helpers).
_IDENTITY_TOKEN: Final = "<token>"  # noqa: S105

#: Docker's and Podman's words for an image that is not there.
_ABSENT: Final = re.compile(r"no such image|image not known", re.IGNORECASE)


class LookupMissing(Exception):
    """The engine has no ``/distribution`` call (Podman 5), which says nothing of the tag."""


def look_up(
    line: Line, engine: Named, image: ImageReference, credentials: Credentials | None
) -> str | None:
    """The digest that the registry holds under a tag, asked by the engine.

    ``None``: there is no such tag, or no such repository.

    Raises:
        LookupMissing: the engine has no such call.
        PushError: the registry refused, or could not be asked.
    """
    login = auth_config(credentials)
    try:
        with engine_errors(engine.label, engine.endpoint):
            found = line.inspect_distribution(str(image), auth_config=login)  # type: ignore[no-untyped-call]
            return str(found["Descriptor"]["digest"])
    except docker.errors.APIError as error:
        text = str(error.explanation or "")
        if _lacks_call(error.status_code, text):
            raise LookupMissing(
                f"engine {engine.label} has no call that asks a registry for a tag"
            ) from None
        if error.status_code == 404:
            return None
        raise translate(text, spoken_by(line, engine, image, credentials)) from None
    except EngineUnavailable as error:
        if isinstance(error.__cause__, requests.Timeout):
            raise RegistryUnreachable(
                f"engine {engine.label} got no answer from {image.registry} within "
                f"{CALL_TIMEOUT_S:.0f} s"
            ) from None
        raise


def push_events(
    line: Line,
    engine: Named,
    image: ImageReference,
    credentials: Credentials | None,
    platform: Platform | None,
) -> Generator[dict[str, Any], None, None]:
    """Push, and give the engine's events as they come; of an index, one platform if named.

    Raises:
        PushError: the engine refused to start, went away, or broke off.
    """
    wanted = _descriptor_of(platform) if platform is not None else None
    events = line.push_events(image.name, str(image.tag), auth_config(credentials), wanted)
    with closing(events):
        while True:
            try:
                with engine_errors(engine.label, engine.endpoint):
                    event = next(events, None)
            except docker.errors.APIError as error:
                text = str(error.explanation or error)
                raise translate(text, spoken_by(line, engine, image, credentials)) from None
            if event is None:
                return
            yield event


def export(line: Line, engine: Named, image_id: str) -> Generator[bytes, None, None]:
    """An image as a tar (``docker save``), in pieces as they come.

    Raises:
        ImageNotFound: the image is not in this engine any more.
        PushRejected: the engine has no export of it: of an index, nothing for its own platform.
        EngineUnavailable: the engine broke off.
    """
    pieces = line.export_image(image_id)
    with closing(pieces):
        while True:
            try:
                with engine_errors(engine.label, engine.endpoint):
                    piece = next(pieces, None)
            except docker.errors.APIError as error:
                text = clean(str(error.explanation or error))
                if error.status_code == 404 and _ABSENT.search(text):
                    raise ImageNotFound(
                        f"image {image_id} is not in engine {engine.label}"
                    ) from None
                kind = PushRejected if error.status_code == 404 else EngineUnavailable
                raise kind(f"engine {engine.label} cannot export {image_id[:19]}: {text}") from None
            if piece is None:
                return
            yield piece


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


def spoken_by(
    line: Line, engine: Named, image: ImageReference, credentials: Credentials | None
) -> Spoken:
    """The context of what the engine says on a connection."""
    return Spoken(
        engine.label,
        image,
        credentials,
        is_podman=is_podman(line.server),
        takes_platform=line.api >= PLATFORM_API,
    )


def _descriptor_of(platform: Platform) -> dict[str, str]:
    """A platform as the engine takes it (OCI image-spec, image-index.md, "platform")."""
    fields = {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "os.version": platform.os_version,
    }
    return {name: value for name, value in fields.items() if value}


def _lacks_call(status: int | None, text: str) -> bool:
    """Whether the engine's router refused a call, and not the registry.

    Docker: ``page not found``. Podman 5.8: ``Not Found``. A registry's words of an absent tag
    are longer.
    """
    bare = text.strip().rstrip(".").lower()
    return status in {405, 501} or (
        status == 404 and (bare in {"", "not found"} or "page not found" in bare)
    )
