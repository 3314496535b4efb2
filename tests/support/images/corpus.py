"""Images for copies and migrations: made from a seed, put into a registry by plain HTTP.

A layer is a real gzip stream of a tar with one incompressible file, stored and not deflated: a
tool that looks whether a layer is compressed finds that it is, and leaves its bytes alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

#: Unit: bytes.
KIB: Final = 1024
MIB: Final = 1024 * KIB

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

#: Bytes that a stored block of deflate holds at most (RFC 1951, 3.2.4), and its own head.
_BLOCK, _BLOCK_HEAD = 65_535, 5
#: Deflate, no name, no time, unknown system (RFC 1952, 2.3).
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_GZIP_TAIL: Final = 8
_TAR: Final = 512
#: What the two empty blocks at the end of a tar take, and the header at its start.
_TAR_FRAME: Final = 3 * _TAR
#: Random bytes that a large layer is cut from, further apart than any deflate looks back.
_POOL: Final = 2 * MIB


@dataclass(frozen=True)
class Layer:
    """A layer of exactly ``size`` bytes, the same ones for the same seed."""

    seed: str
    #: Unit: bytes; 1,600 at least.
    size: int

    @property
    def digest(self) -> str:
        """Of the layer as a registry holds it."""
        return _digests(self)[0]

    @property
    def diff_id(self) -> str:
        """Of the tar inside."""
        return _digests(self)[1]

    def pieces(self) -> Iterator[bytes]:
        """The layer's bytes, 64 KiB at a time."""
        yield _GZIP_HEAD
        check, length = 0, 0
        for block, last in self.blocks():
            check, length = zlib.crc32(block, check), length + len(block)
            # A stored block: one bit "last", two bits "stored", its length and that inverted.
            yield struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF)
            yield block
        yield struct.pack("<II", check, length & 0xFFFFFFFF)

    def blocks(self) -> Iterator[tuple[bytes, bool]]:
        """The tar inside in pieces, and whether it is the last one."""
        framed = self.size - len(_GZIP_HEAD) - _GZIP_TAIL
        count = -(-framed // (_BLOCK + _BLOCK_HEAD))
        left = framed - count * _BLOCK_HEAD
        content = (left - _TAR_FRAME) // _TAR * _TAR
        waiting = bytearray(_tar_header(self.seed, content))
        for piece in _random_pieces(self.seed, content):
            waiting += piece
            while len(waiting) >= _BLOCK and left > _BLOCK:
                yield bytes(waiting[:_BLOCK]), False
                del waiting[:_BLOCK]
                left -= _BLOCK
        waiting += bytes(left - len(waiting))
        while left > _BLOCK:
            yield bytes(waiting[:_BLOCK]), False
            del waiting[:_BLOCK]
            left -= _BLOCK
        yield bytes(waiting), True


@dataclass(frozen=True)
class Image:
    """One tag of one repository, and its layers."""

    repository: str
    tag: str
    layers: tuple[Layer, ...]
    #: Images with the same layers and another note have another digest.
    note: str = ""

    @property
    def name(self) -> str:
        """``repository:tag``."""
        return f"{self.repository}:{self.tag}"

    @functools.cached_property
    def config(self) -> bytes:
        """The image's configuration."""
        layers = [layer.diff_id for layer in self.layers]
        labels = {"org.transship.note": self.note} if self.note else {}
        return _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": labels},
                "rootfs": {"type": "layers", "diff_ids": layers},
            }
        )

    @functools.cached_property
    def manifest(self) -> bytes:
        """The image's manifest (schema 2)."""
        layers = [
            {"mediaType": LAYER_TYPE, "size": layer.size, "digest": layer.digest}
            for layer in self.layers
        ]
        config = {
            "mediaType": CONFIG_TYPE,
            "size": len(self.config),
            "digest": digest_of(self.config),
        }
        return _json(
            {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}
        )

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.manifest)


@dataclass(frozen=True)
class Corpus:
    """Images that belong together."""

    name: str
    images: tuple[Image, ...] = field(repr=False)

    @property
    def repositories(self) -> list[str]:
        """Each once, in their order."""
        return list(dict.fromkeys(image.repository for image in self.images))

    @property
    def blobs(self) -> dict[str, int]:
        """Size of each blob by its digest: what a target receives at least. Unit: bytes."""
        sizes = {layer.digest: layer.size for image in self.images for layer in image.layers}
        return sizes | {digest_of(image.config): len(image.config) for image in self.images}

    @property
    def unique_bytes(self) -> int:
        """All blobs, each once. Unit: bytes."""
        return sum(self.blobs.values())

    def of(self, repository: str) -> list[Image]:
        """The images of one repository."""
        return [image for image in self.images if image.repository == repository]


def digest_of(data: bytes) -> str:
    """``sha256:…`` of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def shared_layers(
    repositories: int = 20,
    tags: int = 5,
    *,
    shared: int = 5,
    shared_size: int = 8 * MIB,
    own_size: int = MIB,
    seed: str = "shared",
) -> Corpus:
    """Repositories whose images have the same base layers and one layer of their own each."""
    base = tuple(Layer(f"{seed}/base{n}", shared_size) for n in range(shared))
    images = tuple(
        Image(name, f"v{tag}", (*base, Layer(f"{seed}/{name}/{tag}", own_size)))
        for name in (f"{seed}/app{n:03}" for n in range(repositories))
        for tag in range(1, tags + 1)
    )
    return Corpus(seed, images)


def hundred_tags() -> Corpus:
    """100 tags in 20 repositories: five shared layers of 8 MiB, one own layer of 1 MiB each."""
    return shared_layers(seed="hundred")


def thousand_images() -> Corpus:
    """1,000 images in 200 repositories, with small layers."""
    sizes = {"shared_size": 16 * KIB, "own_size": 4 * KIB}
    return shared_layers(200, 5, shared=2, seed="thousand", **sizes)


def large_layers(count: int = 1, size: int = 512 * MIB, *, seed: str = "") -> Corpus:
    """One image with so many layers of this size."""
    seed = seed or f"large/{count}x{size}"
    layers = tuple(Layer(f"{seed}/{n}", size) for n in range(count))
    return Corpus(seed, (Image("large/app", "v1", layers),))


def separate_layers(count: int = 16, size: int = 512 * MIB, *, seed: str = "") -> Corpus:
    """So many images in as many repositories, each with one layer of this size."""
    seed = seed or f"separate/{count}x{size}"
    images = (
        Image(f"separate/app{n:02}", "v1", (Layer(f"{seed}/{n}", size),)) for n in range(count)
    )
    return Corpus(seed, tuple(images))


def many_tags(tags: int = 10_000, manifests: int = 10, *, repositories: int = 1) -> Corpus:
    """So many tags on few manifests that all have one small layer."""
    layer = Layer("many", 4 * KIB)
    images = tuple(
        Image(f"many/app{n % repositories:03}", f"v{n}", (layer,), note=str(n % manifests))
        for n in range(tags)
    )
    return Corpus("many", images)


@functools.lru_cache(maxsize=20_000)
def _digests(layer: Layer) -> tuple[str, str]:
    """Of the layer, and of the tar inside it."""
    outer, inner = hashlib.sha256(), hashlib.sha256()
    for piece in layer.pieces():
        outer.update(piece)
    for block, _ in layer.blocks():
        inner.update(block)
    return f"sha256:{outer.hexdigest()}", f"sha256:{inner.hexdigest()}"


def _random_pieces(seed: str, size: int) -> Iterator[bytes]:
    """Bytes that do not compress."""
    numbers = random.Random(seed)
    if size <= _POOL:
        yield numbers.randbytes(size)
        return
    # A generator's speed is a quarter of memory's: a large layer is cut from one pool, each
    # piece with a number and from another place.
    pool = numbers.randbytes(_POOL)
    left, number = size, 0
    while left:
        start = numbers.randrange(_POOL - _BLOCK)
        piece = (struct.pack("<Q", number) + pool[start : start + _BLOCK - 8])[:left]
        yield piece
        left -= len(piece)
        number += 1


def _tar_header(seed: str, size: int) -> bytes:
    entry = tarfile.TarInfo(f"{hashlib.sha256(seed.encode()).hexdigest()[:16]}.bin")
    entry.size = size
    header = entry.tobuf(tarfile.USTAR_FORMAT)
    assert len(header) == _TAR
    return header


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
