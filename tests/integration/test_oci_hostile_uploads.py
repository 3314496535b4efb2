"""Blobs and uploads at a registry that loses them, lies about them or leads elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.images.registry_client import (
    BLOB,
    EMPTY,
    EMPTY_DIGEST,
    LOGIN,
    MANIFEST,
    UPLOADS,
    asking,
    errors,
    stream,
)
from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import (
    AnswerMalformed,
    BlobMissing,
    Denied,
    DigestInvalid,
    DigestMismatch,
    PushError,
    RegistryUnavailable,
    UploadLost,
)
from transship_worker.oci import blobs, uploads
from transship_worker.oci.client import Repository


async def upload(repository: Repository) -> None:
    opened = await uploads.start(repository)
    await (await opened.patch(EMPTY)).finish(EMPTY_DIGEST)


async def test_a_relative_location_keeps_its_query_byte_for_byte(server: HostileServer) -> None:
    place = {"Location": "/up/1?_state=a%2Fb%3D"}
    server.expect("POST", UPLOADS, Reply(202, headers=place))
    server.expect("PATCH", "/up/1?_state=a%2Fb%3D", Reply(202, headers={"Location": "2?s=%20"}))
    server.expect("PUT", f"/up/2?s=%20&digest={EMPTY_DIGEST}", Reply(201), body=b"")
    await asking(server, upload)


async def test_an_upload_at_another_host_carries_no_login(
    server: HostileServer, other: HostileServer
) -> None:
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    server.expect("POST", UPLOADS, Reply(401, headers=challenge), headers={"Authorization": None})
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": f"{other.base}/up"}))
    other.expect("PATCH", "/up", Reply(202), headers={"Authorization": None})
    other.expect("PUT", f"/up?digest={EMPTY_DIGEST}", Reply(201), headers={"Authorization": None})
    await asking(server, upload, login=LOGIN)


async def test_a_stale_range_after_a_chunk_is_a_lost_upload(server: HostileServer) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/up"}))
    server.expect("PATCH", "/up", Reply(202, headers={"Range": "0-0"}))
    with pytest.raises(UploadLost, match="2 bytes were sent, the registry has 0"):
        await asking(server, upload)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(404, errors("BLOB_UPLOAD_INVALID")), UploadLost),
        (Reply(404), UploadLost),
        (Reply(416), UploadLost),
        (Reply(400, errors("DIGEST_INVALID")), DigestInvalid),
        (Reply(201, headers={"Docker-Content-Digest": MANIFEST.digest}), DigestMismatch),
        (Reply(307, headers={"Location": "/elsewhere"}), AnswerMalformed),
    ],
)
async def test_each_bad_end_of_an_upload_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/up"}))
    plain = {"Content-Length": "2", "Transfer-Encoding": None}
    server.expect("PUT", f"/up?digest={EMPTY_DIGEST}", reply, headers=plain, body=EMPTY)

    async def stream_it(repository: Repository) -> None:
        opened = await uploads.start(repository)
        await opened.finish(EMPTY_DIGEST, lambda: stream(b"{", b"}"), length=2)

    with pytest.raises(kind) as caught:
        await asking(server, stream_it)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (Reply(200, headers={"Content-Length": "2"}), None),
        (Reply(200, headers={"Content-Length": "1"}), UploadLost),
        (Reply(404), UploadLost),
        (Reply(403), Denied),
    ],
)
async def test_the_end_of_an_upload_without_201_is_confirmed(
    server: HostileServer, head: Reply, kind: type[PushError] | None
) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/up"}))
    server.expect("PUT", f"/up?digest={EMPTY_DIGEST}", Reply(204), body=EMPTY)
    server.expect("HEAD", BLOB, head)
    if kind is not None:
        # GET decides where HEAD does not confirm it.
        get = Reply(200, EMPTY[:1]) if head.status == 200 else Reply(head.status)
        server.expect("GET", BLOB, get)

    async def send(repository: Repository) -> None:
        await (await uploads.start(repository)).finish(EMPTY_DIGEST, EMPTY)

    if kind is None:
        await asking(server, send)
        return
    with pytest.raises(kind) as caught:
        await asking(server, send)
    assert type(caught.value) is kind


async def test_what_breaks_at_the_source_is_not_blamed_on_the_target(server: HostileServer) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/up"}))
    server.expect("PATCH", "/up", Reply(hang_up=True), times=1)

    async def broken() -> AsyncIterator[bytes]:
        yield b"{"
        raise RegistryUnavailable("the source broke off")

    async def stream_it(repository: Repository) -> None:
        opened = await uploads.start(repository)
        await opened.patch(broken, length=2)

    with pytest.raises(RegistryUnavailable, match="the source broke off"):
        await asking(server, stream_it)


@pytest.mark.parametrize(("status", "mounted"), [(201, True), (202, False)])
async def test_a_mount_is_done_or_leaves_an_upload_open(
    server: HostileServer, status: int, mounted: bool
) -> None:
    target = f"{UPLOADS}?mount={EMPTY_DIGEST}&from=other%2Frepo"
    server.expect("POST", target, Reply(status, headers={"Location": "/up"}))
    found = await asking(server, lambda r: uploads.mount(r, EMPTY_DIGEST, "other/repo"))
    assert (found is None) == mounted


async def test_an_upload_without_a_place_is_refused(server: HostileServer) -> None:
    server.expect("POST", UPLOADS, Reply(202))
    with pytest.raises(AnswerMalformed, match="without saying where"):
        await asking(server, upload)


async def test_reading_goes_on_from_an_offset_of_the_same_blob(server: HostileServer) -> None:
    part = Reply(206, b"}", {"Content-Range": "bytes 1-1/2", "ETag": '"e"'})
    server.expect("GET", BLOB, part, headers={"Range": "bytes=1-", "If-Range": '"e"'})
    server.expect("GET", BLOB, Reply(200, EMPTY), headers={"Range": "bytes=1-"})

    async def read(repository: Repository) -> list[tuple[int, int | None, bytes]]:
        found = []
        for etag in ('"e"', None):
            async with blobs.read(repository, EMPTY_DIGEST, offset=1, etag=etag) as blob:
                data = b"".join([piece async for piece in blob.pieces()])
                found.append((blob.offset, blob.size, data))
        return found

    assert await asking(server, read) == [(1, 2, b"}"), (0, 2, EMPTY)]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(404), BlobMissing),
        (Reply(404, errors("BLOB_UNKNOWN")), BlobMissing),
        (Reply(200, b"{", length=2), RegistryUnavailable),
        (Reply(200, b"[]"), DigestMismatch),
        (Reply(200, b"{" * 4_096, endless=True), AnswerMalformed),
    ],
)
async def test_each_bad_blob_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    server.expect("GET", BLOB, reply)
    with pytest.raises(kind) as caught:
        await asking(server, lambda r: blobs.fetch(r, EMPTY_DIGEST, limit=1_000))
    assert type(caught.value) is kind
