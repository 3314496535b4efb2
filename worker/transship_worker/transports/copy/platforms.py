"""The part of an image that is for some platforms.

Attestations of BuildKit stand beside the images in an index, as manifests for ``unknown/unknown``
with annotations that name their image (github.com/moby/buildkit, "Attestation storage"). The
platform of an image stands in its entry of the index, else in its config (OCI image-spec,
config.md), as containerd reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from transship.errors import AnswerMalformed, PlatformMissing
from transship.model.migration.platforms import Platform
from transship_worker.concurrency.gather import together
from transship_worker.oci import digests
from transship_worker.oci.content import ContentSource
from transship_worker.oci.descriptors import (
    ATTESTATION_OF,
    ATTESTATION_TYPE,
    DOCKER_CONFIG,
    IMAGE_CONFIG,
    MANIFEST_LIMIT,
    Descriptor,
    Manifest,
    parse_manifest,
)

_ATTESTATION: Final = "attestation-manifest"
#: Platforms that a message names.
_NAMED: Final = 20
#: Manifests of one index whose platforms are read out of their configs, and the depth of indexes.
_READ_MOST: Final = 100
_DEEPEST: Final = 8


class ImageReader(Protocol):
    """Reads parts of images from where they are."""

    async def manifest(self, digest: str) -> Manifest:
        """Read a manifest; its digest is verified."""

    async def config(self, blob: Descriptor) -> bytes:
        """Read a config; its digest is verified."""


class SourceReader:
    """Reads from the source of a copy; implements ``ImageReader``."""

    def __init__(self, source: ContentSource) -> None:
        self._source = source

    async def manifest(self, digest: str) -> Manifest:
        """Read a manifest; its digest is verified."""
        return await self._source.manifest(digest)

    async def config(self, blob: Descriptor) -> bytes:
        """Read a config; its digest is verified.

        Raises:
            AnswerMalformed: it is larger than a config may be.
            DigestMismatch: what came is not the config.
            PushError: the source refuses, or does not answer.
        """
        found, hashed = bytearray(), digests.new_hash(blob.digest)
        what = f"{self._source}@{blob.digest}"
        async with self._source.blob(blob.digest) as reader:
            async for piece in reader.pieces():
                found += piece
                hashed.update(piece)
                if len(found) > MANIFEST_LIMIT:
                    raise AnswerMalformed(f"{what}: a config of more than {MANIFEST_LIMIT} bytes")
        digests.verify(hashed, blob.digest, what)
        return bytes(found)


async def for_platforms(
    found: Manifest, platforms: Sequence[Platform], what: str, reader: ImageReader
) -> Manifest:
    """What is left of an image for these platforms: the same bytes for the same image.

    An image that is no index is returned as it is, if it is for the platform that its config
    states; so is an artifact, which has no platform.

    Args:
        found: the image's manifest or index.
        platforms: those that are kept, each of which the image must have; empty: all.
        what: the image's name, for messages.
        reader: reads what the manifest alone does not tell.

    Raises:
        PlatformMissing: the image lacks one of them; the message lists those that it has.
        PushError: a manifest or a config cannot be read.
    """
    if not platforms:
        return found
    if found.is_index:
        stated = await _unstated(found, what, reader, 0) if missing(found, platforms) else {}
        return subset(found, platforms, what, stated)
    there = await _platforms_in(found, what, reader, 0)
    if there is not None:
        _demand(platforms, there, what)
    return found


def subset(
    index: Manifest,
    platforms: Sequence[Platform],
    what: str,
    stated: Mapping[str, Sequence[Platform]] | None = None,
) -> Manifest:
    """What is left of an index for these platforms: the same bytes for the same index.

    An attestation goes where its image goes. An index within the index that says no platform
    is kept whole. An index of which nothing is left out is returned as it is.

    Args:
        index: the index.
        platforms: those that are kept, each of which the index must have; empty: all.
        what: its name, for messages.
        stated: by digest, the platforms of entries that do not state their own.

    Raises:
        PlatformMissing: the index lacks one of the platforms.
    """
    if not platforms:
        return index
    stated = stated or {}
    _demand(platforms, platforms_of(index, stated), what)
    kept = {
        child.digest
        for child in index.children
        if attested(child) is None and _is_for(child, platforms, stated)
    }
    kept |= {child.digest for child in index.children if attested(child) in kept}
    if all(entry.digest in kept for entry in index.entries):
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
    """Those of the platforms that an index states nothing for."""
    return _absent(platforms, platforms_of(index))


def platforms_of(
    index: Manifest, stated: Mapping[str, Sequence[Platform]] | None = None
) -> tuple[Platform, ...]:
    """The platforms of an index's images, each once, in its order."""
    images = (child for child in index.children if attested(child) is None)
    found = (one for child in images for one in _platforms(child, stated or {}))
    return tuple(dict.fromkeys(found))


def attested(child: Descriptor) -> str | None:
    """Digest of the image that an entry attests; ``None``: it is no attestation."""
    if child.annotations.get(ATTESTATION_TYPE) != _ATTESTATION:
        return None
    return child.annotations.get(ATTESTATION_OF, "")


async def _unstated(
    index: Manifest, what: str, reader: ImageReader, depth: int
) -> dict[str, tuple[Platform, ...]]:
    """The platforms of an index's entries that do not state any, read out of their configs."""
    images = (child for child in index.children if attested(child) is None)
    silent = [child for child in images if not _platforms(child, {})]
    if len(silent) > _READ_MOST or depth > _DEEPEST:
        return {}

    async def read(child: Descriptor) -> tuple[Platform, ...]:
        found = await reader.manifest(child.digest)
        return await _platforms_in(found, what, reader, depth + 1) or ()

    found = await together(map(read, silent))
    return {child.digest: there for child, there in zip(silent, found, strict=True)}


async def _platforms_in(
    found: Manifest, what: str, reader: ImageReader, depth: int
) -> tuple[Platform, ...] | None:
    """The platforms of an image or index; ``None``: it is an artifact, which has none."""
    if found.is_index:
        return platforms_of(found, await _unstated(found, what, reader, depth))
    config = found.config
    if config is None or config.media_type not in {IMAGE_CONFIG, DOCKER_CONFIG}:
        return None
    return _stated_in(await reader.config(config), f"{what}: its config {config.digest}")


def _stated_in(config: bytes, what: str) -> tuple[Platform, ...]:
    """The platform that an image's config states; empty: none."""
    try:
        data = json.loads(config)
    except (ValueError, RecursionError):
        raise AnswerMalformed(f"{what} is not JSON") from None
    if not isinstance(data, dict):
        raise AnswerMalformed(f"{what} is not a JSON object")
    os, architecture = _text(data, "os"), _text(data, "architecture")
    if not os and not architecture:
        return ()
    version = _text(data, "os.version")
    return (Platform.of(os, architecture, _text(data, "variant"), os_version=version),)


def _text(data: dict[str, Any], key: str) -> str:
    found = data.get(key)
    return found if isinstance(found, str) else ""


def _is_for(
    child: Descriptor,
    platforms: Iterable[Platform],
    stated: Mapping[str, Sequence[Platform]],
) -> bool:
    if child.is_index and not _platforms(child, {}):
        return True
    there = _platforms(child, stated)
    return any(asked.matches(one) for asked in platforms for one in there)


def _platforms(child: Descriptor, stated: Mapping[str, Sequence[Platform]]) -> Sequence[Platform]:
    found = child.platform
    if found is None or not (found.os or found.architecture):
        return stated.get(child.digest, ())
    return (Platform.of(found.os, found.architecture, found.variant, os_version=found.os_version),)


def _absent(platforms: Iterable[Platform], there: Sequence[Platform]) -> tuple[Platform, ...]:
    return tuple(asked for asked in platforms if not any(asked.matches(one) for one in there))


def _demand(platforms: Iterable[Platform], there: Sequence[Platform], what: str) -> None:
    absent = _absent(platforms, there)
    if absent:
        asked = ", ".join(map(str, absent))
        raise PlatformMissing(f"{what} has no {asked}; it has {_named(there)}")


def _named(platforms: Sequence[Platform]) -> str:
    names = ", ".join(map(str, platforms[:_NAMED])) or "no platforms"
    return f"{names} and {len(platforms) - _NAMED} more" if len(platforms) > _NAMED else names
