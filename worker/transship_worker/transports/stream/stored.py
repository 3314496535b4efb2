"""The streamed push of an image as its engine stores it: manifests and blobs, byte for byte.

The containerd image store keeps what was pulled or built, and its export is an OCI image layout of
that (Docker Engine 26.1 and 28.5). So nothing is compressed or written anew here: blobs are sent
as they come and checked by their digests, then manifests, and the manifest or index that the
engine calls its image by last, under the tag. The digest is that of ``docker push``. An index goes
with all that it lists, its attestations too, or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from transship.errors import BlobMissing, DigestMismatch, PushError, PushRejected
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.oci import blobs, manifests
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import MANIFEST_LIMIT, Descriptor, Manifest, parse_manifest
from transship_worker.oci.digests import algorithm_of, digest_of
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.connection import Line
from transship_worker.transports.engine.identity import HeldImage
from transship_worker.transports.stream import upload
from transship_worker.transports.stream.choice import Fallback
from transship_worker.transports.stream.compression import PIECE
from transship_worker.transports.stream.export import Member, members
from transship_worker.transports.stream.sender import Sender, StreamControl

#: JSON of one export that is held in memory until the manifests are known: manifests, configs and
#: attestations. What exceeds it is sent as it comes. Unit: bytes.
HELD_MOST: Final = 32 * 1024 * 1024
#: Manifests of one index, and how deep indexes may lie in each other.
MANIFESTS_MOST: Final = 2_000
DEPTH_MOST: Final = 8


@dataclass(slots=True)
class _Export:
    """What was found in an export."""

    #: By digest, files that may be manifests.
    small: dict[str, bytes] = field(default_factory=dict)
    small_size: int = 0
    #: Blobs that the registry has by now.
    sent: set[str] = field(default_factory=set)


class StoredPush:
    """Pushes one image of a containerd image store to one repository. Made for one use."""

    def __init__(
        self,
        loop: BackgroundLoop,
        engine: Engine,
        repository: Repository,
        control: StreamControl,
        held: HeldImage,
    ) -> None:
        """``held``: what the engine tells of the image."""
        self._engine = engine
        self._repository = repository
        self._control = control
        self._sender = Sender(loop, repository, control)
        self._held = held
        self._done = 0
        self._layers_done = 0

    @property
    def size(self) -> int:
        """What the engine says that the image's blobs have. Unit: bytes."""
        return self._held.size

    @property
    def known_size(self) -> int:
        """Blobs are looked for when they come."""
        return 0

    def look(self) -> None:
        """Find the way to the registry.

        Raises:
            PushError: the worker has none, as its engine may have.
        """
        self._sender.run(self._repository.client.base())

    def push(self, line: Line, image: ImageReference) -> str:
        """Push, and return the digest of the manifest or index that is under the tag now.

        Raises:
            Fallback: the engine does not hold, or does not export, all of the image.
            PushError: what went wrong.
        """
        self._check_whole(line)
        export = _Export()
        with closing(self._engine.export(line, self._held.id)) as pieces:
            for member in members(self._watched(pieces)):
                self._take(member, export)
        tree = self._tree(export)
        for manifest in tree:
            self._blobs_of(manifest, export)
        *children, root = tree
        try:
            for manifest in children:
                self._control.checkpoint()
                self._sender.run(manifests.put(self._repository, manifest.digest, manifest))
            tag = str(image.tag)
            self._sender.run(upload.send_tag(self._repository, tag, root, self._control))
        except BlobMissing as error:
            raise Fallback(error.message) from None
        return root.digest

    def _check_whole(self, line: Line) -> None:
        """Return unless the engine says that it lacks a part (API 1.48); else its export tells."""
        listed = self._engine.manifests(line, self._held.id) or ()
        absent = [str(one) for one in listed if not one.available]
        if absent:
            raise Fallback(f"the engine does not hold all of the index: {absent[0]} is missing")

    def _watched(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            for piece in pieces:
                self._control.alive()
                yield piece
        except PushRejected as error:
            raise Fallback(error.message) from None

    def _take(self, member: Member, export: _Export) -> None:
        """Hold a file that may be a manifest, and send every other blob."""
        digest = member.digest
        if digest is None or digest in export.small or digest in export.sent:
            return
        first = member.read(PIECE)
        room = HELD_MOST - export.small_size
        if first.startswith(b"{") and member.size <= min(MANIFEST_LIMIT, room):
            content = first + member.read()
            _check(digest, digest_of(content, algorithm_of(digest)))
            export.small[digest] = content
            export.small_size += len(content)
            return
        if not self._is_there(digest, member.size):
            self._send(digest, first, member)
        export.sent.add(digest)
        self._tell(member.size, layers=1)

    def _is_there(self, digest: str, size: int) -> bool:
        return self._sender.run(blobs.head(self._repository, digest, size)) is not None

    def _send(self, digest: str, first: bytes, member: Member) -> None:
        """Send one blob whose first bytes were read."""
        if algorithm_of(digest) != "sha256":
            raise Fallback(f"the blob {digest} cannot be sent while it is read")
        hashed = hashlib.sha256()

        def pieces() -> Iterator[bytes]:
            piece = first
            while piece:
                hashed.update(piece)
                yield piece
                self._control.alive()
                piece = member.read(PIECE)
            # Before the upload is closed: what is not the blob is not to become one.
            _check(digest, f"sha256:{hashed.hexdigest()}")

        self._sender.send(pieces())

    def _tree(self, export: _Export) -> list[Manifest]:
        """All manifests, each after those that it lists, the image's own last.

        Raises:
            Fallback: one is not in the export, or there are too many.
        """
        found: dict[str, Manifest] = {}

        def walk(digest: str, media_type: str, depth: int) -> None:
            if digest in found:
                return
            raw = export.small.get(digest)
            if raw is None or depth > DEPTH_MOST or len(found) >= MANIFESTS_MOST:
                what = "more manifests than are sent" if raw is not None else f"not {digest}"
                raise Fallback(f"the engine's export holds {what}")
            try:
                what = f"the engine's {digest}"
                manifest = parse_manifest(raw, what=what, digest=digest, content_type=media_type)
            except PushError as error:
                raise Fallback(error.message) from None
            for child in manifest.children:
                walk(child.digest, child.media_type, depth + 1)
            found[digest] = manifest

        walk(self._held.id, "", 0)
        return list(found.values())

    def _blobs_of(self, manifest: Manifest, export: _Export) -> None:
        """See that the registry has the blobs of one manifest.

        Raises:
            Fallback: one is neither in the export nor at the registry.
        """
        for blob in manifest.blobs:
            if blob.digest not in export.sent:
                self._small_blob(blob, export)
                export.sent.add(blob.digest)

    def _small_blob(self, blob: Descriptor, export: _Export) -> None:
        content = export.small.get(blob.digest)
        if content is not None:
            self._sender.run(upload.send_small(self._repository, blob.digest, content))
            self._tell(len(content), layers=0)
        elif not self._is_there(blob.digest, blob.size):
            raise Fallback(f"the engine's export does not hold the blob {blob.digest}")

    def _tell(self, size: int, *, layers: int) -> None:
        self._done += size
        self._layers_done += layers
        self._control.progress(
            Progress(
                bytes_done=self._done,
                bytes_total=max(self.size, self._done),
                layers_done=self._layers_done,
                layers_total=max(len(self._held.diff_ids), self._layers_done),
            )
        )


def _check(digest: str, actual: str) -> None:
    if actual != digest:
        raise DigestMismatch(f"the engine exported {digest} with the content of {actual}")
