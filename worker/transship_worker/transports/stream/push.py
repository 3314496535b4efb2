"""The fast push, for one job: what the engine exports is compressed here and sent by us.

The engine compresses on one core, and exports several times as fast as that. So the worker reads
the export, compresses the layers that the registry lacks in as many threads as there are cores,
and streams them there. The image is the same: its config is the engine's, byte for byte, and so
are the layers' diff ids. Blob and manifest digests differ from those of the engine's own push, as
the compression does. Nothing is written to a disk here (the engine writes its export to its own).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from transship.errors import BlobMissing, DigestMismatch, HandedBack
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_worker.concurrency.loop import BackgroundLoop, Running
from transship_worker.fleet.port import KnownLayer, Memory
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import DOCKER_MANIFEST, Descriptor, Manifest
from transship_worker.oci.digests import digest_of
from transship_worker.oci.tagging import Leased
from transship_worker.oci.waiting import telling
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.connection import Line
from transship_worker.transports.port import JobControl
from transship_worker.transports.stream import upload
from transship_worker.transports.stream.choice import Fallback
from transship_worker.transports.stream.compression import PIECE, Squeezer
from transship_worker.transports.stream.export import SMALL_MOST, Member, members

T = TypeVar("T")

#: A layer that is no larger is sent once more rather than recognised: many have one size. Unit:
#: bytes.
SMALL_LAYER: Final = 1024 * 1024


class StreamControl(JobControl, Leased, Protocol):
    """What a streamed push asks of its job."""


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
        inspected: Mapping[str, Any],
    ) -> None:
        """``inspected``: what the engine tells of the image."""
        self._grounds = grounds
        self._engine = engine
        self._repository = repository
        self._control = control
        self._image_id = str(inspected["Id"])
        self._diff_ids = [str(one) for one in inspected["RootFS"].get("Layers") or []]
        self._size = int(inspected.get("Size") or 0)
        self._known: dict[str, KnownLayer] = {}
        self._done = 0
        self._layers_done = 0

    @property
    def registry(self) -> str:
        """``host[:port]``, as hints are kept by."""
        return self._repository.client.endpoint.registry

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
        self._run(self._repository.client.base())
        memory = self._grounds.memory
        self._known = self._run(memory.layers(self.registry, set(self._diff_ids)))

    def push(self, line: Line, image: ImageReference) -> str:
        """Push, and return the digest of the manifest that is under the tag now.

        Raises:
            Fallback: it cannot be done so.
            PushError: what went wrong.
        """
        there = self._run(upload.present(self._repository, self._known))
        known = {diff_id: self._known[diff_id] for diff_id in there}
        sizes = frozenset(one.tar_size for one in known.values() if one.tar_size > SMALL_LAYER)
        found = _Found(there, known, sizes)
        self._read(line, found)
        manifest = self._manifest(found)
        config, tag = found.config or b"", str(image.tag)
        try:
            self._run(upload.send_image(self._repository, tag, config, manifest, self._control))
        except BlobMissing as error:
            raise Fallback(error.message) from None
        self._run(
            self._grounds.memory.remember(
                self.registry,
                self._repository.name,
                (self._image_id, manifest.digest),
                found.known,
            )
        )
        return manifest.digest

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
        if found.config is None or not set(self._diff_ids) <= found.layers.keys():
            raise Fallback("the engine's export does not hold all of the image")

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
        conveyor = self._run(upload.make_conveyor())
        running = self._start(upload.send_layer(self._repository, conveyor))
        hashed, squeezer = hashlib.sha256(), Squeezer(self._grounds.squeezers)

        def waiting() -> None:
            self._control.checkpoint()
            if running.done:
                # It ended before all was sent: this raises why.
                running.result()
                raise Fallback("the registry took a layer for whole before it was")

        try:
            with self._control.closing(running.cancel):
                conveyor.put(squeezer.head(), waiting)
                while piece := member.read(PIECE):
                    hashed.update(piece)
                    conveyor.put(squeezer.piece(piece), waiting)
                    self._tell(len(piece))
                conveyor.end(squeezer.tail())
                return f"sha256:{hashed.hexdigest()}", self._result(running)
        finally:
            running.cancel()

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

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in the background loop; a job that is stopped ends it."""
        running = self._start(work)
        with self._control.closing(running.cancel):
            return self._result(running)

    def _start(self, work: Coroutine[Any, Any, T]) -> Running[T]:
        """Start something there; a request that waits for the registry's rate is no stall."""
        return self._grounds.loop.start(telling(self._control.alive, work))

    def _result(self, running: Running[T]) -> T:
        try:
            return running.result()
        except CancelledError:
            self._control.checkpoint()
            raise HandedBack("the worker's event loop stopped") from None
