"""Checks the arguments of a push and makes its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import ValidationError

from transship.errors import UnknownEngine
from transship.model.components import Fleet, not_under_registry
from transship.model.jobs import Via
from transship.model.on_behalf_of import OnBehalfOf
from transship.model.push_request import ONE_OR_ALL_PLATFORMS, PushRequest, one_platform
from transship.model.references import ImageReference
from transship.model.request_fields import (
    DEFAULT_DEADLINE_S,
    DEFAULT_EXPIRES_S,
    request_problem,
)
from transship_config.errors import UsageError

#: For whom a request is made, as callers say it; ``None``: for their own account.
ForWhomText: TypeAlias = OnBehalfOf | str | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Push:
    """One push to ask for; the arguments of ``Client.push``."""

    image: str
    registry: str | None = None
    source: str | None = None
    engine: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    bulk: bool = False
    #: Unit: s.
    deadline: int | None = None
    #: Unit: s.
    expires: int | None = None
    #: ``auto``, ``engine`` or ``stream``.
    via: str = "auto"
    #: The one platform to push, such as ``linux/arm64``; ``None``: all that the engine has.
    platform: str | None = None
    #: Fail if the engine does not have every platform of the image.
    require_all_platforms: bool = False
    #: ``ACCOUNT[/SUBJECT]``, or a mapping with account, subject and scope.
    on_behalf_of: ForWhomText = None


def for_whom(value: object) -> OnBehalfOf | None:
    """For whom a request is to be made.

    Raises:
        UsageError: it is neither a text nor a mapping that says so.
    """
    try:
        return None if value is None else OnBehalfOf.parse(value)
    except ValueError as error:
        raise UsageError(f"on_behalf_of: {error}") from None


def check(push: object) -> None:
    """Refuse what cannot be a push, without knowing any component."""
    if not isinstance(push, Push):
        raise UsageError(f"push_many takes transship.Push objects, not {type(push).__name__}")
    if not isinstance(push.image, str):
        raise UsageError(f"image must be text such as host/repository:tag, not {push.image!r}")
    check_labels(push.labels)
    if push.via not in set(Via):
        raise UsageError(f"via must be {', '.join(Via)}, not {push.via!r}")
    check_platform(push)
    for_whom(push.on_behalf_of)
    ImageReference.parse(push.image)


def check_platform(push: Push) -> None:
    """Refuse a platform that is none, and one together with all of them."""
    if not isinstance(push.require_all_platforms, bool):
        raise UsageError(
            f"require_all_platforms must be True or False, not {push.require_all_platforms!r}"
        )
    if push.platform is None:
        return
    try:
        one_platform(push.platform)
    except ValueError as error:
        raise UsageError(f"platform: {error}") from None
    if push.require_all_platforms:
        raise UsageError(ONE_OR_ALL_PLATFORMS)


def check_labels(labels: object) -> None:
    """Refuse labels that are no texts by names."""
    if not isinstance(labels, Mapping):
        raise UsageError(f"labels must be a mapping of names to texts, not {labels!r}")
    for name, value in labels.items():
        if not isinstance(value, str):
            raise UsageError(f"labels: the value of {name!r} must be text: write '{value}'")


def push_request(push: Push, fleet: Fleet) -> PushRequest:
    """A request with its component and engine settled as far as the live workers tell."""
    image = ImageReference.parse(push.image)
    if push.registry is not None:
        name = push.registry
        if fleet.workers:
            component = fleet.component(name)
            if not component.covers(image.tagged):
                raise UsageError(not_under_registry(push.image, component))
    elif fleet.workers:
        name = fleet.covering(image).name
    else:
        raise UsageError(
            f"which component is {image} for? No worker is alive to tell; name it with --registry"
        )
    try:
        return PushRequest(
            image=image,
            registry=name,
            source=push.source,
            engine=_engine(push.engine, fleet),
            labels=dict(push.labels),
            bulk=push.bulk,
            via=Via(push.via),
            platform=push.platform,
            require_all_platforms=push.require_all_platforms,
            on_behalf_of=for_whom(push.on_behalf_of),
            deadline_s=DEFAULT_DEADLINE_S if push.deadline is None else push.deadline,
            expires_s=DEFAULT_EXPIRES_S if push.expires is None else push.expires,
        )
    except ValidationError as error:
        raise request_problem(error) from None


def _engine(wanted: str | None, fleet: Fleet) -> str | None:
    engines = fleet.engines
    if wanted is not None:
        if fleet.workers and wanted not in engines:
            raise UnknownEngine(
                f"no live worker pushes from engine {wanted!r}; engines with workers: "
                f"{', '.join(engines) or 'none'}"
            )
        return wanted
    if len(engines) > 1:
        raise UnknownEngine(
            f"live workers push from several engines: {', '.join(engines)}; "
            "choose the one that has the image with --engine"
        )
    return engines[0] if engines else None
