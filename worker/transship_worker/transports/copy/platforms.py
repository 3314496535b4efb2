"""The part of an index that is for some platforms.

Attestations of BuildKit stand beside the images in an index, as manifests for ``unknown/unknown``
with annotations that name their image (github.com/moby/buildkit, "Attestation storage").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from transship.errors import ImageNotFound
from transship.model.migration.platforms import Platform
from transship_worker.oci.descriptors import Descriptor, Manifest, parse_manifest

_TYPE: Final = "vnd.docker.reference.type"
_OF: Final = "vnd.docker.reference.digest"
_ATTESTATION: Final = "attestation-manifest"
#: Platforms that a message names.
_NAMED: Final = 20


def subset(index: Manifest, platforms: Sequence[Platform], what: str) -> Manifest:
    """What is left of an index for these platforms: the same bytes for the same index.

    An attestation goes where its image goes. An index within the index that says no platform
    is kept whole. What is no index, and an index of which nothing is left out, is returned as
    it is; so is everything where no platform is asked for.

    Args:
        index: the index.
        platforms: those that are kept, if the index has them.
        what: its name, for messages.

    Raises:
        ImageNotFound: the index has none of the platforms.
    """
    if not platforms or not index.is_index:
        return index
    kept = {
        child.digest
        for child in index.children
        if attested(child) is None and _is_for(child, platforms)
    }
    if not kept:
        asked = ", ".join(map(str, platforms))
        raise ImageNotFound(f"{what} has no {asked}; it has {_named(platforms_of(index))}")
    kept |= {child.digest for child in index.children if attested(child) in kept}
    if all(child.digest in kept for child in index.children):
        return index
    data = json.loads(index.raw)
    # As they stand, with what is not understood here.
    data["manifests"] = [entry for entry in data["manifests"] if entry["digest"] in kept]
    raw = json.dumps(data, separators=(",", ":")).encode()
    return parse_manifest(raw, what=what, content_type=index.media_type)


def left_out(index: Manifest, kept: Manifest) -> tuple[Descriptor, ...]:
    """The manifests of an index that its subset does not have."""
    there = {child.digest for child in kept.children}
    return tuple(child for child in index.children if child.digest not in there)


def missing(index: Manifest, platforms: Iterable[Platform]) -> tuple[Platform, ...]:
    """Those of the platforms that an index has nothing for."""
    there = platforms_of(index)
    return tuple(asked for asked in platforms if not any(asked.matches(one) for one in there))


def platforms_of(index: Manifest) -> tuple[Platform, ...]:
    """The platforms of an index's images, each once, in its order."""
    found = (_platform(child) for child in index.children if attested(child) is None)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def attested(child: Descriptor) -> str | None:
    """Digest of the image that an entry attests; ``None``: it is no attestation."""
    if child.annotations.get(_TYPE) != _ATTESTATION:
        return None
    return child.annotations.get(_OF, "")


def _is_for(child: Descriptor, platforms: Iterable[Platform]) -> bool:
    found = _platform(child)
    if found is None:
        return child.is_index
    return any(asked.matches(found) for asked in platforms)


def _platform(child: Descriptor) -> Platform | None:
    found = child.platform
    if found is None:
        return None
    return Platform.of(found.os, found.architecture, found.variant, os_version=found.os_version)


def _named(platforms: Sequence[Platform]) -> str:
    names = ", ".join(map(str, platforms[:_NAMED])) or "no platforms"
    return f"{names} and {len(platforms) - _NAMED} more" if len(platforms) > _NAMED else names
