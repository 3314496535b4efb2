"""What a copy asks of the fleet: whose turn it is to upload a blob, and where blobs are.

Each blob travels once: one leader per target registry and blob uploads it, under a lease that
dies with it; the others wait, holding nothing, and then mount. The write of a manifest into a
repository is led in the same way (``Place.manifest``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Where(StrEnum):
    """What is known of a blob when an image needs it in a repository."""

    #: The repository is said to hold it. A hint, never the truth.
    HERE = "here"
    #: Another repository of the registry is said to hold it: mount it from there.
    ELSEWHERE = "elsewhere"
    #: Nobody is known to have it or to bring it: the caller leads, and must end its lead with
    #: ``arrived`` or ``give_up``.
    LEAD = "lead"
    #: Another brings it: ``wait`` for it.
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one blob."""

    where: Where
    #: The repository to mount from, with ``ELSEWHERE``.
    repository: str = ""
    #: With ``HERE``: when somebody brought or saw it, or a moment before, by the monotonic clock.
    #: Unit: s.
    written: float = field(default=-math.inf, compare=False)


def scoped(registry: str, scope: str) -> str:
    """A registry as what is known of its blobs is named by, for all (empty) or for one scope.

    What one scope brought or read is mounted for it alone.
    """
    return f"{scope}@{registry}" if scope else registry


@dataclass(frozen=True, slots=True)
class Place:
    """A repository at a target registry."""

    #: ``host[:port]``
    registry: str
    repository: str
    #: Whose hints and leases of blobs serve it; empty: those of the whole fleet.
    scope: str = ""

    @property
    def shared(self) -> str:
        """What hints and leases of blobs are named by: see ``scoped``."""
        return scoped(self.registry, self.scope)

    def manifest(self, digest: str) -> str:
        """What the write of a manifest there is called in ``Leads``, in the place of a digest.

        Nothing is remembered of it: whoever gets its lead looks whether the manifest is there.
        """
        return f"manifest/{self.repository}@{digest}"


@dataclass(slots=True)
class Mounting:
    """The right to mount some blobs into one repository."""

    #: Blobs that the repository is said to hold by now.
    here: frozenset[str]
    #: Blobs that are the caller's to mount.
    mine: frozenset[str]
    #: To be filled with those that came about; they are hints from the end of the block on.
    mounted: set[str] = field(default_factory=set)


class Leads(Protocol):
    """Who uploads which blob, for the whole fleet. Used from the background loop."""

    async def take(self, place: Place, holder: str, digests: Iterable[str]) -> dict[str, Found]:
        """Look all blobs of an image up, and lead those that are free, in one atomic step.

        To be called once for an image, and never while waiting. ``holder`` names the copy: no
        two that run at once are equal.
        """

    async def arrived(
        self, place: Place, holder: str, digests: Iterable[str], *, ended: Collection[str] = ()
    ) -> None:
        """The repository holds these blobs now: remember it, end the leads, wake who waits.

        ``ended``: leads that end in the same step without a blob, as ``give_up`` ends them.
        """

    async def give_up(self, place: Place, holder: str, digests: Iterable[str]) -> None:
        """End leads without a blob; each goes to whoever waits longest for it. Never raises."""

    async def wait(self, place: Place, holder: str, digest: str) -> Found:
        """Wait until the blob is somewhere, or is the caller's to lead; never ``WAIT``.

        Cancelling the wait leaves the line.
        """

    async def forget(self, place: Place, digest: str) -> None:
        """The registry says that the place does not hold the blob: drop the hint."""

    def mounting(
        self, place: Place, digests: Collection[str]
    ) -> AbstractAsyncContextManager[Mounting]:
        """Alone in the fleet with mounts of some of these blobs into this repository.

        For one request each. Begins when at least one is here or the caller's; the others are
        being mounted by somebody else, and may be asked for again. Where a blob came there
        meanwhile, nothing is to be done: a registry may rewrite the link to a blob that is
        mounted again, while another reads it (distribution 2.8).
        """

    def attaching(self, place: Place, subject: str) -> AbstractAsyncContextManager[None]:
        """Alone in the fleet with the list of referrers of one manifest."""

    async def can_mount(self, registry: str) -> bool:
        """Whether the registry is not known to refuse mounts."""

    async def cannot_mount(self, registry: str) -> None:
        """The registry refused a mount of a blob that it has: do not ask again for a day."""


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


class Memory(Protocol):
    """Where hints are kept. A memory that is away forgets."""

    async def layers(self, registry: str, diff_ids: Collection[str]) -> dict[str, KnownLayer]:
        """What is known of layers at a registry, by diff id."""

    async def remember(
        self,
        registry: str,
        repository: str,
        image: tuple[str, str] | None,
        layers: Mapping[str, KnownLayer],
    ) -> None:
        """Keep layers by diff id, and a whole image: its id and the digest of its manifest."""
