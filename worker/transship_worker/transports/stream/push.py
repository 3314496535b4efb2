"""The fast push, for one job: what the engine exports is compressed here and sent by us.

The engine compresses on one core, and exports several times as fast as that. So the worker reads
the export, compresses the layers that the registry lacks in as many threads as there are cores,
and streams them there. The image is the same: its config is the engine's, byte for byte, and so
are the layers' diff ids. Blob and manifest digests differ from those of the engine's own push, as
the compression does. Nothing is written to a disk here (the engine writes its export to its own).

For stores that keep no manifest: ``stored`` sends what the containerd image store holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from transship.errors import BlobMissing, DigestMismatch, RateLimited
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.fleet.port import KnownLayer, Memory, scoped
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import DOCKER_MANIFEST, Descriptor, Manifest
from transship_worker.oci.digests import digest_of
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.connection import Line
from transship_worker.transports.engine.identity import HeldImage
from transship_worker.transports.stream import upload
from transship_worker.transports.stream.choice import Fallback
from transship_worker.transports.stream.compression import PIECE, Squeezer
from transship_worker.transports.stream.config import diff_ids_of
from transship_worker.transports.stream.export import SMALL_MOST, Member, members
from transship_worker.transports.stream.sender import Sender, StreamControl

#: A layer that is no larger is sent once more rather than recognised: many have one size. Unit:
#: bytes.
SMALL_LAYER: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StreamGrounds:
    """What all streamed pushes of a process share."""

    loop: BackgroundLoop
    memory: Memory
    #: Threads that compress.
    squeezers: ThreadPoolExecutor


@dataclass(slots=True)
class _Found:
    """What is known of the image so far."""

    #: By diff id, what the registry holds.
    layers: dict[str, Descriptor]
    #: By diff id, what to remember.
    known: dict[str, KnownLayer]
    #: Sizes of the tars of large layers that the registry held before: an export tells a layer's
    #: size before its content, and its diff id only with its end. Unit: bytes.
    sizes: frozenset[int]
    config: bytes | None = None


class StreamPush:
    """Pushes one image of one engine to one repository. Made for one use."""

    def __init__(
        self,
        grounds: StreamGrounds,
        engine: Engine,
        repository: Repository,
        control: StreamControl,
        held: HeldImage,
        *,
        scope: str = "",
    ) -> None:
        """A push for one job.

        ``held``: what the engine tells of the image; its store identifies it by its config.
        ``scope``: whose hints about layers serve it; empty: those of the whole fleet.
        """
        self._scope = scope
        self._grounds = grounds
        self._engine = engine
        self._repository = repository
        self._control = control
        self._sender = Sender(grounds.loop, repository, control)
        self._image_id = held.id
        #: As the engine lists them; the config decides.
        self._diff_ids = list(held.diff_ids)
        self._size = held.size
        self._known: dict[str, KnownLayer] = {}
        self._done = 0
        self._layers_done = 0

    @property
    def registry(self) -> str:
        """What hints are kept by: see ``scoped``."""
        return scoped(self._repository.client.endpoint.registry, self._scope)

    @property
    def size(self) -> int:
        """What the engine says that the image's files have. Unit: bytes."""
        return self._size

    @property
    def known_size(self) -> int:
        """How much of it was streamed to the registry before. Unit: bytes."""
        return sum(layer.tar_size for layer in self._known.values())

    def look(self) -> None:
        """Ask what the fleet remembers of this image's layers there.

        Raises:
            PushError: the worker has no way to the registry, as its engine may have.
        """
        self._sender.run(self._repository.client.base())
        memory = self._grounds.memory
        self._known = self._sender.run(memory.layers(self.registry, set(self._diff_ids)))

    def push(self, line: Line, image: ImageReference) -> str:
        """Push, and return the digest of the manifest that is under the tag now.

        Raises:
            Fallback: it cannot be done so.
            PushError: what went wrong.
        """
        there = self._sender.run(upload.present(self._repository, self._known))
        known = {diff_id: self._known[diff_id] for diff_id in there}
        sizes = frozenset(one.tar_size for one in known.values() if one.tar_size > SMALL_LAYER)
        found = _Found(there, known, sizes)
        try:
            self._read(line, found)
        except RateLimited:
            # A body that was streamed cannot be sent again: another export brings what is left.
            self._remember(found, None)
            raise
        manifest = self._manifest(found)
        config, tag = found.config or b"", str(image.tag)
        try:
            self._sender.run(
                upload.send_image(self._repository, tag, config, manifest, self._control)
            )
        except BlobMissing as error:
            raise Fallback(error.message) from None
        self._remember(found, (self._image_id, manifest.digest))
        return manifest.digest

    def _remember(self, found: _Found, image: tuple[str, str] | None) -> None:
        memory, name = self._grounds.memory, self._repository.name
        self._sender.run(memory.remember(self.registry, name, image, found.known))

    def _read(self, line: Line, found: _Found) -> None:
        """Send all layers of the export that the registry lacks, and find the config."""
        with closing(self._engine.export(line, self._image_id)) as pieces:
            for member in members(self._watched(pieces)):
                if member.is_layer(self._diff_ids):
                    self._layer(member, found)
                elif found.config is None and member.size <= SMALL_MOST:
                    text = member.read()
                    if digest_of(text) == self._image_id:
                        found.config = text
        if found.config is None:
            raise Fallback("the engine's export does not hold the image's config")
        if diff_ids_of(found.config) != self._diff_ids:
            raise Fallback("the image's config has other layers than the engine lists")
        absent = [diff_id for diff_id in self._diff_ids if diff_id not in found.layers]
        if absent:
            raise Fallback(f"the engine's export does not hold the layer {absent[0]}")

    def _watched(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._control.alive()
            yield piece

    def _layer(self, member: Member, found: _Found) -> None:
        """Send one layer, unless it is recognised as one that is there."""
        if member.size in found.sizes:
            diff_id = self._hashed(member)
            if diff_id not in found.layers:
                raise Fallback("two layers have one size, and the registry lacks one of them")
        else:
            diff_id, blob = self._sent(member)
            if diff_id not in self._diff_ids:
                raise DigestMismatch(f"the engine exported {diff_id}, which is not in the image")
            found.layers[diff_id] = blob
            found.known[diff_id] = KnownLayer(
                blob.digest, blob.size, member.size, self._repository.name
            )
        self._layers_done += 1
        self._tell(0)

    def _hashed(self, member: Member) -> str:
        hashed = hashlib.sha256()
        while piece := member.read(PIECE):
            hashed.update(piece)
            self._tell(len(piece))
        return f"sha256:{hashed.hexdigest()}"

    def _sent(self, member: Member) -> tuple[str, Descriptor]:
        """Send one layer; its diff id and the blob that it became."""
        hashed, squeezer = hashlib.sha256(), Squeezer(self._grounds.squeezers)

        def pieces() -> Iterator[Future[bytes] | bytes]:
            yield squeezer.head()
            while piece := member.read(PIECE):
                hashed.update(piece)
                yield squeezer.piece(piece)
                self._tell(len(piece))
            yield squeezer.tail()

        blob = self._sender.send(pieces())
        return f"sha256:{hashed.hexdigest()}", blob

    def _tell(self, size: int) -> None:
        self._done += size
        layers = len(set(self._diff_ids))
        self._control.progress(
            Progress(
                bytes_done=self._done,
                # A tar is larger than the files in it, which is what the engine counts.
                bytes_total=max(self._size, self._done),
                layers_done=self._layers_done,
                layers_total=layers,
            )
        )

    def _manifest(self, found: _Found) -> Manifest:
        config = found.config or b""
        value = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": Descriptor(upload.CONFIG_TYPE, self._image_id, len(config)).as_json(),
            "layers": [found.layers[diff_id].as_json() for diff_id in self._diff_ids],
        }
        raw = json.dumps(value, separators=(",", ":")).encode()
        return Manifest(raw, DOCKER_MANIFEST, digest_of(raw))
