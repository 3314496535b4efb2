"""The ``index.json`` of a layout: which manifests it holds, and what they are called.

Sources: OCI image-spec, image-layout.md and annotations.md. A tag stands in the annotation
``org.opencontainers.image.ref.name``; some tools write a full reference there, of which the tag
counts, and containerd writes that into an annotation of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Self

from transship.errors import AnswerMalformed, ImageNotFound, InvalidReference
from transship.model.references import ImageReference
from transship_worker.oci import digests
from transship_worker.oci.descriptors import OCI_INDEX, Manifest
from transship_worker.oci.names import is_tag

REF_NAME: Final = "org.opencontainers.image.ref.name"
CONTAINERD_NAME: Final = "io.containerd.image.name"
#: The largest ``index.json``: some 250,000 tags. Unit: bytes.
INDEX_LIMIT: Final = 64 * 1024 * 1024
#: How many names an error shows.
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One descriptor of an index."""

    digest: str
    size: int
    media_type: str
    #: Empty: it has none.
    tag: str = ""
    #: What it is called in full, for messages.
    name: str = ""
    #: As it stands in the file, with what is not understood here.
    raw: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


def tag_of(name: str) -> str:
    """The tag in an annotation: a tag alone, or that of a full reference; empty: none."""
    if is_tag(name):
        return name
    try:
        return ImageReference.parse(name).tagged.tag or ""
    except InvalidReference:
        return ""


class Index:
    """All entries of one ``index.json``. It never changes."""

    def __init__(self, entries: Iterable[Entry], rest: dict[str, Any] | None = None) -> None:
        """``rest``: the file's other keys, kept when it is written."""
        self.entries: Final = tuple(entries)
        self._rest = rest or {}

    @classmethod
    def parse(cls, raw: bytes, what: str) -> Self:
        """Read an ``index.json``; ``what`` names it in messages.

        Raises:
            AnswerMalformed: it breaks the format.
        """
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError):
            raise AnswerMalformed(f"{what} is not JSON") from None
        found = data.get("manifests") if isinstance(data, dict) else None
        if not isinstance(found, list):
            raise AnswerMalformed(f"{what} is no index: it has no list of manifests")
        rest = {key: value for key, value in data.items() if key != "manifests"}
        return cls((_entry(one, f"{what}: manifests[{i}]") for i, one in enumerate(found)), rest)

    def dump(self) -> bytes:
        """As it is written."""
        head = {"schemaVersion": 2, "mediaType": OCI_INDEX, **self._rest}
        data = {**head, "manifests": [entry.raw for entry in self.entries]}
        return json.dumps(data, separators=(",", ":")).encode()

    @cached_property
    def tags(self) -> dict[str, tuple[Entry, ...]]:
        """Entries by tag; several with different digests are ambiguous."""
        found: dict[str, dict[str, Entry]] = {}
        for entry in self.entries:
            if entry.tag:
                found.setdefault(entry.tag, {}).setdefault(entry.digest, entry)
        return {tag: tuple(entries.values()) for tag, entries in found.items()}

    @cached_property
    def untagged(self) -> Entry | None:
        """The only image, if it has no tag; ``None``: there are others, or it has one."""
        digests_of_all = {entry.digest for entry in self.entries}
        return self.entries[0] if len(digests_of_all) == 1 and not self.tags else None

    def find(self, tag: str, what: str) -> Entry | None:
        """The entry of a tag; ``None``: there is none.

        Raises:
            ImageNotFound: several images have the tag, so that it names none of them.
        """
        found = self.tags.get(tag, ())
        if len(found) > 1:
            several = ", ".join(f"{e.name} ({e.digest})" for e in found[:SHOWN])
            raise ImageNotFound(
                f"{what} may be any of {len(found)} images: {several}; name one by its digest"
            )
        return found[0] if found else None

    def described(self) -> str:
        """What there is, for messages."""
        names = sorted(self.tags) or [entry.digest for entry in self.entries]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"there is {', '.join(names[:SHOWN])}{more}" if names else "it is empty"

    def with_manifest(self, manifest: Manifest, tag: str) -> Index:
        """With a manifest under a tag, or without one (empty).

        A tag that moves leaves what it was behind without a tag, as in a registry. Manifests
        without a tag are entries, too, so that no clean-up takes them for left-overs; what an
        index leads to needs none. A size that is wrong is corrected.
        """
        if any(_has_other_size(entry, manifest) for entry in self.entries):
            corrected = (_with_size(entry, manifest) for entry in self.entries)
            return Index(corrected, self._rest).with_manifest(manifest, tag)
        spare = {child.digest for child in manifest.children}
        if tag:
            spare.add(manifest.digest)
        # What has another name stays reachable when the tag is taken from it.
        others = {entry.digest for entry in self.entries if not tag or entry.tag != tag}
        kept: list[Entry] = []
        there = not tag and any(entry.digest == manifest.digest for entry in self.entries)
        for entry in self.entries:
            if not tag or entry.tag != tag:
                if entry.tag or entry.digest not in spare:
                    kept.append(entry)
            elif entry.digest == manifest.digest:
                if not there:
                    kept.append(entry)
                there = True
            elif entry.digest not in others | spare:
                kept.append(_untagged(entry))
                others.add(entry.digest)
        if not there:
            kept.append(_made(manifest, tag))
        return self if tuple(kept) == self.entries else Index(kept, self._rest)


def _has_other_size(entry: Entry, manifest: Manifest) -> bool:
    return entry.digest == manifest.digest and entry.size != len(manifest.raw)


def _with_size(entry: Entry, manifest: Manifest) -> Entry:
    """An entry with the size of its manifest, if it is of this one."""
    if not _has_other_size(entry, manifest):
        return entry
    size = len(manifest.raw)
    return replace(entry, size=size, raw={**entry.raw, "size": size})


def _made(manifest: Manifest, tag: str) -> Entry:
    raw: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.raw),
    }
    if manifest.artifact_type:
        raw["artifactType"] = manifest.artifact_type
    if tag:
        raw["annotations"] = {REF_NAME: tag}
    return Entry(manifest.digest, len(manifest.raw), manifest.media_type, tag, tag, raw)


def _untagged(entry: Entry) -> Entry:
    named = {REF_NAME, CONTAINERD_NAME}
    annotations = {k: v for k, v in entry.raw.get("annotations", {}).items() if k not in named}
    raw = {key: value for key, value in entry.raw.items() if key != "annotations"}
    if annotations:
        raw["annotations"] = annotations
    return Entry(entry.digest, entry.size, entry.media_type, raw=raw)


def _entry(found: object, place: str) -> Entry:
    if not isinstance(found, dict):
        raise AnswerMalformed(f"{place} is not an object")
    digest, size, media_type = found.get("digest"), found.get("size"), found.get("mediaType")
    if not isinstance(digest, str) or not digests.is_digest(digest):
        raise AnswerMalformed(f"{place} has no digest that can be verified: {str(digest)[:80]!a}")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise AnswerMalformed(f"{place} has no size in bytes")
    if not isinstance(media_type, str):
        raise AnswerMalformed(f"{place} has no media type")
    annotations = found.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(map(_is_text, annotations.values())):
        raise AnswerMalformed(f"{place} has annotations that are not texts")
    short, full = annotations.get(REF_NAME, ""), annotations.get(CONTAINERD_NAME, "")
    named = short or full
    return Entry(digest, size, media_type, tag_of(named) if named else "", full or short, found)


def _is_text(value: object) -> bool:
    return isinstance(value, str)
