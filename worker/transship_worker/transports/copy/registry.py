"""A repository of a registry as source and target of copies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from typing import Any, Final, TypeVar

from transship.errors import BlobMissing, Denied, PushError, RegistryUnavailable
from transship_worker.concurrency.gather import first_of, together
from transship_worker.fleet.budget import transfers
from transship_worker.oci import blobs, digests, manifests, referrers, stored, uploads
from transship_worker.oci.blobs import BlobHead
from transship_worker.oci.budget import GovernorPort
from transship_worker.oci.client import Repository
from transship_worker.oci.content import BlobReader, ContentSource, Moved
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.oci.manifests import ManifestHead, Written
from transship_worker.oci.referrers import Referrers
from transship_worker.oci.uploads import Upload
from transship_worker.transports.copy.blob import BlobCopy
from transship_worker.transports.copy.resume import passes, pause

T = TypeVar("T")

#: Between two words of a blob that waits for a permit, well within the limit of stalls. Unit: s.
WAIT_TOLD_S: Final = 5.0
#: How often a manifest is read while the registry fails.
READS_MOST: Final = 4


class RegistryRepository:
    """Implements ``ContentSource`` and ``ContentTarget`` over the registry client."""

    believes_hints: Final = True

    def __init__(
        self,
        repository: Repository,
        *,
        chunked: bool = False,
        mounts_need_manifest: bool = False,
        can_mount: bool = True,
    ) -> None:
        """Facts of the registry come from its flavor.

        Args:
            repository: the repository, with the rights that are needed.
            chunked: an upload may be sent in parts, and go on after a break.
            mounts_need_manifest: see ``ContentTarget``.
            can_mount: see ``ContentTarget``; learned from its answers, too.
        """
        self._repository = repository
        self._chunked = chunked
        self.registry = repository.client.endpoint.registry
        self.repository = repository.name
        self.mounts_need_manifest = mounts_need_manifest
        self.can_mount = can_mount
        #: Blobs that were uploaded, with their sizes, until manifests name them.
        self._uploaded: dict[str, int] = {}

    def __str__(self) -> str:
        return str(self._repository)

    @property
    def governor(self) -> GovernorPort | None:
        """The fleet's budget at this registry with this login, where there is one."""
        return self._repository.client.governor

    async def head(self, reference: str, *, certain: bool = False) -> ManifestHead | None:
        """See ``ContentTarget``. Where the target cannot tell of a digest, a write decides."""
        try:
            return await _read(
                lambda: manifests.head(self._repository, reference, certain=certain, doubted=True)
            )
        except RegistryUnavailable:
            # distribution 2.8 as a pull-through cache answers 500, and 405 to what is written.
            # What a tag is now must be known: it may be another image's.
            if not (self._repository.writing and digests.is_digest(reference)):
                raise
            return None

    async def manifest(self, reference: str) -> Manifest:
        """See ``ContentSource``."""
        return await _read(lambda: manifests.get(self._repository, reference))

    def blob(
        self, digest: str, *, offset: int = 0, etag: str | None = None
    ) -> AbstractAsyncContextManager[BlobReader]:
        """See ``ContentSource``."""
        return blobs.read(self._repository, digest, offset=offset, etag=etag)

    async def referrers(self, digest: str) -> Referrers:
        """See ``ContentSource``."""
        return await referrers.referrers(self._repository, digest)

    async def cosign_tags(self, digest: str) -> dict[str, ManifestHead]:
        """See ``ContentSource``."""
        return await referrers.cosign_tags(self._repository, digest)

    async def blob_head(self, digest: str) -> BlobHead | None:
        """See ``ContentTarget``."""
        return await blobs.head(self._repository, digest)

    async def mount(self, digest: str, source: str) -> Upload | None:
        """See ``ContentTarget``; a refusal of a blob that is there clears ``can_mount``."""
        upload = await uploads.mount(self._repository, digest, source)
        if upload is None:
            await self._mounted(digest)
        if upload is not None and not self.mounts_need_manifest:
            other = self._repository.client.repository(source)
            # A login that may not read there says nothing of the registry.
            with suppress(Denied):
                self.can_mount = await blobs.head(other, digest) is None
        return upload

    async def _mounted(self, digest: str) -> None:
        """Look for the first blob whose mount is answered by 201: whether it is there then.

        Raises:
            BlobMissing: it is not.
        """
        learned = self._repository.client.learned
        async with learned.looking:
            if learned.mounts:
                return
            try:
                await blobs.look_for(self._repository, digest)
            except BlobMissing:
                self.can_mount = False
                raise
            learned.mounts = True

    async def write_blob(
        self,
        blob: Descriptor,
        source: ContentSource,
        moved: Moved,
        *,
        opened: object | None = None,
    ) -> None:
        """See ``ContentTarget``."""
        copy = BlobCopy(blob, source, self._repository, moved, chunked=self._chunked)
        reading = source.governor if isinstance(source, RegistryRepository) else None
        async with _permitted(moved, self.governor, reading):
            await copy.run(opened if isinstance(opened, Upload) else None)
        self._uploaded[blob.digest] = blob.size

    async def lost(self) -> list[str]:
        """See ``ContentTarget``. A registry answered 201 to the uploads, and took the manifests."""
        learned = self._repository.client.learned
        chosen = [one for one in self._uploaded.items() if learned.uploads.takes()]
        self._uploaded.clear()
        there = await together(stored.has_blob(self._repository, *one) for one in chosen)
        found = [digest for (digest, _), here in zip(chosen, there, strict=True) if not here]
        if found:
            learned.uploads.bad()
            # The manifest that names it is there.
            learned.images.bad()
        return found

    async def has_image(self, digest: str) -> bool:
        """See ``ContentTarget``."""
        images = self._repository.client.learned.images
        if not images.takes() or await stored.has_image(self._repository, digest):
            return True
        images.bad()
        return False

    async def put(
        self, reference: str, manifest: Manifest, *, timeout_s: float | None = None
    ) -> Written:
        """See ``ContentTarget``."""
        written = await manifests.put(self._repository, reference, manifest, timeout_s=timeout_s)
        if written.lists_referrers and not await self._lists(manifest):
            return Written(written.digest, lists_referrers=False)
        return written

    async def _lists(self, manifest: Manifest) -> bool:
        """Whether the registry lists what it said to list; the first one tells for the others."""
        learned = self._repository.client.learned
        if manifest.subject is not None and not learned.lists_referrers:
            learned.lists_referrers = await referrers.is_listed(self._repository, manifest)
            return learned.lists_referrers
        return True

    async def attach(self, manifest: Manifest) -> None:
        """See ``ContentTarget``."""
        await referrers.attach(self._repository, manifest)

    async def lists(self, manifest: Manifest) -> bool:
        """See ``ContentTarget``."""
        return await referrers.is_listed(self._repository, manifest)


async def _read(read: Callable[[], Awaitable[T]]) -> T:
    """Read a manifest, and again where the registry failed just now.

    distribution 2.8 answers 500 "invalid checksum digest format" while another client writes the
    same manifest under another tag.
    """
    for tried in range(1, READS_MOST):
        try:
            return await read()
        except PushError as error:
            if not passes(error):
                raise
        await pause(tried)
    return await read()


@asynccontextmanager
async def _permitted(moved: Moved, *governors: GovernorPort | None) -> AsyncIterator[None]:
    """A permit of each; the wait for them is no stall, however long others transfer."""
    async with AsyncExitStack() as permits:
        await _waited(permits.enter_async_context(transfers(*governors)), moved)
        yield


async def _waited(taking: Coroutine[Any, Any, None], moved: Moved) -> None:
    """Await the permits, and tell meanwhile; an error of either ends both."""
    try:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_wait_told(moved))
            await taking
            telling.cancel()
    except BaseExceptionGroup as failed:
        error = first_of(failed)
    else:
        return
    # Not from the group: an error's cause is the answer that led to it.
    raise error


async def _wait_told(moved: Moved) -> None:
    while True:
        await asyncio.sleep(WAIT_TOLD_S)
        moved(0)
