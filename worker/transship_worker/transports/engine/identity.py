"""What an image is to the engine that holds it: the store's own identity of it.

A classic store (graph drivers) and Podman call an image by its config's digest; the containerd
image store calls it by the digest of its manifest or index. Whether what a registry holds is the
image is decided by that identity. ``RepoDigests`` are no proof of it outside of classic stores:
the containerd store adds an entry when an image is tagged, and Podman lists a digest of its own.
Seen on Docker Engine 20.10, 26.1 and 28.5 and Podman 5.4 and 5.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from transship.errors import InvalidReference
from transship.model.migration.platforms import Platform
from transship.model.references import ImageReference
from transship_worker.oci.digests import is_digest

#: Manifests of one index, and layers of one image, that an engine's answer is read to.
MOST_LISTED: Final = 20_000


class Store(StrEnum):
    """How an engine stores images, and so what identifies one."""

    #: A graph driver: the config's digest.
    CLASSIC = "classic image store"
    #: The containerd image store: the digest of a manifest or an index.
    CONTAINERD = "containerd image store"
    #: Podman behind its Docker-compatible socket: the config's digest.
    PODMAN = "Podman"

    @property
    def is_content(self) -> bool:
        """Whether an image is identified by its manifest or index, which are stored unchanged."""
        return self is Store.CONTAINERD


@dataclass(frozen=True, slots=True)
class ImageNames:
    """What an engine calls an image besides its id."""

    #: ``name:tag``; Docker Hub's host may be left out, as may that of a name that was made here.
    tags: tuple[str, ...] = ()
    #: ``name@digest``: in the classic store, of what was pulled or pushed.
    digests: tuple[str, ...] = ()

    @classmethod
    def of(cls, inspected: Mapping[str, Any]) -> ImageNames:
        """The names in an answer of the engine."""
        return cls(*(_texts(inspected.get(field)) for field in ("RepoTags", "RepoDigests")))


@dataclass(frozen=True, slots=True)
class HeldManifest:
    """A manifest of an index in the containerd image store (``?manifests=1``, API 1.48)."""

    digest: str
    #: ``None``: not an image, or the engine does not say.
    platform: Platform | None
    #: Whether the engine holds all of its content.
    available: bool
    #: Whether it is an image, not an attestation.
    is_image: bool

    def __str__(self) -> str:
        return str(self.platform) if self.platform is not None else self.digest[:19]


@dataclass(frozen=True, slots=True)
class HeldImage:
    """An image in an engine, as ``docker image inspect`` tells."""

    id: str
    store: Store
    #: Digests that the engine lists under the reference's repository.
    listed: frozenset[str]
    #: Of the host's platform, where the store is the containerd one.
    diff_ids: tuple[str, ...]
    #: Unit: bytes.
    size: int
    #: ``None``: the engine does not say.
    platform: Platform | None

    @classmethod
    def of(cls, inspected: Mapping[str, Any], store: Store, image: ImageReference) -> HeldImage:
        """What an answer of the engine says of an image that is tagged as ``image``."""
        layers = _mapping(inspected.get("RootFS")).get("Layers")
        diff_ids = [str(layer) for layer in layers] if isinstance(layers, list) else []
        size = inspected.get("Size")
        return cls(
            str(inspected.get("Id")),
            store,
            frozenset(_digests_of(inspected, image)),
            tuple(diff_ids[:MOST_LISTED]),
            size if isinstance(size, int) and size > 0 else 0,
            _platform(
                {
                    "os": inspected.get("Os"),
                    "architecture": inspected.get("Architecture"),
                    "variant": inspected.get("Variant"),
                }
            ),
        )

    @property
    def short(self) -> str:
        """The identity for messages."""
        return self.id[:19]


def held_manifests(inspected: Mapping[str, Any]) -> tuple[HeldManifest, ...]:
    """The manifests of an image, from an answer to ``?manifests=1``; none are told of others."""
    entries = inspected.get("Manifests")
    if not isinstance(entries, list):
        return ()
    found = (_held(entry) for entry in entries[:MOST_LISTED] if isinstance(entry, Mapping))
    return tuple(one for one in found if one is not None)


def _held(entry: Mapping[str, Any]) -> HeldManifest | None:
    descriptor = _mapping(entry.get("Descriptor"))
    digest = descriptor.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        return None
    # Of an image that the engine does not hold, only its descriptor tells the platform.
    platform = _platform(_mapping(_mapping(entry.get("ImageData")).get("Platform")))
    return HeldManifest(
        digest,
        platform or _platform(_mapping(descriptor.get("platform"))),
        available=entry.get("Available") is True,
        is_image=_is_image(entry, descriptor),
    )


def _is_image(entry: Mapping[str, Any], descriptor: Mapping[str, Any]) -> bool:
    """An entry whose content is absent may have the kind ``unknown``; its descriptor decides."""
    kind = entry.get("Kind")
    if kind in ("image", "attestation"):
        return bool(kind == "image")
    annotations = _mapping(descriptor.get("annotations"))
    platform = _mapping(descriptor.get("platform"))
    return "vnd.docker.reference.type" not in annotations and platform.get("os") != "unknown"


def _platform(found: Mapping[str, Any]) -> Platform | None:
    os, architecture, variant = (found.get(key) for key in ("os", "architecture", "variant"))
    if not (isinstance(os, str) and isinstance(architecture, str) and os and architecture):
        return None
    return Platform.of(os, architecture, variant if isinstance(variant, str) else "")


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value[:MOST_LISTED])) if isinstance(value, list) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _digests_of(inspected: Mapping[str, Any], image: ImageReference) -> set[str]:
    """Digests that the engine lists under the reference's repository."""
    recorded = inspected.get("RepoDigests")
    texts = recorded[:MOST_LISTED] if isinstance(recorded, list) else []
    return {digest for text in texts if (digest := _digest_in(str(text), image))}


def _digest_in(text: str, image: ImageReference) -> str | None:
    """The digest of ``repository@digest`` when the repository is the image's."""
    try:
        recorded = ImageReference.parse(text)
    except InvalidReference:
        return None
    return recorded.digest if recorded.name == image.name else None
