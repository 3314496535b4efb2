"""What a streamed push does in the background loop: blobs, of which the large come in pieces.

A layer goes out in one ``PATCH`` without a length and is closed with its digest. This is how the
Docker Engine sends layers, so that every registry that takes pushes knows it. Where a proxy before
the registry limits the size of a request (``max_body``), it goes out in chunks.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from transship.errors import Denied, PushRejected, RepositoryMissing
from transship_worker.fleet.port import KnownLayer
from transship_worker.oci import blobs, chunks, manifests, uploads
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.oci.digests import digest_of
from transship_worker.oci.tagging import Leased, write_tag

#: Media types that the Docker Engine writes (distribution, "Image Manifest Version 2, Schema 2").
LAYER_TYPE: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
#: Pieces of a layer that are compressed or wait to be sent: what a push holds in memory.
IN_FLIGHT: Final = 12
#: Between two looks whether a full conveyor still moves. Unit: s.
TICK_S: Final = 0.2
#: Blobs that are looked for at once.
LOOKS_AT_ONCE: Final = 16


class Conveyor:
    """Carries a layer's pieces from the thread that reads them to the loop that sends them.

    Made in the loop. ``put`` and ``end`` belong to the one thread, ``pieces`` to the loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Future[bytes] | bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(IN_FLIGHT)

    def put(self, piece: Future[bytes] | bytes, waiting: Callable[[], None]) -> None:
        """Add a piece when there is room; ``waiting`` ends the wait for it by raising."""
        while not self._room.acquire(timeout=TICK_S):
            waiting()
        self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)

    def end(self) -> None:
        """All pieces were added."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces in their order, each when it is ready."""
        while (piece := await self._queue.get()) is not None:
            yield piece if isinstance(piece, bytes) else await asyncio.wrap_future(piece)
            self._room.release()


async def make_conveyor() -> Conveyor:
    """A conveyor, made where it ends."""
    return Conveyor()


async def send_layer(repository: Repository, conveyor: Conveyor) -> Descriptor:
    """Send what a conveyor brings as one blob.

    Raises:
        PushError: the registry refuses, or does not answer.
    """
    max_body = repository.client.endpoint.max_body
    if max_body is not None:
        digest, size = await chunks.send(repository, conveyor.pieces(), max_body=max_body)
        return Descriptor(LAYER_TYPE, digest, size)
    upload = await uploads.start(repository)
    hashed, size = hashlib.sha256(), 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal size
        async for piece in conveyor.pieces():
            hashed.update(piece)
            size += len(piece)
            yield piece

    upload = await upload.patch(body)
    digest = f"sha256:{hashed.hexdigest()}"
    await upload.finish(digest, size=size)
    return Descriptor(LAYER_TYPE, digest, size)


async def present(
    repository: Repository, layers: Mapping[str, KnownLayer]
) -> dict[str, Descriptor]:
    """Those of the known layers, by diff id, that the repository has now.

    What another repository of the registry is said to have is mounted.
    """
    turn = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def look(diff_id: str, layer: KnownLayer) -> tuple[str, bool]:
        async with turn:
            return diff_id, await _have(repository, layer)

    found = await asyncio.gather(*(look(*one) for one in layers.items()))
    return {
        diff_id: Descriptor(LAYER_TYPE, layers[diff_id].digest, layers[diff_id].size)
        for diff_id, there in found
        if there
    }


async def _have(repository: Repository, layer: KnownLayer) -> bool:
    head = await blobs.head(repository, layer.digest)
    if head is not None:
        return head.size in (None, layer.size)
    if layer.repository in ("", repository.name):
        return False
    # A registry that cannot mount, or a login that may not read there, only costs the layer.
    with suppress(Denied, PushRejected, RepositoryMissing):
        upload = await uploads.mount(repository, layer.digest, layer.repository)
        if upload is None:
            return True
        await upload.cancel()
    return False


async def send_image(
    repository: Repository, tag: str, config: bytes, manifest: Manifest, control: Leased
) -> None:
    """Write the config and then the manifest, under the tag.

    Raises:
        BlobMissing: the registry lacks a layer that it had a moment ago.
        PushError: it refuses, or does not answer; the job may not go on.
    """
    await send_small(repository, digest_of(config), config)
    await send_tag(repository, tag, manifest, control)


async def send_small(repository: Repository, digest: str, content: bytes) -> None:
    """Send a blob that is held in memory, unless the repository has it.

    Raises:
        PushError: the registry refuses, or does not answer.
    """
    if await blobs.head(repository, digest, len(content)) is None:
        await _send_content(repository, digest, content)


async def send_tag(repository: Repository, tag: str, manifest: Manifest, control: Leased) -> None:
    """Write a manifest or an index under the tag.

    Raises:
        BlobMissing: the registry lacks something that it names.
        PushError: it refuses, or does not answer; the job may not go on.
    """
    await write_tag(
        control,
        str(repository),
        tag,
        lambda timeout_s: manifests.put(repository, tag, manifest, timeout_s=timeout_s),
    )


async def _send_content(repository: Repository, digest: str, content: bytes) -> None:
    max_body = repository.client.endpoint.max_body
    if max_body is None or len(content) <= max_body:
        await (await uploads.start(repository)).finish(digest, content)
        return

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    await chunks.send(repository, pieces(), max_body=max_body)
