"""Images that lie in files: what a layout folder and an archive have in common as sources."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import time_ns
from typing import ClassVar, Final, Generic, TypeVar

from transship.errors import (
    AnswerMalformed,
    BlobMissing,
    DigestMismatch,
    ImageNotFound,
    ManifestUnsupported,
    PushError,
    RegistryUnavailable,
    RepositoryMissing,
)
from transship_worker.concurrency.threads import in_thread
from transship_worker.layouts.byte_source import ByteSource
from transship_worker.layouts.folder import told, translate
from transship_worker.layouts.index import Entry, Index
from transship_worker.oci import digests
from transship_worker.oci.descriptors import (
    DOCKER_LIST,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Manifest,
    parse_manifest,
)
from transship_worker.oci.manifests import ManifestHead
from transship_worker.oci.names import LeftOut, Skipped, Warn, is_tag
from transship_worker.oci.referrers import COSIGN_SUFFIXES, Referrers, fallback_tag

#: How much is read or written at once. Unit: bytes.
PIECE: Final = 1024 * 1024
#: Manifests whose subjects are remembered, for the whole process.
SUBJECTS_KEPT: Final = 65_536
#: A file that changed this short a while ago may change again without its times showing it:
#: a file system counts in ticks of some milliseconds. Unit: ns.
RACY_NS: Final = 200_000_000

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of an open file."""

    source: ByteSource
    #: Where they begin. Unit: bytes.
    start: int
    #: Unit: bytes.
    size: int

    def read(self, limit: int, what: str) -> bytes:
        """All of them, if they are no more than ``limit``.

        Raises:
            AnswerMalformed: they are more.
        """
        if self.size > limit:
            raise AnswerMalformed(f"{what} has {self.size} bytes; at most {limit} are read")
        found = bytearray()
        while len(found) < self.size:
            piece = self.source.read_at(self.size - len(found), self.start + len(found))
            if not piece:
                break
            found += piece
        return bytes(found)


@dataclass(frozen=True, slots=True)
class FileReader:
    """A blob that is being read (``BlobReader``)."""

    offset: int
    size: int
    _span: Span
    _what: str
    #: None: content is found by its digest, so that no version has to be told from another.
    etag: None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes from the offset on.

        Raises:
            RegistryUnavailable: the file became shorter, or cannot be read.
        """
        at, end = self._span.start + self.offset, self._span.start + self._span.size
        while at < end:
            try:
                piece = await in_thread(self._span.source.read_at, min(PIECE, end - at), at)
            except OSError as error:
                raise translate(error, self._what) from error
            if not piece:
                raise RegistryUnavailable(
                    f"{self._what}: its file became shorter while it was read"
                )
            at += len(piece)
            yield piece


class FileCache(Generic[V]):
    """What was read from files, for as long as the files stay as they were."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[int, ...], V] = OrderedDict()

    def get(self, fd: int, make: Callable[[], V]) -> V:
        """What belongs to an open file."""
        stat = os.fstat(fd)
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        if time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > RACY_NS:
            with self._lock:
                self._found[key] = made
                while len(self._found) > self._most:
                    self._found.popitem(last=False)
        return made


#: Subject by the manifest's digest; empty: none. Content with a digest never changes.
_subjects: OrderedDict[str, str] = OrderedDict()
_subjects_lock: Final = threading.Lock()


def _type_of(entry: Entry | None) -> str:
    return entry.media_type if entry is not None else ""


class StoredSource(ABC):
    """One repository whose manifests are listed in an index (``ContentSource``)."""

    #: Whether the only image, which has no tag, is found under any.
    finds_untagged: ClassVar[bool] = True

    def __init__(self, registry: str, repository: str) -> None:
        """``registry`` is what stands for the folder in references."""
        self.registry: Final = registry
        self.repository: Final = repository

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"

    @abstractmethod
    def read_index(self) -> Index:
        """What it holds now; blocks.

        Raises:
            RepositoryMissing: there is no such repository.
        """

    @abstractmethod
    def opened(self, digest: str) -> AbstractContextManager[Span]:
        """A blob's bytes, open while the block runs; blocks.

        Raises:
            BlobMissing: there is none.
        """

    def load(self, digest: str, limit: int) -> bytes:
        """A small blob, not verified; blocks.

        Raises:
            BlobMissing: there is none.
            AnswerMalformed: it is larger than ``limit`` bytes.
        """
        with self.opened(digest) as span:
            return span.read(limit, self.name(digest))

    def name(self, reference: str) -> str:
        """An image of it, for messages."""
        return f"{self}{'@' if digests.is_digest(reference) else ':'}{reference}"

    async def tags(self, warn: Warn | None = None) -> list[str]:
        """All tags, sorted; also one that is ambiguous, which asking for it will say.

        ``warn`` hears, once each, how many entries have a name that cannot be a tag, and how many
        images have no name at all.

        Raises:
            RepositoryMissing: there is no such repository.
        """
        index = await in_thread(self.read_index)
        if warn is not None:
            for left_out in await in_thread(self._left_out, index):
                if left_out.count:
                    warn(left_out.message(str))
        return sorted(index.tags)

    async def head(self, reference: str) -> ManifestHead | None:
        """What a tag or digest is; ``None``: there is none that could be read."""
        return await in_thread(self._head, reference)

    async def manifest(self, reference: str) -> Manifest:
        """Read a manifest by tag or digest; its digest is verified.

        Raises:
            ImageNotFound, RepositoryMissing: there is none.
            DigestMismatch, AnswerMalformed, ManifestUnsupported: what is there is not it.
        """
        return await in_thread(self._manifest, reference)

    @asynccontextmanager
    async def blob(
        self,
        digest: str,
        *,
        offset: int = 0,
        etag: str | None = None,  # noqa: ARG002 - there is one version of a digest
    ) -> AsyncIterator[FileReader]:
        """Read a blob from ``offset`` on. Its bytes are not verified.

        Raises:
            BlobMissing: there is none.
        """
        digests.checked(digest)
        opening = self.opened(digest)
        span = await in_thread(opening.__enter__)
        try:
            yield FileReader(min(offset, span.size), span.size, span, self.name(digest))
        finally:
            opening.__exit__(None, None, None)

    async def referrers(self, digest: str) -> Referrers:
        """What refers to a manifest: by the list under its tag, and by naming it as subject."""
        return await in_thread(self._referrers, digests.checked(digest))

    async def cosign_tags(self, digest: str) -> dict[str, ManifestHead]:
        """The tags that cosign put beside a manifest."""
        names = [f"{fallback_tag(digest)}.{suffix}" for suffix in COSIGN_SUFFIXES]
        heads = {name: await in_thread(partial(self._head, name, tagged=True)) for name in names}
        return {name: head for name, head in heads.items() if head is not None}

    def _entry(self, index: Index, tag: str) -> Entry | None:
        """What is under a tag; the only image, where it has none."""
        found = index.find(tag, self.name(tag))
        return found or (index.untagged if self.finds_untagged else None)

    def _head(self, reference: str, *, tagged: bool = False) -> ManifestHead | None:
        with told(str(self)):
            if digests.is_digest(reference):
                try:
                    found = self._read(reference, "")
                except (BlobMissing, DigestMismatch, AnswerMalformed, ManifestUnsupported):
                    # A blob that is no manifest, or a damaged one, which may be written again.
                    return None
                return ManifestHead(found.digest, found.media_type, len(found.raw))
            try:
                index = self.read_index()
                name = self.name(reference)
                entry = index.find(reference, name) if tagged else self._entry(index, reference)
            except RepositoryMissing:
                return None
            size = self._stored_size(entry) if entry is not None else None
            if entry is None or size is None:
                return None
            self._check_size(entry, size)
            return ManifestHead(entry.digest, entry.media_type, entry.size)

    def _manifest(self, reference: str) -> Manifest:
        with told(str(self)):
            # A repository that is not there is another mistake than an image that is not.
            index = self.read_index()
            entry = None
            if not digests.is_digest(reference):
                entry = self._entry(index, reference)
                if entry is None:
                    raise ImageNotFound(f"there is no {self.name(reference)}; {index.described()}")
            try:
                found = self._read(entry.digest if entry else reference, _type_of(entry))
            except BlobMissing:
                raise ImageNotFound(
                    f"{self.name(reference)}: its manifest is not there; {index.described()}"
                ) from None
            if entry is not None:
                self._check_size(entry, len(found.raw))
            return found

    def _read(self, digest: str, media_type: str) -> Manifest:
        raw = self.load(digest, MANIFEST_LIMIT)
        what = self.name(digest)
        return parse_manifest(raw, what=what, digest=digest, content_type=media_type)

    def _stored_size(self, entry: Entry) -> int | None:
        """Size of an entry's manifest as it is stored; ``None``: it is not there. Unit: bytes."""
        try:
            with self.opened(entry.digest) as span:
                return span.size
        except BlobMissing:
            return None

    def _check_size(self, entry: Entry, size: int) -> None:
        """Return if an entry's manifest has the size that the index says.

        Raises:
            AnswerMalformed: it has another: one of the two is damaged.
        """
        if size != entry.size:
            raise AnswerMalformed(
                f"{self}: its index.json says that {entry.digest} has {entry.size} bytes; "
                f"the file has {size}"
            )

    def _left_out(self, index: Index) -> tuple[LeftOut, ...]:
        """What no tag leads to: names that are no tags, and images without a name."""
        names = Skipped("tag", is_tag)
        names.names(entry.name for entry in index.entries if entry.name and not entry.tag)
        named = {entry.digest for entry in index.entries if entry.name}
        unnamed = {entry.digest: entry for entry in index.entries if entry.digest not in named}
        untagged = LeftOut(
            "image without a tag, which can be copied by its digest",
            "images without tags, which can be copied by their digests",
        )
        with told(str(self)):
            children = self._children(index) if unnamed else frozenset()
            for entry in unnamed.values():
                # What refers to an image is taken along by referrers, and has no tag anywhere.
                if entry.digest not in children and not self._refers(entry):
                    untagged.add(entry.digest)
        return names, untagged

    def _children(self, index: Index) -> frozenset[str]:
        """What the indexes of this layout lead to: other tools list that, too."""
        found: set[str] = set()
        for entry in index.entries:
            if entry.media_type in (OCI_INDEX, DOCKER_LIST):
                with suppress(PushError):
                    manifest = self._read(entry.digest, entry.media_type)
                    found.update(child.digest for child in manifest.children)
        return frozenset(found)

    def _refers(self, entry: Entry) -> bool:
        try:
            return bool(self._subject(entry))
        except PushError:
            # A damaged one is no reason to fail a list.
            return False

    def _referrers(self, digest: str) -> Referrers:
        with told(str(self)):
            index = self.read_index()
            found: dict[str, Descriptor] = {}
            tag = fallback_tag(digest)
            listed = index.find(tag, self.name(tag))
            if listed is not None:
                listing = self._read(listed.digest, listed.media_type)
                found.update((one.digest, one) for one in listing.entries)
            for entry in index.entries:
                if entry.digest not in found and self._subject(entry) == digest:
                    manifest = self._read(entry.digest, entry.media_type)
                    found[entry.digest] = manifest.descriptor
            return Referrers(tuple(found.values()), by_tag=listed is not None)

    def _subject(self, entry: Entry) -> str:
        """The digest that a manifest names as its subject; empty: none, or it is not there."""
        with _subjects_lock:
            known = _subjects.get(entry.digest)
        if known is not None:
            return known
        if entry.media_type not in MANIFEST_TYPES:
            # An index may list what is no manifest (OCI image-spec, image-index.md).
            return ""
        try:
            manifest = self._read(entry.digest, entry.media_type)
        except (BlobMissing, ManifestUnsupported):
            return ""
        subject = manifest.subject.digest if manifest.subject is not None else ""
        with _subjects_lock:
            _subjects[entry.digest] = subject
            while len(_subjects) > SUBJECTS_KEPT:
                _subjects.popitem(last=False)
        return subject
