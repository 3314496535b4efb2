"""Blobs at a registry: looked at, confirmed, read from any offset. ``uploads`` writes them.

Nothing here is retried, and only ``fetch`` hashes what it reads: who copies knows both ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp

from transship.errors import (
    AnswerMalformed,
    BlobMissing,
    Denied,
    DigestMismatch,
    ImageNotFound,
    PushRejected,
    UploadLost,
)
from transship_worker.oci import digests
from transship_worker.oci.bodies import timely
from transship_worker.oci.budget import metered
from transship_worker.oci.client import Repository
from transship_worker.oci.errors import unanswered
from transship_worker.oci.exchange import Answer, Request
from transship_worker.oci.headers import content_range
from transship_worker.oci.honesty import can_say_no
from transship_worker.oci.learned import HEAD_REFUSED, HEAD_UNSUPPORTED


@dataclass(frozen=True, slots=True)
class BlobHead:
    """A blob that a registry says it holds."""

    digest: str
    #: Unit: bytes; ``None``: it did not say.
    size: int | None


@dataclass(frozen=True, slots=True)
class BlobStream:
    """A blob that is being read."""

    #: Where its first byte lies; zero although more was asked for where the registry does not
    #: give parts, or has another blob than the one with the ETag. Unit: bytes.
    offset: int
    #: Size of the whole blob; ``None``: not told. Unit: bytes.
    size: int | None
    etag: str | None
    _response: aiohttp.ClientResponse
    _repository: Repository
    _what: str

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes as they come.

        Raises:
            RegistryUnavailable: it broke off, or was silent for too long.
        """
        client = self._repository.client
        try:
            async for piece in metered(client.governor, timely(self._response.content)):
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise unanswered(error, self._response.url, client.speaker, self._what) from error


async def head(repository: Repository, digest: str, size: int | None = None) -> BlobHead | None:
    """Whether a repository holds a blob; ``None``: it does not, or does not say.

    What is said to have another digest, or another size than ``size`` bytes, is another blob, or
    a part of this one: it counts as not there, so that it is sent.

    Some registries refuse the method, or what is not there yet. Then an upload decides; where
    HEAD is not known it is not tried again for some time.

    Raises:
        PushError: the registry refuses the login, or does not answer.
    """
    heads = repository.client.learned.blob_heads
    if heads.useless:
        return None
    answer = await repository.client.ask(await _look(repository, digest), limit=0)
    if answer.status in HEAD_UNSUPPORTED:
        heads.unsupported()
    heads.says_no = heads.says_no or answer.status == 404
    if answer.status != 200 or not _is_called(answer, digest):
        return None
    if not await can_say_no(repository, heads, "blobs"):
        return None
    held = _size(answer.headers)
    return BlobHead(digest, held) if size is None or held in (None, size) else None


def _is_called(answer: Answer, digest: str) -> bool:
    """Whether a registry calls what it has by this digest, or by none that can be compared."""
    said = answer.headers.get("Docker-Content-Digest", "")
    if not digests.is_digest(said) or digests.algorithm_of(said) != digests.algorithm_of(digest):
        return True
    return said == digest


async def _look(repository: Repository, digest: str) -> Request:
    return Request(
        "HEAD",
        await repository.url(f"blobs/{digests.checked(digest)}"),
        repository.scopes,
        name_of(repository, digest),
        expected=frozenset({200, 404}) | HEAD_REFUSED,
    )


@asynccontextmanager
async def read(
    repository: Repository, digest: str, *, offset: int = 0, etag: str | None = None
) -> AsyncIterator[BlobStream]:
    """Read a blob, from ``offset`` on if it still has the ETag. Its bytes are not verified.

    Raises:
        BlobMissing: the repository does not hold it.
        PushError: the registry refuses, or does not answer.
    """
    what = name_of(repository, digest)
    headers = {"Accept": "*/*"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if etag is not None and not etag.startswith("W/"):
            # A weak one may not stand here (RFC 9110, 13.1.5).
            headers["If-Range"] = etag
    request = Request(
        "GET",
        await repository.url(f"blobs/{digests.checked(digest)}"),
        repository.scopes,
        what,
        headers=headers,
        expected=frozenset({200, 206} if offset else {200}),
        total_s=None,
    )
    try:
        async with repository.client.open(request) as response:
            start, size = 0, _size(response.headers)
            if response.status == 206:
                found = content_range(response.headers.get("Content-Range", ""))
                if found is None or found[0] != offset:
                    raise AnswerMalformed(f"{what}: asked from byte {offset}, got another part")
                start, size = found[0], found[2]
            yield BlobStream(start, size, response.headers.get("ETag"), response, repository, what)
    except ImageNotFound as error:
        raise BlobMissing(error.message) from error.__cause__


async def confirm(
    repository: Repository, digest: str, size: int | None, *, certain: bool = False
) -> None:
    """Return if a repository holds all of a blob that was sent, of this size where it is known.

    GET decides where HEAD is refused or says something else. Where the registry answers neither to
    this login nothing is known, which is an error if it must be ``certain``.

    Raises:
        DigestMismatch: the registry calls it by another digest.
        UploadLost: it does not hold the blob, or another number of bytes. Unit: bytes.
        PushError: the registry does not answer.
    """
    what = name_of(repository, digest)
    with suppress(Denied, PushRejected):
        answer = await repository.client.ask(await _look(repository, digest), limit=0)
        if answer.status == 200:
            check_named(answer, digest, what)
            if size is None or _size(answer.headers) in (None, size):
                return
    try:
        async with read(repository, digest) as stream:
            if size is not None and stream.size not in (None, size):
                raise UploadLost(f"{what}: {size} bytes were sent, the registry has {stream.size}")
    except BlobMissing:
        raise UploadLost(
            f"{what}: its upload was closed, and the registry does not have it"
        ) from None
    except (Denied, PushRejected):
        if certain:
            raise


async def look_for(repository: Repository, digest: str) -> None:
    """Return if a repository holds a blob. GET decides where HEAD finds nothing, or never did.

    Nothing is known where the registry lets this login read neither.

    Raises:
        BlobMissing: it does not hold it.
        PushError: the registry does not answer.
    """
    with suppress(Denied, PushRejected):
        proven = repository.client.learned.blob_heads.says_no
        if proven and await head(repository, digest) is not None:
            return
        async with read(repository, digest):
            return


async def fetch(repository: Repository, digest: str, *, limit: int) -> bytes:
    """A small blob, verified: a config, an attestation.

    Raises:
        DigestMismatch: what came is not what was asked for.
        AnswerMalformed: it is larger than ``limit`` bytes.
        PushError: the registry refuses, or does not answer.
    """
    found, hashed = bytearray(), digests.new_hash(digests.checked(digest))
    async with read(repository, digest) as stream:
        async for piece in stream.pieces():
            found += piece
            hashed.update(piece)
            if len(found) > limit:
                raise AnswerMalformed(f"{name_of(repository, digest)} has more than {limit} bytes")
    digests.verify(hashed, digest, name_of(repository, digest))
    return bytes(found)


def check_named(answer: Answer, digest: str, what: str) -> None:
    """Return if an answer names a blob by this digest, by one of another algorithm, or by none.

    Raises:
        DigestMismatch: it names another one of the same algorithm.
    """
    said = answer.headers.get("Docker-Content-Digest", "")
    same_kind = digests.algorithm_of(said) == digests.algorithm_of(digest)
    if digests.is_digest(said) and same_kind and said != digest:
        raise DigestMismatch(f"{what}: the registry has {said}, not {digest}")


def _size(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None


def name_of(repository: Repository, digest: str) -> str:
    """A blob, for messages: ``host/repository@digest``."""
    return f"{repository}@{digest}"
