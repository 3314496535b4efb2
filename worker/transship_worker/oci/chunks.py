"""Blobs in chunks of a limited size (distribution-spec 1.1, "Pushing a blob in chunks").

A proxy before a registry may limit the size of a request. The registry says after each chunk how
much it has; bytes that it did not take are sent again, and what it holds is confirmed at the end.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import AsyncIterator
from typing import Final

from transship.errors import PushRejected, UploadLost
from transship_worker.oci import blobs, uploads
from transship_worker.oci.client import Repository
from transship_worker.oci.uploads import Upload

#: The largest chunk of a blob whose size is not known before: it is held in memory. Unit: bytes.
BUFFER: Final = 16 * 1024**2
#: How much of a chunk is given to a connection at once. Unit: bytes.
PIECE: Final = 256 * 1024
#: Times that a registry may take less than was sent of one blob.
LAGS_MOST: Final = 4


def size_for(upload: Upload, max_body: int | None, usual: int) -> int:
    """The size of an upload's chunks, the last one excepted. Unit: bytes.

    Raises:
        PushRejected: the registry wants larger chunks than ``max_body``.
    """
    if max_body is None:
        return max(usual, upload.least_chunk)
    if upload.least_chunk > max_body:
        raise PushRejected(
            f"an upload to {upload.repository}: the registry accepts no chunk below "
            f"{upload.least_chunk} bytes, and max_body is {max_body}"
        )
    return max_body


def counted(lags: int, upload: Upload) -> int:
    """One lag more.

    Raises:
        UploadLost: it is one too many.
    """
    if lags == LAGS_MOST:
        raise UploadLost(
            f"an upload to {upload.repository}: the registry did not take all of a chunk "
            f"{LAGS_MOST + 1} times, and has {upload.offset} bytes"
        )
    return lags + 1


async def send(
    repository: Repository, pieces: AsyncIterator[bytes], *, max_body: int
) -> tuple[str, int]:
    """Send a blob of which neither size nor digest is known; both are returned.

    Args:
        repository: the target.
        pieces: the blob's bytes.
        max_body: the largest body of a request. Unit: bytes.

    Raises:
        PushError: the registry refuses, or does not answer.
    """
    upload = await uploads.start(repository)
    length = size_for(upload, max_body, BUFFER)
    # Memory has a limit, too.
    length = min(length, max(BUFFER, upload.least_chunk))
    hashed, size, lags, buffer = hashlib.sha256(), 0, 0, bytearray()
    async for piece in pieces:
        hashed.update(piece)
        size += len(piece)
        buffer += piece
        while len(buffer) > length:
            upload, lags = await _sent(upload, bytes(buffer[:length]), lags)
            del buffer[:length]
    digest = f"sha256:{hashed.hexdigest()}"
    if size == len(buffer):
        await upload.finish(digest, functools.partial(_pieces, bytes(buffer)), length=size)
        return digest, size
    upload, lags = await _sent(upload, bytes(buffer), lags)
    await upload.finish(digest)
    await blobs.confirm(repository, digest, size)
    return digest, size


async def _sent(upload: Upload, chunk: bytes, lags: int) -> tuple[Upload, int]:
    """Send a chunk until the registry says that it has all of it."""
    while True:
        end = upload.offset + len(chunk)
        body = functools.partial(_pieces, chunk)
        upload = await upload.patch(body, length=len(chunk), may_lag=True)
        missing = end - upload.offset
        if not missing:
            return upload, lags
        lags = counted(lags, upload)
        chunk = chunk[len(chunk) - missing :]


async def _pieces(chunk: bytes) -> AsyncIterator[bytes]:
    """A chunk as a stream, which has a limit of silence and counts for ``bytes_per_second``."""
    for start in range(0, len(chunk), PIECE):
        yield chunk[start : start + PIECE]
