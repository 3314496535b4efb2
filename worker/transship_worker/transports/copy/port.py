"""What a copy reads from, writes to, and asks of its job and of the fleet.

A registry, a layout folder and an archive are sources; a registry and a layout folder are
targets. All of it runs in the worker's background loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from transship.model.migration.platforms import Platform
from transship.model.migration.specification import OnConflict
from transship_worker.oci.blobs import BlobHead
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.oci.manifests import ManifestHead, Written
from transship_worker.oci.referrers import Referrers


class BlobReader(Protocol):
    """A blob that is being read."""

    @property
    def offset(self) -> int:
        """Where its first byte lies.

        Zero although more was asked for where the source does not give parts, or has another
        blob than the one with the ETag. Unit: bytes.
        """

    @property
    def size(self) -> int | None:
        """Size of the whole blob; ``None``: not told. Unit: bytes."""

    @property
    def etag(self) -> str | None:
        """What the source calls this version of it; ``None``: nothing."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The bytes as they come.

        Raises:
            RegistryUnavailable: it broke off, or was silent for too long.
        """


class ContentSource(Protocol):
    """One repository that images are read from."""

    def __str__(self) -> str:
        """Its name, for messages: ``host/repository``."""

    async def head(self, reference: str) -> ManifestHead | None:
        """What a tag or digest is; ``None``: there is none."""

    async def manifest(self, reference: str) -> Manifest:
        """Read a manifest by tag or digest; its digest is verified."""

    def blob(
        self, digest: str, *, offset: int = 0, etag: str | None = None
    ) -> AbstractAsyncContextManager[BlobReader]:
        """Read a blob, from ``offset`` on if it still has the ETag. Its bytes are not verified."""

    async def referrers(self, digest: str) -> Referrers:
        """What refers to a manifest."""

    async def cosign_tags(self, digest: str) -> dict[str, ManifestHead]:
        """The tags that cosign put beside a manifest."""


@runtime_checkable
class Placed(Protocol):
    """A source that says where it is: one in the target's registry can be mounted from."""

    @property
    def registry(self) -> str:
        """See ``ContentTarget``."""

    @property
    def repository(self) -> str:
        """See ``ContentTarget``."""


class Moved(Protocol):
    """Hears of bytes as they arrive at the target; negative when a blob starts again."""

    def __call__(self, size: int, /) -> None:
        """So many bytes more. Unit: bytes."""


class ContentTarget(Protocol):
    """One repository that images are written to."""

    @property
    def registry(self) -> str:
        """``host[:port]``, or what stands for it: where blobs can be mounted from each other."""

    @property
    def repository(self) -> str:
        """The repository's name there."""

    @property
    def mounts_need_manifest(self) -> bool:
        """Mounts work only from where a manifest references the blob (Amazon ECR)."""

    @property
    def can_mount(self) -> bool:
        """Whether the registry can take blobs over from other repositories, as far as is known."""

    def __str__(self) -> str:
        """Its name, for messages: ``host/repository``."""

    async def head(self, reference: str) -> ManifestHead | None:
        """What a tag or digest is; ``None``: there is none."""

    async def manifest(self, reference: str) -> Manifest:
        """Read a manifest by tag or digest; its digest is verified."""

    async def blob_head(self, digest: str) -> BlobHead | None:
        """Whether the repository holds a blob."""

    async def mount(self, digest: str, source: str) -> object | None:
        """Take a blob over from another repository of the registry.

        ``None``: it is there now. Else it was not mounted, and what is returned may be given
        to ``write_blob`` as ``opened``. One mount of one blob into one repository at a time is
        the caller's business.
        """

    async def write_blob(
        self,
        blob: Descriptor,
        source: ContentSource,
        moved: Moved,
        *,
        opened: object | None = None,
    ) -> None:
        """Bring a blob here from a source: hashed on the way, in constant memory.

        Breaks of the source are gone over where it can go on; breaks of the target where it
        still knows the upload; else the blob starts again, a few times.

        Raises:
            DigestMismatch: what the source gave is not the blob; nothing is kept here.
            PushError: the side that failed, and why.
        """

    async def put(
        self, reference: str, manifest: Manifest, *, timeout_s: float | None = None
    ) -> Written:
        """Write a manifest's bytes under a tag or its digest; given up after ``timeout_s``."""

    async def attach(self, manifest: Manifest) -> None:
        """Add a manifest to its subject's list of referrers where the registry keeps none.

        One at a time for a subject is the caller's business.
        """


class CopyControl(Protocol):
    """What a copy tells and asks the job it works for. Never blocks."""

    def planned(self, size: int, layers: int) -> None:
        """So many bytes and blobs more belong to the image. Unit: bytes."""

    def moved(self, size: int) -> None:
        """So many bytes arrived by being sent; negative when a blob starts again. Unit: bytes."""

    def mounted(self, size: int) -> None:
        """A blob came from another repository of the target registry; negative when it did not.

        Unit: bytes.
        """

    def present(self, size: int) -> None:
        """A blob was there already; negative when that proved wrong. Unit: bytes."""

    def blob_done(self) -> None:
        """One blob more is at the target."""

    def alive(self) -> None:
        """Something moved: the stall limit starts again."""

    def warn(self, message: str) -> None:
        """Keep a sentence with the job that a person should read although it succeeds."""

    def checkpoint(self) -> None:
        """Return if the job may go on, else raise why not; before each irreversible step."""

    def lease_left_s(self) -> float:
        """For how long the job is certainly still this worker's. Unit: s."""

    def parked(self) -> AbstractAsyncContextManager[None]:
        """While the block runs the job only waits and holds no slot; cancelled, it gets none."""


@dataclass(frozen=True, slots=True)
class CopyTask:
    """One image, and where it goes."""

    #: A tag or a digest at the source.
    reference: str
    #: Tags at the target; empty: by digest alone.
    tags: tuple[str, ...] = ()
    #: Empty: all that the image has.
    platforms: tuple[Platform, ...] = ()
    #: Whether signatures, SBOMs and attestations go along.
    referrers: bool = False
    #: The target's repository is new and its tags are to be overwritten: nothing is looked for
    #: there but what the fleet knows of.
    fresh: bool = False
    #: Where a tag at the target is another image.
    on_conflict: OnConflict = OnConflict.OVERWRITE


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy came to."""

    #: Digest of the manifest that the target's tags hold.
    digest: str
    #: Nothing was written: the target had the image and all its tags.
    skipped: bool = False
    #: Tags that were written.
    tagged: tuple[str, ...] = field(default=())
    #: Tags of the target that were left alone, since they are another image (``skip``).
    kept: tuple[str, ...] = field(default=())
