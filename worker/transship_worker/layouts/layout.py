"""A repository of a layout folder: an OCI image layout, read and written.

Source: OCI image-spec, image-layout.md. Layouts of other tools are read as they stand; what is
written here, they can read.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from transship.errors import (
    AnswerMalformed,
    BlobMissing,
    DigestMismatch,
    ManifestUnsupported,
    PushRejected,
    RepositoryMissing,
)
from transship_worker.concurrency.threads import in_thread
from transship_worker.layouts import writing
from transship_worker.layouts.blob_reader import Inflow
from transship_worker.layouts.byte_source import PlainFile
from transship_worker.layouts.folder import Folder, told
from transship_worker.layouts.index import INDEX_LIMIT, Entry, Index
from transship_worker.layouts.stored import FileCache, Span, StoredSource
from transship_worker.layouts.verified import verified_files
from transship_worker.oci import digests
from transship_worker.oci.blobs import BlobHead
from transship_worker.oci.descriptors import (
    MANIFEST_LIMIT,
    OCI_INDEX,
    Descriptor,
    Manifest,
    parse_manifest,
)
from transship_worker.oci.manifests import ManifestHead, Written
from transship_worker.oci.referrers import fallback_tag

if TYPE_CHECKING:
    from transship_worker.oci.content import ContentSource, Moved

#: What is said where there are no hard links, or none across these folders or to such a file.
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
#: Manifests of one image that are looked at; no copy takes more.
LOOKS_MOST: Final = 2_000
#: Unit: bytes.
_VERSION_LIMIT: Final = 4_096
_indexes: FileCache[Index] = FileCache(8)


@dataclass(frozen=True, slots=True)
class NotLinked:
    """What ``mount`` gives where the file system did not let two repositories share a file."""

    why: str


class LayoutSource(StoredSource):
    """A layout that images are read from."""

    def __init__(self, folder: Folder, repository: str) -> None:
        """Nothing is opened yet.

        Raises:
            NotUnderRegistry: no repository can be called so.
        """
        super().__init__(folder.registry, repository)
        self._folder = folder
        #: The folders that lead to it.
        self.parts: Final = folder.parts(repository)

    def read_index(self) -> Index:
        """What its ``index.json`` lists now; blocks."""
        try:
            with self._folder.directory(*self.parts) as directory:
                return self._index(directory)
        except (FileNotFoundError, NotADirectoryError):
            raise RepositoryMissing(
                f"there is no repository {self}: no OCI image layout is there"
            ) from None

    @contextmanager
    def opened(self, digest: str) -> Iterator[Span]:
        """A blob's file, open while the block runs; blocks."""
        try:
            fd = self._open_blob(digest)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissing(f"{self} does not hold {digest}") from None
        try:
            yield Span(PlainFile(fd), 0, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def _open_blob(self, digest: str) -> int:
        algorithm, _, value = digests.checked(digest).partition(":")
        place = ("blobs", algorithm)
        with self._folder.directory(*self.parts, *place) as directory:
            what = f"{self.repository}/{'/'.join(place)}/{value}"
            return self._folder.open_file(directory, value, what)

    def _index(self, directory: int) -> Index:
        fd = self._folder.open_file(directory, "index.json", f"{self.repository}/index.json")
        try:
            return _indexes.get(fd, lambda: self._parsed(directory, fd))
        finally:
            os.close(fd)

    def _parsed(self, directory: int, fd: int) -> Index:
        name = f"{self.repository}/oci-layout"
        marker = self._folder.open_file(directory, "oci-layout", name)
        try:
            version = Span(PlainFile(marker), 0, os.fstat(marker).st_size).read(
                _VERSION_LIMIT, name
            )
        finally:
            os.close(marker)
        with suppress(ValueError, RecursionError):
            found = json.loads(version)
            if isinstance(found, dict) and found.get("imageLayoutVersion") != "1.0.0":
                raise ManifestUnsupported(
                    f"{self} is an image layout of another version than 1.0.0, which is the known"
                )
        what = f"{self}: its index.json"
        span = Span(PlainFile(fd), 0, os.fstat(fd).st_size)
        return Index.parse(span.read(INDEX_LIMIT, what), what)


class LayoutTarget(LayoutSource):
    """A layout that images are written to (``ContentTarget``); made with the first write."""

    mounts_need_manifest: Final = False
    believes_hints: Final = False
    #: A tag that is not there is to be written.
    finds_untagged: ClassVar[bool] = False

    def __init__(self, folder: Folder, repository: str) -> None:
        super().__init__(folder, repository)
        #: Another repository's file becomes this one's, too, unless the file system refuses.
        self.can_mount = True
        self._cleared = False

    async def blob_head(self, digest: str) -> BlobHead | None:
        """Whether the repository holds a blob, and its content is that of the digest."""
        return await in_thread(self.find_blob, digest)

    async def has_image(self, digest: str) -> bool:  # noqa: ARG002 - ``head`` looked at the files
        """See ``ContentTarget``."""
        return True

    async def lost(self) -> list[str]:
        """See ``ContentTarget``; what is written is on the disk, or the write failed."""
        return []

    async def mount(self, digest: str, source: str) -> NotLinked | None:
        """Take a blob over from another repository of the folder, as a hard link.

        Raises:
            NotUnderRegistry: no repository can be called as ``source``.
        """
        other = LayoutTarget(self._folder, source)
        return await in_thread(self._link_from, other, digest)

    async def write_blob(
        self,
        blob: Descriptor,
        source: ContentSource,
        moved: Moved,
        *,
        opened: object | None = None,  # noqa: ARG002 - nothing is open after a mount that failed
    ) -> None:
        """Bring a blob here from a source: hashed on the way, in constant memory.

        Raises:
            DigestMismatch: what the source gave is not the blob; nothing is kept here.
            PushError: the side that failed, and why.
        """
        part = await in_thread(self._begin)
        try:
            await Inflow(blob, self.name(blob.digest), part, moved).run(source)
            await in_thread(self._keep, part, blob.digest)
        finally:
            part.close()

    async def put(
        self, reference: str, manifest: Manifest, *, timeout_s: float | None = None
    ) -> Written:
        """Write a manifest under a tag or its digest; given up after ``timeout_s``.

        Raises:
            BlobMissing: something that the manifest names is not here.
            RegistryUnavailable: it took too long, or the disk failed.
        """
        limit = writing.Limit(timeout_s)
        await in_thread(self._put, reference, manifest, limit, stop=limit.stop)
        return Written(manifest.digest, lists_referrers=False)

    async def head(
        self,
        reference: str,
        *,
        certain: bool = False,  # noqa: ARG002 - a folder always tells, or fails
    ) -> ManifestHead | None:
        """What a tag or digest is; ``None``: there is none that could be read."""
        return await super().head(reference)

    async def lists(self, manifest: Manifest) -> bool:  # noqa: ARG002 - see the next line
        """Never: other tools look at the list under the tag (``attach``)."""
        return False

    async def attach(self, manifest: Manifest) -> None:
        """Add a manifest to the list under its subject's tag, which other tools look at.

        Raises:
            PushRejected: what has that tag is no such list.
        """
        if manifest.subject is None:
            return
        tag = fallback_tag(manifest.subject.digest)
        entries: list[object] = []
        if await self.head(tag) is not None:
            listing = await self.manifest(tag)
            if not listing.is_index:
                raise PushRejected(f"{self.name(tag)} is no list of referrers; it stays as it is")
            if any(entry.digest == manifest.digest for entry in listing.entries):
                return
            # As they stand, with what is not understood here.
            entries = json.loads(listing.raw)["manifests"]
        entries.append(manifest.descriptor.as_json())
        data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        raw = json.dumps(data, separators=(",", ":")).encode()
        await self.put(tag, parse_manifest(raw, what=self.name(tag)))

    def _head(self, reference: str, *, tagged: bool = False) -> ManifestHead | None:
        found = super()._head(reference, tagged=tagged)
        if found is None:
            return None
        with told(str(self)):
            return replace(found, complete=self._is_complete(found))

    def _check_size(self, entry: Entry, size: int) -> None:
        """Nothing: a write corrects it."""

    def _is_complete(self, head: ManifestHead) -> bool:
        """Whether all that a manifest leads to is here, in the sizes that are named.

        Contents of blobs are not read for that: a look at each image of a large layout would
        read all of it.
        """
        pending, seen = [head.digest], {head.digest}
        while pending and len(seen) <= LOOKS_MOST:
            try:
                manifest = self._read(pending.pop(), "")
            except (BlobMissing, DigestMismatch, AnswerMalformed, ManifestUnsupported):
                return False
            if manifest.digest == head.digest and len(manifest.raw) != head.size:
                return False
            if not self._has_sizes((*manifest.blobs, *manifest.children)):
                return False
            new = [one.digest for one in manifest.children if one.digest not in seen]
            seen.update(new)
            pending += new
        return True

    def _has_sizes(self, needed: Iterable[Descriptor]) -> bool:
        """Whether files of these sizes are here under these digests."""
        folders: dict[str, list[tuple[str, int]]] = {}
        for one in needed:
            algorithm, _, value = digests.checked(one.digest).partition(":")
            folders.setdefault(algorithm, []).append((value, one.size))
        try:
            for algorithm, files in folders.items():
                with self._folder.directory(*self.parts, "blobs", algorithm) as blobs:
                    if not all(_has_size(blobs, *file) for file in files):
                        return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def find_blob(self, digest: str) -> BlobHead | None:
        """A blob that is here and is not damaged; its file is read if it was not before."""
        with told(str(self)):
            try:
                fd = self._open_blob(digest)
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                if not verified_files.has(fd, digest):
                    return None
                return BlobHead(digest, os.fstat(fd).st_size)
            finally:
                os.close(fd)

    def _link_from(self, other: LayoutTarget, digest: str) -> NotLinked | None:
        algorithm, _, value = digests.checked(digest).partition(":")
        with told(str(self)), self._blobs(algorithm) as here:
            place = ("blobs", algorithm)
            # Opened once, so that only a regular file is linked.
            if other.find_blob(digest) is None:
                return NotLinked(f"{other} does not hold {digest}, or it is damaged there")
            try:
                with self._folder.directory(*other.parts, *place) as there:
                    os.link(value, value, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
            except FileExistsError:
                if self.find_blob(digest) is None:
                    return NotLinked(f"{self.name(digest)} is damaged")
            except OSError as error:
                if error.errno not in _NO_LINKS | {errno.EMLINK}:
                    raise
                self.can_mount = error.errno == errno.EMLINK
                return NotLinked(error.strerror or type(error).__name__)
            os.fsync(here)
            return None

    def _begin(self) -> writing.Part:
        with told(str(self)), self._own() as directory:
            if not self._cleared:
                self._cleared = True
                writing.clear_left_overs(directory)
            return writing.Part(directory)

    def _keep(self, part: writing.Part, digest: str) -> None:
        algorithm, _, value = digest.partition(":")
        with told(self.name(digest)), self._blobs(algorithm) as blobs:
            part.finish(blobs, value)
            # It was hashed on the way.
            verified_files.add(part.fd, digest)

    def _put(self, reference: str, manifest: Manifest, limit: writing.Limit) -> None:
        what = self.name(reference)
        with told(what), self._own() as directory:
            self._require(manifest, what)
            self._write_manifest(directory, manifest)
            with writing.locked(directory, limit, what):
                before = Index(())
                with suppress(FileNotFoundError):
                    before = self._index(directory)
                tag = "" if digests.is_digest(reference) else reference
                after = before.with_manifest(manifest, tag)
                limit.check(what)
                if after is before:
                    return
                raw = after.dump()
                if len(raw) > INDEX_LIMIT:
                    raise PushRejected(f"{self} is full: its index.json has {INDEX_LIMIT} bytes")
                writing.write_file(directory, directory, "index.json", raw)

    def _require(self, manifest: Manifest, what: str) -> None:
        """Return if all that a manifest names is here and not damaged."""
        needs = (*manifest.blobs, *manifest.children)
        # Sizes first: files are read only where all of them are right.
        lacking = [one for one in needs if not self._has_sizes([one])] or [
            one for one in needs if self.find_blob(one.digest) is None
        ]
        if lacking:
            raise BlobMissing(
                f"{what} names {lacking[0].digest}, which is not in {self}, or is damaged there"
            )

    def _write_manifest(self, directory: int, manifest: Manifest) -> None:
        with suppress(BlobMissing, AnswerMalformed):
            if self.load(manifest.digest, MANIFEST_LIMIT) == manifest.raw:
                return
        algorithm, _, value = manifest.digest.partition(":")
        with self._blobs(algorithm) as blobs:
            writing.write_file(directory, blobs, value, manifest.raw)

    @contextmanager
    def _own(self) -> Iterator[int]:
        """The repository's directory, made where there is none."""
        try:
            with self._folder.directory(*self.parts, create=True) as directory:
                yield directory
        except NotADirectoryError:
            raise PushRejected(
                f"{self} cannot be written: it is a file, or lies below one; archives are only read"
            ) from None

    @contextmanager
    def _blobs(self, algorithm: str) -> Iterator[int]:
        with self._folder.directory(*self.parts, "blobs", algorithm, create=True) as directory:
            yield directory


def _has_size(directory: int, name: str, size: int) -> bool:
    """Whether there is a regular file of this name and size."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return stat.S_ISREG(status.st_mode) and status.st_size == size
