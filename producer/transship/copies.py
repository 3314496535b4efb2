"""Checks the arguments of a copy and makes its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from transship.errors import InvalidReference, UnknownComponent
from transship.model.components import Fleet, PublicComponent
from transship.model.copy_request import CopyRequest
from transship.model.references import ImageReference, RegistryUri
from transship.model.request_fields import DEFAULT_DEADLINE_S, DEFAULT_EXPIRES_S, request_problem
from transship.pushes import ForWhomText, check_labels, for_whom
from transship_config.errors import UsageError
from transship_config.text import did_you_mean, some_of


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy to ask for; the arguments of ``Client.copy``."""

    source: str
    target: str
    source_registry: str | None = None
    target_registry: str | None = None
    platforms: Sequence[str] = ()
    referrers: bool = False
    foreign_layers: str = "copy"
    tags: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Unit: s.
    deadline: int | None = None
    #: Unit: s.
    expires: int | None = None
    on_behalf_of: ForWhomText = None


def references(copy: Copy) -> tuple[ImageReference, ImageReference]:
    """Source and target; a target without a tag gets the source's, else its digest.

    Needs no worker, so that bad input is known before anybody is asked.

    Raises:
        UsageError: one of them is no image reference, or they do not fit each other.
    """
    for what, text in (("source", copy.source), ("target", copy.target)):
        if not isinstance(text, str):
            raise UsageError(f"{what} must be text such as host/repository:tag, not {text!r}")
    check_labels(copy.labels)
    for_whom(copy.on_behalf_of)
    source = ImageReference.parse(copy.source).tagged
    target = ImageReference.parse(copy.target)
    if target.tag is None and target.digest is None:
        # A tag says more than a digest; with neither of its own the image arrives unnamed.
        named = (source.tag, None) if source.tag else (None, source.digest)
        target = replace(target, tag=named[0], digest=named[1])
    if target.digest is not None and copy.platforms:
        raise UsageError(
            f"with platforms the digest at the target is another one; write {target.name}:TAG"
        )
    if (
        source.name == target.name
        and not copy.tags
        and (source.tag or source.digest) == (target.tag or target.digest)
    ):
        raise UsageError(f"{copy.source} and {copy.target} are one image; name another target")
    return source, target


def copy_request(copy: Copy, fleet: Fleet) -> CopyRequest:
    """A request with its components settled as far as the live workers tell.

    Raises:
        UsageError: bad input, or no component fits.
    """
    source, target = references(copy)
    fields = {
        "image": target,
        "registry": _target_component(copy.target_registry, target, fleet),
        "source": source,
        "source_registry": _source_component(copy.source_registry, source, fleet),
        "more_tags": copy.tags,
        "platforms": copy.platforms,
        "referrers": copy.referrers,
        "foreign_layers": copy.foreign_layers,
        "labels": copy.labels,
        "on_behalf_of": for_whom(copy.on_behalf_of),
        "deadline_s": DEFAULT_DEADLINE_S if copy.deadline is None else copy.deadline,
        "expires_s": DEFAULT_EXPIRES_S if copy.expires is None else copy.expires,
    }
    try:
        return CopyRequest.model_validate(fields)
    except ValidationError as error:
        raise request_problem(error) from None


def _target_component(wanted: str | None, image: ImageReference, fleet: Fleet) -> str:
    if not fleet.workers:
        return _unasked(wanted, image, "--to")
    if wanted is not None:
        return _checked(fleet.component(wanted), image)
    found = _covering(image, fleet, "--to")
    if found is None:
        raise UnknownComponent(f"no component covers the target {image};{_known(fleet)}")
    return found


def _source_component(wanted: str | None, image: ImageReference, fleet: Fleet) -> str:
    if not fleet.workers:
        return _unasked(wanted, image, "--from")
    if wanted is not None and wanted in {component.name for component in fleet.components}:
        return _checked(fleet.component(wanted), image)
    if wanted is not None:
        return _anonymous(wanted, image, fleet)
    found = _covering(image, fleet, "--from")
    if found is not None:
        return found
    if image.registry in fleet.anonymous_sources:
        return image.registry
    raise UnknownComponent(
        f"no component covers the source {image}, and {image.registry} is not among the workers' "
        f"anonymous_sources;{_known(fleet)}"
    )


def _unasked(wanted: str | None, image: ImageReference, option: str) -> str:
    """Without a live worker nothing is known: the name is taken as it is."""
    if wanted is None:
        raise UsageError(
            f"which component is {image} of? No worker is alive to tell; name it with {option}"
        )
    return wanted


def _covering(image: ImageReference, fleet: Fleet, option: str) -> str | None:
    names = sorted({c.name for c in fleet.components if c.covers(image)})
    if len(names) > 1:
        raise UsageError(f"{image} lies under {' and '.join(names)}; choose one with {option}")
    return fleet.component(names[0]).name if names else None


def _checked(component: PublicComponent, image: ImageReference) -> str:
    if not component.covers(image):
        last = image.repository.rpartition("/")[2]
        raise UsageError(
            f"{image} is not under {component.uri} ({component.name}); write for example "
            f"{component.uri}/{last}"
        )
    return component.name


def _anonymous(wanted: str, image: ImageReference, fleet: Fleet) -> str:
    """A host that was named as the source's component."""
    try:
        host = str(RegistryUri.parse(wanted))
    except InvalidReference:
        host = ""
    if host not in fleet.anonymous_sources:
        known = sorted({c.name for c in fleet.components} | set(fleet.anonymous_sources))
        raise UnknownComponent(
            f"{wanted!r} is neither a component nor among the workers' anonymous_sources;"
            f"{did_you_mean(wanted, known)}"
        )
    if host != image.registry:
        raise UsageError(f"{image} is not on {host}; leave --from out, or name {image.registry}")
    return host


def _known(fleet: Fleet) -> str:
    known = some_of([f"{c.name} ({c.uri})" for c in fleet.components])
    return f" known: {known}" if known else " none is known: `transship registry register`"
