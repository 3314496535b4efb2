"""How large images are, and what reading them costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from transship.errors import ManifestUnsupported
from transship.model.migration.platforms import Platform
from transship_worker.concurrency.gather import first_of
from transship_worker.concurrency.semaphore import PrioritySemaphore
from transship_worker.migrate.port import Side
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.transports.copy.platforms import for_platforms

#: Manifests of one image, with all its indexes.
MOST_MANIFESTS: Final = 2_000


@dataclass(slots=True)
class Size:
    """What one image is made of."""

    #: Manifests and indexes, each read once.
    manifests: int = 0
    #: Of their bytes. Unit: bytes.
    own: int = 0
    #: Size of each blob by digest. Unit: bytes.
    blobs: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """All of it, each blob once. Unit: bytes."""
        return self.own + sum(self.blobs.values())


@dataclass(frozen=True, slots=True)
class SideReader:
    """Reads parts of the images of one repository; implements ``ImageReader``."""

    side: Side
    repository: str

    async def manifest(self, digest: str) -> Manifest:
        """Read a manifest; its digest is verified."""
        return await self.side.manifest(self.repository, digest)

    async def config(self, blob: Descriptor) -> bytes:
        """Read a config; its digest is verified."""
        return await self.side.config(self.repository, blob)


class Sizer:
    """Reads all manifests of an image, those of an index at once."""

    def __init__(self, gate: PrioritySemaphore) -> None:
        self._gate = gate
        #: Manifests read so far from Docker Hub, which counts them.
        self.pulls = 0

    async def read(self, side: Side, repository: str, digest: str, order: int) -> Manifest:
        """Read one manifest, in a place of the gate."""
        async with self._gate.place(order):
            return await self.read_at_once(side, repository, digest)

    async def read_at_once(self, side: Side, repository: str, digest: str) -> Manifest:
        """Read one manifest for somebody who holds a place already."""
        found = await side.manifest(repository, digest)
        self.pulls += side.is_hub
        return found

    async def measure(
        self, side: Side, repository: str, digest: str, platforms: Sequence[Platform], order: int
    ) -> Size:
        """What an image is made of, or the part of it for some platforms.

        Raises:
            ManifestUnsupported: it has more manifests than an image can have.
            PushError: a manifest is missing, cannot be read, or has none of the platforms.
        """
        size = Size()
        manifest = await self.read(side, repository, digest, order)
        what = f"{side.name}/{repository}@{digest}"
        reader = SideReader(side, repository)
        manifest = await for_platforms(manifest, platforms, what, reader)
        seen = {digest}

        async def walk(found: Manifest) -> None:
            size.manifests += 1
            size.own += len(found.raw)
            named = (*found.blobs, *found.foreign_layers)
            size.blobs.update((blob.digest, blob.size) for blob in named)
            # An index may name one twice.
            new = {c.digest: c for c in found.children if c.digest not in seen}.values()
            seen.update(child.digest for child in new)
            if len(seen) > MOST_MANIFESTS:
                raise ManifestUnsupported(f"{what} has more than {MOST_MANIFESTS} manifests")
            if not new:
                return
            async with asyncio.TaskGroup() as group:
                for child in new:
                    group.create_task(visit(child))

        async def visit(child: Descriptor) -> None:
            await walk(await self.read(side, repository, child.digest, order))

        try:
            await walk(manifest)
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None
        return size
