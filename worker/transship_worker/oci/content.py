"""What a copy reads images from and writes them to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

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

    @property
    def believes_hints(self) -> bool:
        """Whether a blob that the fleet brought here before need not be looked at again.

        A registry checks its own storage; in a folder, ``blob_head`` does that.
        """

    def __str__(self) -> str:
        """Its name, for messages: ``host/repository``."""

    async def head(self, reference: str, *, certain: bool = False) -> ManifestHead | None:
        """What a tag or digest is; ``None``: there is none.

        ``certain``: a refusal is an error, and not ``None``.
        """

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

    async def has_image(self, digest: str) -> bool:
        """Whether a manifest that is said to be here is, with what it names; not always checked."""

    async def lost(self) -> list[str]:
        """Blobs that were written here and are not there, once manifests name them.

        Not all are looked for; each only once.
        """

    async def lists(self, manifest: Manifest) -> bool:
        """Whether the target itself lists a manifest that is here as a referrer of its subject."""

    async def attach(self, manifest: Manifest) -> None:
        """Add a manifest to the list of its subject's referrers that clients keep.

        One at a time for a subject is the caller's business.
        """
