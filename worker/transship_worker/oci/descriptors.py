"""Manifests and indexes as values; their bytes are kept as they came.

Sources: OCI image-spec (descriptor.md, manifest.md, image-index.md) and distribution's
"Image Manifest Version 2, Schema 2". What is not understood is kept in the bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from transship.errors import AnswerMalformed, ManifestUnsupported
from transship_worker.oci import digests

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
#: In release candidates of image-spec 1.1; registries still hold some.
OCI_ARTIFACT: Final = "application/vnd.oci.artifact.manifest.v1+json"

#: All that can be read, in the order of an ``Accept`` header.
MANIFEST_TYPES: Final = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT)
_INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
#: The largest manifest (distribution-spec 1.1, "Pushing Manifests": clients should expect
#: at least 4 megabytes). Unit: bytes.
MANIFEST_LIMIT: Final = 4 * 1024 * 1024

#: Configs of images: their ``os`` and ``architecture`` say what the image runs on.
IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"

#: Layers that a registry need not hold, by their exact types. Sources: OCI image-spec, layer.md
#: ("Non-Distributable Layers"); distribution, "Image Manifest Version 2, Schema 2"; containerd,
#: ``core/images/mediatypes.go``.
FOREIGN_TYPES: Final = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)

#: Annotations of an index's entries that say which image an attestation is of
#: (github.com/moby/buildkit, "Attestation storage"). No others are kept.
ATTESTATION_TYPE: Final = "vnd.docker.reference.type"
ATTESTATION_OF: Final = "vnd.docker.reference.digest"
_KEPT: Final = (ATTESTATION_TYPE, ATTESTATION_OF)
#: Entries of one manifest: layers, blobs, or manifests of an index.
ENTRIES_MOST: Final = 20_000
#: Values of one manifest, of whatever kind: each takes memory while it is read.
VALUES_MOST: Final = 250_000

#: Where Docker's own types begin; configs of Docker's manifests have one.
_DOCKER: Final = "application/vnd.docker."
_SCHEMA_1 = re.compile(r"application/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)")
#: RFC 6838, 4.2, with room for the parameters that some write.
_MEDIA_TYPE = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}", re.ASCII)
_LARGEST: Final = 2**63 - 1


_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image of an index runs on."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content: what it is, its digest and its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    artifact_type: str = ""
    #: Those that are needed.
    annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    #: The content may be had elsewhere; the first of the places.
    urls: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether a registry need not hold it: a Windows base layer and the like."""
        return self.media_type in FOREIGN_TYPES

    @property
    def is_index(self) -> bool:
        """Whether it leads to an index."""
        return self.media_type in _INDEXES

    @property
    def is_manifest(self) -> bool:
        """Whether it leads to a manifest or an index; else it leads to a blob."""
        return self.media_type in MANIFEST_TYPES or _SCHEMA_1.match(self.media_type) is not None

    def as_json(self) -> dict[str, Any]:
        """As it stands in an index."""
        found: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest, an index or an artifact, with the bytes that its digest is of."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: str
    config: Descriptor | None = None
    #: Of an index: its entries that are blobs, as in a registry cache of BuildKit (OCI image-spec,
    #: image-index.md: an entry may be of any type).
    layers: tuple[Descriptor, ...] = ()
    #: The manifests of an index.
    children: tuple[Descriptor, ...] = ()
    #: What a signature or an SBOM is of.
    subject: Descriptor | None = None
    artifact_type: str = ""

    @property
    def annotations(self) -> Mapping[str, str]:
        """All of them, read anew: few need them, and they may be large."""
        found: dict[str, str] = json.loads(self.raw).get("annotations") or {}
        return found

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests."""
        return self.media_type in _INDEXES

    @property
    def entries(self) -> tuple[Descriptor, ...]:
        """All that an index lists."""
        return (*self.children, *self.layers) if self.is_index else ()

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers that a registry must hold, each digest once."""
        all_blobs = (*((self.config,) if self.config else ()), *self.layers)
        return tuple({blob.digest: blob for blob in all_blobs if not blob.is_foreign}.values())

    @property
    def foreign_layers(self) -> tuple[Descriptor, ...]:
        """Layers that a registry need not hold, each digest once."""
        held = {blob.digest for blob in self.blobs}
        foreign = (one for one in self.layers if one.is_foreign and one.digest not in held)
        return tuple({blob.digest: blob for blob in foreign}.values())

    @property
    def descriptor(self) -> Descriptor:
        """As a list of referrers names it (distribution-spec 1.1, "Manifests with Subject")."""
        kind = self.artifact_type
        if not kind and not self.is_index and self.config is not None:
            kind = self.config.media_type
        return Descriptor(
            self.media_type,
            self.digest,
            len(self.raw),
            artifact_type=kind,
            annotations=self.annotations,
        )


def parse_manifest(
    raw: bytes, *, what: str, digest: str | None = None, content_type: str = ""
) -> Manifest:
    """Read a manifest; ``what`` names it in messages.

    Raises:
        DigestMismatch: the bytes are not those of ``digest``.
        ManifestUnsupported: schema 1, or a kind that is not known.
        AnswerMalformed: it breaks the format.
    """
    if len(raw) > MANIFEST_LIMIT:
        raise AnswerMalformed(
            f"{what}: a manifest of {len(raw)} bytes; at most {MANIFEST_LIMIT} are read"
        )
    if digest is not None:
        found = digests.new_hash(digest)
        found.update(raw)
        digests.verify(found, digest, what)
    content_type = content_type.partition(";")[0].strip().lower()
    if raw.count(b",") + raw.count(b"{") + raw.count(b"[") > VALUES_MOST:
        # Counted before it is read: 4 MiB of text can be 100 MiB of objects.
        raise ManifestUnsupported(
            f"{what}: its manifest has more than {VALUES_MOST} values, which are not read"
        )
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise AnswerMalformed(f"{what}: its manifest is not JSON") from None
    if not isinstance(data, dict):
        raise AnswerMalformed(f"{what}: its manifest is not a JSON object")
    media_type = _media_type(data, content_type, what)
    reader = _Reader(what)
    reader.annotations(data)
    config: Descriptor | None = None
    children: tuple[Descriptor, ...] = ()
    if media_type in _INDEXES:
        entries = reader.many(data, "manifests")
        children = tuple(entry for entry in entries if entry.is_manifest)
        layers = tuple(entry for entry in entries if not entry.is_manifest)
    else:
        config, layers = reader.one(data, "config"), reader.layers(data, media_type)
    return Manifest(
        raw,
        media_type,
        digest or digests.digest_of(raw),
        config=config,
        layers=layers,
        children=children,
        subject=reader.one(data, "subject"),
        artifact_type=reader.text(data, "artifactType"),
    )


def _media_type(data: dict[str, Any], content_type: str, what: str) -> str:
    said = data.get("mediaType") or ""
    if not isinstance(said, str):
        raise AnswerMalformed(f"{what}: mediaType is not a text")
    if data.get("schemaVersion") == 1 or _SCHEMA_1.match(said) or _SCHEMA_1.match(content_type):
        raise ManifestUnsupported(
            f"{what} is a schema 1 manifest, a format that registries dropped; "
            "pull it with a current Docker Engine and push it again"
        )
    if said in MANIFEST_TYPES:
        # The registry's type must agree, or two readers may see two things in one manifest
        # (OCI GHSA-mc8v-mgrf-8f4m); "application/json" and the like say nothing.
        if content_type in MANIFEST_TYPES and content_type != said:
            raise AnswerMalformed(f"{what} calls itself {said}, its registry {content_type}")
        found = said
    elif said:
        raise ManifestUnsupported(f"{what} is of the kind {said[:100]!a}, which cannot be copied")
    else:
        found = _unstated_type(data, content_type, what)
    if "manifests" in data and data.keys() & {"config", "layers"}:
        raise AnswerMalformed(f"{what} is a manifest and an index at once")
    return found


def _unstated_type(data: dict[str, Any], content_type: str, what: str) -> str:
    """The type of a manifest without ``mediaType``, by what it names.

    Docker's formats demand ``mediaType`` and OCI's do not, so that Docker's type is believed
    only where the config, or the entries of a list, are Docker's: registries serve OCI manifests
    under it, and refuse them under it.
    """
    if "manifests" in data:
        entries = data["manifests"] if isinstance(data["manifests"], list) else []
        dockers = all(_type_of(entry).startswith(_DOCKER) for entry in entries)
        return DOCKER_LIST if dockers and content_type == DOCKER_LIST else OCI_INDEX
    if "config" in data:
        docker = _type_of(data["config"]).startswith(_DOCKER)
        return DOCKER_MANIFEST if docker and content_type == DOCKER_MANIFEST else OCI_MANIFEST
    if content_type in MANIFEST_TYPES:
        return content_type
    raise ManifestUnsupported(f"{what} is of no known kind: it has no mediaType")


def _type_of(entry: object) -> str:
    """What an entry calls itself; empty: nothing."""
    found = entry.get("mediaType") if isinstance(entry, dict) else None
    return found if isinstance(found, str) else ""


def _needed(annotations: Mapping[str, str]) -> Mapping[str, str]:
    if not annotations:
        return _NOTHING
    found = {name: annotations[name] for name in _KEPT if name in annotations}
    return found or _NOTHING


class _Reader:
    """Reads the parts of one manifest."""

    def __init__(self, what: str) -> None:
        self._what = what

    def layers(self, data: dict[str, Any], media_type: str) -> tuple[Descriptor, ...]:
        if media_type == OCI_ARTIFACT:
            return self.many(data, "blobs")
        if data.get("config") is None:
            raise AnswerMalformed(f"{self._what}: its manifest has no config")
        return self.many(data, "layers")

    def one(self, data: dict[str, Any], name: str) -> Descriptor | None:
        found = data.get(name)
        return None if found is None else self._descriptor(found, name)

    def many(self, data: dict[str, Any], name: str) -> tuple[Descriptor, ...]:
        found = data.get(name)
        if found is None:
            return ()
        if not isinstance(found, list):
            raise AnswerMalformed(f"{self._what}: {name} is not a list")
        if len(found) > ENTRIES_MOST:
            raise ManifestUnsupported(
                f"{self._what}: {name} has more than {ENTRIES_MOST} entries, which are not read"
            )
        return tuple(self._descriptor(one, f"{name}[{i}]") for i, one in enumerate(found))

    def text(self, data: dict[str, Any], name: str) -> str:
        found = data.get(name)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise AnswerMalformed(f"{self._what}: {name} is not a text")
        return found

    def annotations(self, data: dict[str, Any]) -> dict[str, str]:
        found = data.get("annotations")
        if not found:
            return {}
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise AnswerMalformed(f"{self._what}: annotations are not texts")
        return found

    def _descriptor(self, found: object, place: str) -> Descriptor:
        if not isinstance(found, dict):
            raise AnswerMalformed(f"{self._what}: {place} is not an object")
        size, media_type = found.get("size"), found.get("mediaType")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST:
            raise AnswerMalformed(f"{self._what}: {place} has no size in bytes")
        if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
            raise AnswerMalformed(f"{self._what}: {place} has no media type")
        digest = found.get("digest")
        if not isinstance(digest, str) or not digests.is_digest(digest):
            raise AnswerMalformed(
                f"{self._what}: {place} has no digest that can be verified: {str(digest)[:80]!a}"
            )
        urls = found.get("urls") or []
        return Descriptor(
            media_type,
            digest,
            size,
            platform=self._platform(found.get("platform"), place),
            artifact_type=self.text(found, "artifactType"),
            annotations=_needed(self.annotations(found)),
            urls=tuple(map(str, urls[:1])) if isinstance(urls, list) else (),
        )

    def _platform(self, found: object, place: str) -> Platform | None:
        if found is None:
            return None
        if not isinstance(found, dict):
            raise AnswerMalformed(f"{self._what}: {place} has a platform that is not an object")
        return Platform(
            self.text(found, "os"),
            self.text(found, "architecture"),
            self.text(found, "variant"),
            self.text(found, "os.version"),
        )
