"""Blobs on their way to a registry: uploads of all forms, and mounts from other repositories.

Nothing here is retried and nothing is hashed while it streams: who copies knows both ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from yarl import URL

from transship.errors import AnswerMalformed, ImageNotFound, UploadLost
from transship_worker.oci import digests
from transship_worker.oci.blobs import check_named, confirm, name_of
from transship_worker.oci.bodies import Stream
from transship_worker.oci.client import Repository
from transship_worker.oci.errors import ERROR_LIMIT
from transship_worker.oci.exchange import Answer, Request
from transship_worker.oci.headers import upload_offset

#: How long a registry may think over the end of an upload: some hash or move it then. Unit: s.
CLOSING_S: Final = 600.0
_OCTETS: Final = "application/octet-stream"


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
        self,
        digest: str,
        body: bytes | Stream | None = None,
        *,
        length: int | None = None,
        size: int | None = None,
    ) -> None:
        """Close the upload with the digest of the whole blob, and with the last bytes of it.

        A registry that does not answer by 201 is asked whether it holds the blob. ``size``: the
        whole blob's, where the upload does not know it; unit: bytes.

        Raises:
            DigestInvalid: what arrived is not the blob, or its digest is of no use there.
            UploadLost: the registry knows the upload no longer, or does not hold the blob.
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
        check_named(answer, digest, self._what)
        if answer.status != 201:
            known = self.offset + (length or 0) or None
            await confirm(self.repository, digest, known if size is None else size, certain=True)

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
        silence_s: float | None = None,
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
    what = f"a mount of {name_of(repository, digest)} from {source}"
    answer = await _post(repository.also_reading(source), query, frozenset({201, 202}), what)
    if answer.status == 202:
        return _opened(repository, answer)
    check_named(answer, digest, what)
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


def _with_query(location: URL, text: str) -> URL:
    """The location with one parameter more; what it had stays byte for byte."""
    bare = str(location)
    return URL(f"{bare}{'&' if location.raw_query_string else '?'}{text}", encoded=True)
