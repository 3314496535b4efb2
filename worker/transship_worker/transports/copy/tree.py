"""All manifests of an image, read and put into the order in which they can be written."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from transship.errors import AnswerMalformed, ImageNotFound, ManifestUnsupported
from transship_worker.concurrency.gather import together
from transship_worker.oci.descriptors import MANIFEST_LIMIT, Descriptor, Manifest
from transship_worker.oci.manifest_memory import current_share

#: Manifests of one copy, its referrers included.
MANIFESTS_MOST: Final = 2_000
#: All their bytes, which are kept in memory. Unit: bytes.
BYTES_MOST: Final = 32 * 1024 * 1024
#: Blobs that they name; each is some memory and a task of its own.
BLOBS_MOST: Final = 20_000
#: Indexes within indexes.
DEPTH_MOST: Final = 8
#: Manifests that are read at once.
READS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Tree:
    """A manifest with all that it leads to."""

    root: Manifest
    #: All but the root, in rounds: what a round needs was written in those before it.
    rounds: tuple[tuple[Manifest, ...], ...] = ()

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """All of them, the root last."""
        return (*itertools.chain.from_iterable(self.rounds), self.root)


def blobs_of(trees: Iterable[Tree]) -> dict[str, Descriptor]:
    """All blobs that a registry must hold of these, each digest once."""
    return {blob.digest: blob for tree in trees for one in tree.manifests for blob in one.blobs}


def foreign_of(trees: Iterable[Tree]) -> dict[str, Descriptor]:
    """All layers that a registry need not hold of these, each digest once."""
    every = (one for tree in trees for one in tree.manifests)
    return {layer.digest: layer for one in every for layer in one.foreign_layers}


class TreeReader:
    """Reads trees for one copy, within its bounds."""

    def __init__(self, what: str) -> None:
        """``what`` names the image in messages."""
        self._what = what
        self._count = 0
        self._bytes = 0
        self._blobs = 0
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def tree(self, root: Manifest, read: Callable[[str], Awaitable[Manifest]]) -> Tree:
        """Read all that a manifest leads to.

        Raises:
            ImageNotFound: a manifest that an index lists is not there; the message names both.
            ManifestUnsupported: it is deeper or larger than what is copied.
            AnswerMalformed: an index states another size than its manifest has.
            PushError: something cannot be read.
        """
        found = {root.digest: root}
        self._count_in([root])
        latest = [root]
        for _ in range(DEPTH_MOST):
            children = ((child, one) for one in latest for child in one.children)
            wanted = {child.digest: (child, one) for child, one in children}
            wanted = {digest: pair for digest, pair in wanted.items() if digest not in found}
            if not wanted:
                return Tree(root, _rounds(root, found))
            # None is larger than what is read, whatever is stated.
            size = sum(min(child.size, MANIFEST_LIMIT) for child, _ in wanted.values())
            self._bounded(self._count + len(wanted), self._bytes + size)
            share = current_share()
            if share is not None:
                await share.make_room(size)
            latest = await together(self._read(read, *pair) for pair in wanted.values())
            self._count_in(latest)
            found.update((one.digest, one) for one in latest)
        raise ManifestUnsupported(
            f"{self._what} has indexes within indexes, more than {DEPTH_MOST} deep"
        )

    async def _read(
        self, read: Callable[[str], Awaitable[Manifest]], child: Descriptor, index: Manifest
    ) -> Manifest:
        async with self._reads:
            try:
                found = await read(child.digest)
            except ImageNotFound as error:
                raise ImageNotFound(
                    f"{self._what} is incomplete: its index {index.digest} lists the manifest "
                    f"{child.digest}, which is not there"
                ) from error.__cause__
        if len(found.raw) != child.size:
            # containerd refuses to pull what has another size than its index says.
            raise AnswerMalformed(
                f"{self._what}: an index says that {child.digest} has {child.size} bytes; "
                f"it has {len(found.raw)}"
            )
        return found

    def _count_in(self, manifests: list[Manifest]) -> None:
        self._count += len(manifests)
        self._bytes += sum(len(one.raw) for one in manifests)
        self._blobs += sum(len(one.blobs) + len(one.foreign_layers) for one in manifests)
        self._bounded(self._count, self._bytes)

    def _bounded(self, count: int, size: int) -> None:
        if count > MANIFESTS_MOST or size > BYTES_MOST:
            raise ManifestUnsupported(
                f"{self._what} has more than {MANIFESTS_MOST} manifests, or more than "
                f"{BYTES_MOST // 1024**2} MiB of them"
            )
        if self._blobs > BLOBS_MOST:
            raise ManifestUnsupported(f"{self._what} has more than {BLOBS_MOST} layers")


def _rounds(root: Manifest, found: dict[str, Manifest]) -> tuple[tuple[Manifest, ...], ...]:
    """By height over the manifests that lead nowhere; digests cannot form circles."""
    heights: dict[str, int] = {}
    rounds: list[list[Manifest]] = [[] for _ in range(_height(root, found, heights))]
    for one in found.values():
        if one is not root:
            rounds[_height(one, found, heights)].append(one)
    return tuple(map(tuple, rounds))


def _height(one: Manifest, found: dict[str, Manifest], heights: dict[str, int]) -> int:
    # Not a function within the other: one that calls itself there keeps all manifests in memory
    # until Python looks for cycles.
    if one.digest not in heights:
        below = (_height(found[child.digest], found, heights) for child in one.children)
        heights[one.digest] = 1 + max(below, default=-1)
    return heights[one.digest]
