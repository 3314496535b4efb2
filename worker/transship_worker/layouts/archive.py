"""A ``docker save`` archive as a source: read where it lies, never unpacked.

Two forms are in use. The newer is an OCI image layout in a tar (Docker Engine 25 and later,
``skopeo copy ... oci-archive:``), the older has ``manifest.json``, configs and uncompressed
layers (moby/docker-image-spec, spec-v1.2.md, "Combined Image JSON + Filesystem Changeset
Format"); for the older, manifests are made here, always the same bytes for the same archive.
A whole archive may be compressed with gzip.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from transship.errors import AnswerMalformed, BlobMissing, ManifestUnsupported, RepositoryMissing
from transship_worker.layouts.byte_source import GZIP, ByteSource, GzipFile, Marks, PlainFile
from transship_worker.layouts.folder import Folder
from transship_worker.layouts.index import INDEX_LIMIT, Entry, Index, tag_of
from transship_worker.layouts.stored import PIECE, FileCache, Span, StoredSource
from transship_worker.layouts.tar import Member, Tar, read_tar
from transship_worker.oci import digests
from transship_worker.oci.descriptors import MANIFEST_LIMIT, OCI_MANIFEST

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
#: Layers that other tools write compressed, by how they begin.
_SUFFIXES: Final = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}


@dataclass(slots=True)
class Contents:
    """What an archive holds."""

    tar: Tar
    index: Index
    #: Members by digest, where they are not found by their name.
    members: dict[str, Member] = field(default_factory=dict)
    #: Manifests that were made here.
    made: dict[str, bytes] = field(default_factory=dict)
    #: Where a gzip file can be read from; ``None``: the archive is not compressed.
    marks: Marks | None = None

    def source(self, fd: int) -> ByteSource:
        """The bytes of the archive, of which this is an open file; for one reader."""
        return PlainFile(fd) if self.marks is None else GzipFile(fd, self.tar.what, self.marks)

    def find(self, digest: str) -> Member | None:
        """Where a blob lies; ``None``: it is not there."""
        if digest in self.members:
            return self.members[digest]
        return self.tar.find(f"blobs/{digest.replace(':', '/')}")


_archives: FileCache[Contents] = FileCache(16)


class ArchiveSource(StoredSource):
    """An archive that images are read from (``ContentSource``)."""

    def __init__(self, folder: Folder, repository: str) -> None:
        """Nothing is opened yet.

        Raises:
            NotUnderRegistry: no repository can be called so.
        """
        super().__init__(folder.registry, repository)
        self._folder = folder
        self._parts = folder.parts(repository)

    def read_index(self) -> Index:
        """The images that it holds; blocks."""
        with self._file() as fd:
            return self._contents(fd).index

    @contextmanager
    def opened(self, digest: str) -> Iterator[Span]:
        """A member's bytes, while the archive is open; blocks."""
        digests.checked(digest)
        with self._file() as fd:
            contents = self._contents(fd)
            member = contents.find(digest)
            if member is None:
                raise BlobMissing(f"{self} does not hold {digest}")
            yield Span(contents.source(fd), member.start, member.size)

    def load(self, digest: str, limit: int) -> bytes:
        """A small blob, or a manifest that was made for the archive; blocks."""
        with self._file() as fd:
            made = self._contents(fd).made.get(digest)
        return super().load(digest, limit) if made is None else made

    def _stored_size(self, entry: Entry) -> int | None:
        with self._file() as fd:
            if entry.digest in self._contents(fd).made:
                return entry.size
        return super()._stored_size(entry)

    @contextmanager
    def _file(self) -> Iterator[int]:
        *above, name = self._parts
        try:
            with self._folder.directory(*above) as directory:
                fd = self._folder.open_file(directory, name, self.repository)
        except (FileNotFoundError, NotADirectoryError):
            raise RepositoryMissing(f"there is no archive {self}") from None
        try:
            yield fd
        finally:
            os.close(fd)

    def _contents(self, fd: int) -> Contents:
        return _archives.get(fd, lambda: _read(fd, str(self)))


def _read(fd: int, what: str) -> Contents:
    marks = Marks() if os.pread(fd, len(GZIP), 0) == GZIP else None
    source = PlainFile(fd) if marks is None else GzipFile(fd, what, marks)
    found = _contents_of(source, what)
    found.marks = marks
    return found


def _contents_of(source: ByteSource, what: str) -> Contents:
    tar = read_tar(source, what)
    names = tar.find("manifest.json")
    listed = tar.find("index.json")
    if listed is not None and tar.find("oci-layout") is not None:
        place = f"{what}: its index.json"
        raw = Span(source, listed.start, listed.size).read(INDEX_LIMIT, place)
        return Contents(tar, Index.parse(raw, place))
    if names is None:
        raise ManifestUnsupported(
            f"{what} is no archive of docker save: it has neither a manifest.json nor an OCI layout"
        )
    place = f"{what}: its manifest.json"
    raw = Span(source, names.start, names.size).read(MANIFEST_LIMIT, place)
    return _Maker(source, tar, what).contents(_images(raw, place))


def _images(raw: bytes, what: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise AnswerMalformed(f"{what} is not JSON") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise AnswerMalformed(f"{what} is not a list of images")
    for one in found:
        texts = [one.get("Config"), *_list(one, "Layers", what), *_list(one, "RepoTags", what)]
        if not all(isinstance(text, str) for text in texts):
            raise AnswerMalformed(f"{what} has an image without Config, Layers or RepoTags")
    return found


def _list(image: dict[str, Any], key: str, what: str) -> list[Any]:
    found = image.get(key)
    if found is not None and not isinstance(found, list):
        raise AnswerMalformed(f"{what}: {key} is not a list")
    return found or []


class _Maker:
    """Makes manifests of the images of an older archive."""

    def __init__(self, source: ByteSource, tar: Tar, what: str) -> None:
        self._source = source
        self._what = what
        self._found = Contents(tar, Index(()))
        #: What a compressed layer's digest is, by its place: images share layers.
        self._hashed: dict[Member, str] = {}

    def contents(self, images: list[dict[str, Any]]) -> Contents:
        entries: list[Entry] = []
        for image in images:
            entry = self._entry(image)
            names = image.get("RepoTags") or []
            entries += [replace(entry, tag=tag_of(name), name=name) for name in names] or [entry]
        self._found.index = Index(entries)
        return self._found

    def _entry(self, image: dict[str, Any]) -> Entry:
        member = self._member(image["Config"])
        config = Span(self._source, member.start, member.size).read(MANIFEST_LIMIT, self._what)
        digest = digests.digest_of(config)
        self._found.members[digest] = member
        diffs = self._diffs(config, image["Config"])
        layers = image.get("Layers") or []
        if len(layers) != len(diffs):
            raise AnswerMalformed(
                f"{self._what}: an image has {len(layers)} layers and its config {len(diffs)}"
            )
        data = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest, "size": len(config)},
            "layers": [self._layer(*pair) for pair in zip(layers, diffs, strict=True)],
        }
        raw = json.dumps(data, separators=(",", ":")).encode()
        made = digests.digest_of(raw)
        self._found.made[made] = raw
        return Entry(made, len(raw), OCI_MANIFEST)

    def _layer(self, name: str, diff: str) -> dict[str, Any]:
        member = self._member(name)
        first = (
            self._source.read_at(4, member.start)
            if member.size >= len(b"\x28\xb5\x2f\xfd")
            else b""
        )
        suffix = next((s for magic, s in _SUFFIXES.items() if first.startswith(magic)), "")
        # Of a plain layer the config has the digest; whoever reads the layer verifies it.
        digest = self._digest(member) if suffix else diff
        known = self._found.members.setdefault(digest, member)
        return {"mediaType": f"{_LAYER}{suffix}", "digest": digest, "size": known.size}

    def _digest(self, member: Member) -> str:
        if member not in self._hashed:
            found, at, end = hashlib.sha256(), member.start, member.start + member.size
            while at < end:
                piece = self._source.read_at(min(PIECE, end - at), at)
                if not piece:
                    raise AnswerMalformed(f"{self._what} became shorter while it was read")
                found.update(piece)
                at += len(piece)
            self._hashed[member] = f"sha256:{found.hexdigest()}"
        return self._hashed[member]

    def _member(self, name: str) -> Member:
        found = self._found.tar.find(name)
        if found is None:
            raise AnswerMalformed(f"{self._what} has no member {name[:80]!a}, which it names")
        return found

    def _diffs(self, config: bytes, name: str) -> list[str]:
        place = f"{self._what}: {name[:80]!a}"
        try:
            data = json.loads(config)
        except (ValueError, RecursionError):
            raise AnswerMalformed(f"{place} is not JSON") from None
        rootfs = data.get("rootfs") if isinstance(data, dict) else None
        found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(found, list):
            raise AnswerMalformed(f"{place} names no layers (rootfs.diff_ids)")
        if not all(isinstance(one, str) and digests.is_digest(one) for one in found):
            raise AnswerMalformed(f"{place} names a layer by no digest that can be verified")
        return found
