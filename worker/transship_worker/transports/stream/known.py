"""What the fleet remembers of layers and images that were streamed: hints, never the truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KnownLayer:
    """The blob that a layer became at a registry."""

    #: Digest and size of the blob. Unit: bytes.
    digest: str
    size: int
    #: Size of the layer's tar, by which it is recognised in an export. Unit: bytes.
    tar_size: int
    #: A repository that got it.
    repository: str


class Fallback(Exception):
    """The image cannot be streamed; nothing was tagged, and the engine may push it."""


class Memory(Protocol):
    """Where hints are kept. A memory that is away forgets."""

    async def layers(self, registry: str, diff_ids: Collection[str]) -> dict[str, KnownLayer]:
        """What is known of layers at a registry, by diff id."""

    async def remember(
        self,
        registry: str,
        repository: str,
        image: tuple[str, str],
        layers: Mapping[str, KnownLayer],
    ) -> None:
        """Keep layers by diff id, and an image: its id and the digest of its manifest."""
