"""Layout folders in tests: images made on the spot, and a fake source that breaks off."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tests.support.images.registry_client import EMPTY, make_manifest
from transship.errors import RegistryUnavailable
from transship_worker.layouts.layout import LayoutTarget
from transship_worker.oci import digests
from transship_worker.oci.content import ContentSource
from transship_worker.oci.descriptors import Descriptor, Manifest

#: A layer of several pieces.
LAYER = os.urandom(3 * 1024 * 1024 + 17)
LAYER_DIGEST = digests.digest_of(LAYER)
OCTETS = "application/octet-stream"


class Blobs:
    """A fake source: it gives these bytes, breaking off after so many where it is told to."""

    def __init__(self, data: bytes, *, breaks: Iterable[int] = (), parts: bool = True) -> None:
        self.data = data
        self.breaks = list(breaks)
        self.parts = parts
        self.offsets: list[int] = []
        self.offset, self.size, self.etag = 0, len(data), '"1"'

    def __str__(self) -> str:
        return "a fake source"

    def blob(self, digest: str, *, offset: int = 0, etag: str | None = None) -> Blobs:
        self.offsets.append(offset)
        self.offset = offset if self.parts else 0
        return self

    async def __aenter__(self) -> Blobs:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def pieces(self) -> Any:
        end = self.breaks.pop(0) if self.breaks else None
        data = self.data[self.offset : end]
        for at in range(0, len(data), 70_000):
            yield data[at : at + 70_000]
        if end is not None:
            raise RegistryUnavailable("the fake source broke off")


def descriptor(data: bytes, digest: str = "") -> Descriptor:
    return Descriptor(OCTETS, digest or digests.digest_of(data), len(data))


async def store(target: LayoutTarget, data: bytes, source: Any = None) -> list[int]:
    """Write a blob; returns what the copy heard of it."""
    moved: list[int] = []
    given: Any = source or Blobs(data)
    await target.write_blob(descriptor(data), given, moved.append)
    return moved


def image(*layers: bytes, **fields: Any) -> Manifest:
    found = [{"mediaType": OCTETS, "digest": digests.digest_of(x), "size": len(x)} for x in layers]
    return make_manifest(layers=found, **fields)


async def put(target: LayoutTarget, reference: str, *layers: bytes, **fields: Any) -> Manifest:
    manifest = image(*layers, **fields)
    for data in {EMPTY, *layers}:
        if await target.blob_head(digests.digest_of(data)) is None:
            await store(target, data)
    await target.put(reference or manifest.digest, manifest)
    return manifest


async def read(source: ContentSource, digest: str, offset: int = 0) -> bytes:
    async with source.blob(digest, offset=offset) as reader:
        assert reader.offset == offset
        return b"".join([piece async for piece in reader.pieces()])
