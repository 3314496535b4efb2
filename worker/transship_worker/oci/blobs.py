"""Blobs at a registry: looked at, read from any offset, mounted, uploaded.

Nothing here is retried and nothing is hashed while it streams: who copies knows both ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import aiohttp
from yarl import URL

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
from transship_worker.oci.bodies import SILENCE_S, Stream
from transship_worker.oci.budget import metered
from transship_worker.oci.client import Repository
from transship_worker.oci.errors import ERROR_LIMIT, unanswered
from transship_worker.oci.exchange import Answer, Request
from transship_worker.oci.headers import content_range, upload_offset
from transship_worker.oci.learned import HEAD_REFUSED, HEAD_UNSUPPORTED

#: How long a registry may think over the end of an upload: some hash or move it then. Unit: s.
CLOSING_S: Final = 600.0
_OCTETS: Final = "application/octet-stream"


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
            async for piece in metered(client.governor, self._response.content.iter_any()):
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
    if answer.status != 200 or not _is_called(answer, digest):
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
        _name(repository, digest),
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
    what = _name(repository, digest)
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


async def confirm(repository: Repository, digest: str, size: int) -> None:
    """Return if a repository holds all of a blob that was sent in chunks.

    GET decides where HEAD is refused or says something else. Nothing is known where the registry
    answers neither to this login.

    Raises:
        DigestMismatch: the registry calls it by another digest.
        UploadLost: it does not hold the blob, or another number of bytes. Unit: bytes.
        PushError: the registry does not answer.
    """
    what = _name(repository, digest)
    with suppress(Denied, PushRejected):
        answer = await repository.client.ask(await _look(repository, digest), limit=0)
        if answer.status == 200:
            _confirmed(answer, digest, what)
            if _size(answer.headers) in (None, size):
                return
    try:
        async with read(repository, digest) as stream:
            if stream.size not in (None, size):
                raise UploadLost(f"{what}: {size} bytes were sent, the registry has {stream.size}")
    except BlobMissing:
        raise UploadLost(
            f"{what}: its upload was closed, and the registry does not have it"
        ) from None
    except (Denied, PushRejected):
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
                raise AnswerMalformed(f"{_name(repository, digest)} has more than {limit} bytes")
    digests.verify(hashed, digest, _name(repository, digest))
    return bytes(found)


@dataclass(frozen=True, slots=True)
class Upload:
    """An open upload; each request gives the next value, which alone is good for going on."""

    repository: Repository
    #: Carries the session's state, which is nobody else's business.
    location: URL = field(repr=False)
    #: Bytes that the registry says it has. Unit: bytes.
    offset: int = 0
    #: A chunk but the last may not be smaller (``OCI-Chunk-Min-Length``). Unit: bytes.
    least_chunk: int = 0

    async def patch(
        self, body: bytes | Stream, *, length: int | None = None, may_lag: bool = False
    ) -> Upload:
        """Send bytes: a chunk where ``length`` says how many, else all of a stream's.

        A stream without a length carries no ``Content-Range``: this is how the Docker Engine
        sends whole blobs, also to registries that forbid chunks.

        With ``may_lag`` the upload that is returned may have a smaller offset than was sent: the
        registry says that it did not take the rest, which is to be sent again.

        Raises:
            UploadLost: the registry knows the upload no longer, or at another offset.
            PushError: it refuses, or does not answer.
        """
        headers = {"Content-Type": _OCTETS}
        if isinstance(body, bytes):
            length = len(body)
        if length is not None:
            headers["Content-Length"] = str(length)
        if length:
            headers["Content-Range"] = f"{self.offset}-{self.offset + length - 1}"
        answer = await self._send(
            "PATCH", self.location, body, headers, expected=frozenset({201, 202, 204})
        )
        reached = upload_offset(answer.headers.get("Range", ""))
        if length is not None:
            expected = self.offset + length
            # ECR's answer tells a stale Range (aws/containers-roadmap#2831): going on would
            # leave a hole.
            if reached is None or expected <= 1:
                reached = expected
            if reached != expected and not (may_lag and self.offset <= reached < expected):
                raise UploadLost(
                    f"{self._what}: {expected} bytes were sent, the registry has {reached}"
                )
        return self._next(answer, reached or 0)

    async def finish(
        self, digest: str, body: bytes | Stream | None = None, *, length: int | None = None
    ) -> None:
        """Close the upload with the digest of the whole blob, and with the last bytes of it.

        Raises:
            DigestInvalid: what arrived is not the blob, or its digest is of no use there.
            UploadLost: the registry knows the upload no longer.
            PushError: the registry refuses, or does not answer.
        """
        headers = {"Content-Length": "0"}
        if body is not None:
            headers = {"Content-Type": _OCTETS}
            if isinstance(body, bytes):
                length = len(body)
            if length is not None:
                headers["Content-Length"] = str(length)
                if self.offset and length:
                    headers["Content-Range"] = f"{self.offset}-{self.offset + length - 1}"
        url = _with_query(self.location, f"digest={quote(digests.checked(digest), safe=':')}")
        answer = await self._send(
            "PUT", url, body, headers, expected=frozenset({201, 204}), silence_s=CLOSING_S
        )
        _confirmed(answer, digest, self._what)

    async def status(self) -> Upload:
        """Where the registry stands.

        Raises:
            UploadLost: it has forgotten the upload; distribution 2.8 does after a broken request.
            PushError: it refuses, or does not answer.
        """
        answer = await self._send("GET", self.location, None, {}, expected=frozenset({204}))
        reached = upload_offset(answer.headers.get("Range", ""))
        if reached is None:
            raise UploadLost(f"{self._what}: the registry does not say how much it has")
        return self._next(answer, reached)

    async def cancel(self) -> None:
        """Let the registry forget the upload; it may refuse.

        Raises:
            PushError: it did; nothing is left to be done.
        """
        await self._send(
            "DELETE", self.location, None, {}, expected=frozenset({200, 202, 204, 404, 405})
        )

    @property
    def _what(self) -> str:
        return f"an upload to {self.repository}"

    async def _send(
        self,
        method: str,
        url: URL,
        body: bytes | Stream | None,
        headers: Mapping[str, str],
        *,
        expected: frozenset[int],
        silence_s: float = SILENCE_S,
    ) -> Answer:
        request = Request(
            method,
            url,
            self.repository.scopes,
            self._what,
            headers=headers,
            body=body,
            expected=expected,
            total_s=None,
            silence_s=silence_s,
        )
        try:
            return await self.repository.client.ask(request, limit=ERROR_LIMIT)
        except ImageNotFound as error:
            # A bare 404 of the upload's own place.
            raise UploadLost(error.message) from error.__cause__

    def _next(self, answer: Answer, offset: int) -> Upload:
        location = answer.headers.get("Location")
        place = self.location
        if location:
            place = self.repository.client.resolve(location, answer.url)
        return Upload(self.repository, place, offset, self.least_chunk)


async def start(repository: Repository, *, algorithm: str = "sha256") -> Upload:
    """Open an upload.

    Raises:
        RepositoryMissing: the repository does not exist and is not created so.
        PushError: the registry refuses, or does not answer.
    """
    # distribution-spec 1.1, end-4c.
    query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
    opened = await _post(repository, query, frozenset({202}), f"an upload to {repository}")
    return _opened(repository, opened)


async def mount(repository: Repository, digest: str, source: str) -> Upload | None:
    """Take a blob over from another repository of the registry.

    ``None``: it is there now. An upload: it was not mounted, and the upload can be used.
    Two mounts of one blob into one repository at once can corrupt distribution 2.8's link
    to it: one at a time is the caller's business.

    Raises:
        PushError: the registry refuses, or does not answer.
    """
    checked = quote(digests.checked(digest), safe=":")
    query = f"?mount={checked}&from={quote(source, safe='')}"
    what = f"a mount of {_name(repository, digest)} from {source}"
    answer = await _post(repository.also_reading(source), query, frozenset({201, 202}), what)
    if answer.status == 202:
        return _opened(repository, answer)
    _confirmed(answer, digest, what)
    return None


async def _post(repository: Repository, query: str, expected: frozenset[int], what: str) -> Answer:
    request = Request(
        "POST",
        await repository.url(f"blobs/uploads/{query}"),
        repository.scopes,
        what,
        headers={"Content-Length": "0"},
        expected=expected,
    )
    return await repository.client.ask(request, limit=ERROR_LIMIT)


def _opened(repository: Repository, answer: Answer) -> Upload:
    location = answer.headers.get("Location")
    if not location:
        raise AnswerMalformed(f"{repository}: an upload was opened without saying where")
    least = answer.headers.get("OCI-Chunk-Min-Length", "")
    return Upload(
        repository,
        repository.client.resolve(location, answer.url),
        least_chunk=int(least) if least.isascii() and least.isdigit() and len(least) < 16 else 0,
    )


def _confirmed(answer: Answer, digest: str, what: str) -> None:
    """The registry may name the digest in another algorithm; in the same it must be equal."""
    said = answer.headers.get("Docker-Content-Digest", "")
    same_kind = digests.algorithm_of(said) == digests.algorithm_of(digest)
    if digests.is_digest(said) and same_kind and said != digest:
        raise DigestMismatch(f"{what}: the registry has {said}, not {digest}")


def _with_query(location: URL, text: str) -> URL:
    """The location with one parameter more; what it had stays byte for byte."""
    bare = str(location)
    return URL(f"{bare}{'&' if location.raw_query_string else '?'}{text}", encoded=True)


def _size(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None


def _name(repository: Repository, digest: str) -> str:
    return f"{repository}@{digest}"
