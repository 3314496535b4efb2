"""Whether a registry holds what it says it holds: told by reading some of it.

A registry may answer an upload by 201 and lose the blob, or ``HEAD`` by 200 for what nobody can
read. To read everything once more would double the traffic: the first of each kind are read, then
few by chance, and again more after one that was not there (``learned.Sampling``).
"""

from __future__ import annotations

from typing import Final

from transship.errors import (
    BlobMissing,
    Denied,
    ImageNotFound,
    PushRejected,
    RepositoryMissing,
)
from transship_worker.oci import blobs, manifests
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.errors import refusal_of
from transship_worker.oci.manifests import ManifestHead

#: Blobs of one image that are read.
BLOBS_MOST: Final = 8
#: What a registry answers to who asks for bytes beyond the end.
_TOO_FAR: Final = 416


async def has_blob(repository: Repository, digest: str, size: int) -> bool:
    """Whether the last byte of a blob can be read. Unit: bytes.

    ``True`` also where this login may not read: then nothing is known.

    Raises:
        PushError: the registry does not answer.
    """
    try:
        async with blobs.read(repository, digest, offset=max(0, size - 1)) as stream:
            if stream.size not in (None, size):
                return False
            async for piece in stream.pieces():
                if piece:
                    return True
            return size == 0
    except BlobMissing:
        if await blobs.head(repository, digest) is not None:
            # It would be taken for there again: from now on blobs are sent without a look.
            repository.client.learned.blob_heads.unsupported()
        return False
    except (Denied, PushRejected) as error:
        refusal = refusal_of(error)
        return refusal is None or refusal.status != _TOO_FAR


async def has_image(repository: Repository, digest: str) -> bool:
    """Whether a manifest can be read, and the first blobs that it names.

    Of an index, those of its first manifest. ``True`` also where this login may not read.

    Raises:
        PushError: the registry does not answer, or what it has is not what it is called.
    """
    try:
        found = await _read(repository, digest)
        if found is not None and found.children:
            found = await _read(repository, found.children[0].digest)
    except (Denied, PushRejected):
        return True
    if found is None:
        return False
    for blob in found.blobs[:BLOBS_MOST]:
        if not await has_blob(repository, blob.digest, blob.size):
            return False
    return True


async def confirmed(
    repository: Repository, reference: str, head: ManifestHead
) -> ManifestHead | None:
    """What ``HEAD`` said of a manifest, or for some of them, what ``GET`` says.

    ``HEAD`` stands where this login may not read it.

    Raises:
        PushError: the registry does not answer, or what it has is not what it is called.
    """
    learned = repository.client.learned
    if learned.manifest_heads.useless or not learned.planned.takes():
        return head
    try:
        found = await _read(repository, reference)
    except (Denied, PushRejected):
        return head
    if found is None:
        # From now on GET is asked at once.
        learned.planned.bad()
        learned.manifest_heads.unsupported()
        return None
    return ManifestHead(found.digest, found.media_type, len(found.raw))


async def _read(repository: Repository, reference: str) -> Manifest | None:
    try:
        return await manifests.get(repository, reference, stored=False)
    except (ImageNotFound, RepositoryMissing):
        return None
