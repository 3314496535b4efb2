"""One blob on its way: breaks on either side, lies of the source, parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.support.images.registry_images import noise, put_blob, repository
from tests.support.images.two_registries import repository_of
from tests.support.proxies.tcp import TcpProxy
from tests.support.scripted_servers.hostile import HostileServer, Reply
from tests.support.servers.registry import Registry
from transship.errors import (
    BlobMissing,
    DigestInvalid,
    DigestMismatch,
    RegistryUnavailable,
    RegistryUnreachable,
)
from transship_worker.oci import blobs, digests, uploads
from transship_worker.oci.content import BlobReader
from transship_worker.oci.descriptors import Descriptor
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy import blob as blob_module
from transship_worker.transports.copy import resume as resume_module
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = pytest.mark.registry

MIB = 1024**2
NAME = "acme/app"
DATA = noise(1000, "a blob")
DIGEST = digests.digest_of(DATA)
#: Another blob, for a test that brings it to the target.
WHOLE = noise(1000, "whole")
BLOB_AT = f"/v2/{NAME}/blobs/{DIGEST}"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks are gone over at once."""
    monkeypatch.setattr(resume_module, "PAUSE_LEAST_S", 0.01)


class Moved:
    """Counts bytes; calls ``then`` once, when there are ``at`` of them."""

    def __init__(self, at: int = 0, then: Callable[[], None] | None = None) -> None:
        self.total = 0
        self.back = 0
        self._at = at
        self._then = then

    def __call__(self, size: int, /) -> None:
        self.total += size
        self.back += min(size, 0)
        if self._then is not None and self.total >= self._at:
            then, self._then = self._then, None
            then()


def description(data: bytes, *, size: int | None = None) -> Descriptor:
    """The descriptor of a blob, or one that is wrong about its size."""
    digest = digests.digest_of(data)
    return Descriptor("application/octet-stream", digest, len(data) if size is None else size)


async def test_a_source_that_breaks_goes_on_where_it_was(
    pool: ClientPool, registries: tuple[Registry, Registry], request: pytest.FixtureRequest
) -> None:
    source, target = registries
    data, name = noise(24 * MIB, request.node.name), repository_of(request)

    await put_blob(repository(pool, source.address, name), data)
    with TcpProxy(source.port) as proxy:
        moved = Moved(8 * MIB, proxy.cut)
        there = repository(pool, target.address, name)
        await RegistryRepository(there).write_blob(
            description(data),
            RegistryRepository(repository(pool, proxy.address, name)),
            moved,
        )
        assert (moved.total, moved.back) == (len(data), 0)
        assert await blobs.head(there, digests.digest_of(data)) is not None
    assert re.search(rf"GET /v2/{name}/blobs/[^ ]* HTTP/1.1\" 206 ", source.log_text())
    puts = re.findall(rf"\"PUT /v2/{name}/blobs/uploads/[^ ]* HTTP/1.1\" 201", target.log_text())
    assert len(puts) == 1


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_digest_that_a_target_refuses_twice_is_refused_for_good(
    pool: ClientPool,
    registries: tuple[Registry, Registry],
    request: pytest.FixtureRequest,
    refusals: int,
) -> None:
    """What was sent is right: once, something on the way may have been wrong."""
    source, name = registries[0], repository_of(request)
    await put_blob(repository(pool, source.address, name), DATA)
    refused = Reply(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
    with HostileServer() as target:
        # Looked for before it is sent again.
        target.expect("HEAD", BLOB_AT, Reply(404))
        target.expect("POST", UPLOADS, Reply(202, headers={"Location": f"{UPLOADS}1"}), times=2)
        place = f"{UPLOADS}1?digest={DIGEST}"
        target.expect("PUT", place, refused, body=DATA, times=refusals)
        if refusals == 1:
            target.expect("PUT", place, Reply(201), body=DATA)
        there = RegistryRepository(repository(pool, target.address, NAME))
        here = RegistryRepository(repository(pool, source.address, name))
        if refusals == 1:
            await there.write_blob(description(DATA), here, Moved())
            return
        with pytest.raises(DigestInvalid):
            await there.write_blob(description(DATA), here, Moved())


async def test_a_target_that_forgets_a_broken_upload_gets_the_blob_again(
    pool: ClientPool, registries: tuple[Registry, Registry], request: pytest.FixtureRequest
) -> None:
    source, target = registries
    data, name = noise(24 * MIB, request.node.name), repository_of(request)

    await put_blob(repository(pool, source.address, name), data)
    with TcpProxy(target.port) as proxy:
        moved = Moved(8 * MIB, proxy.cut)
        await RegistryRepository(repository(pool, proxy.address, name)).write_blob(
            description(data),
            RegistryRepository(repository(pool, source.address, name)),
            moved,
        )
        assert moved.total == len(data)
        assert moved.back <= -8 * MIB
    there = repository(pool, target.address, name)
    assert await blobs.head(there, digests.digest_of(data)) is not None


async def test_a_target_that_stays_away_ends_the_copy_and_takes_back_what_was_told(
    pool: ClientPool, registries: tuple[Registry, Registry], request: pytest.FixtureRequest
) -> None:
    source, target = registries
    data, name = noise(8 * MIB, request.node.name), repository_of(request)

    await put_blob(repository(pool, source.address, name), data)
    with TcpProxy(target.port) as proxy:
        moved = Moved(2 * MIB, proxy.close)
        with pytest.raises((RegistryUnreachable, RegistryUnavailable)):
            await RegistryRepository(repository(pool, proxy.address, name)).write_blob(
                description(data),
                RegistryRepository(repository(pool, source.address, name)),
                moved,
            )
        assert moved.total == 0


async def test_a_large_blob_travels_in_parts_where_the_registry_takes_them(
    pool: ClientPool,
    registries: tuple[Registry, Registry],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = registries
    data, name = noise(5 * MIB + 1, request.node.name), repository_of(request)
    monkeypatch.setattr(blob_module, "WHOLE_MOST", 4 * MIB)
    monkeypatch.setattr(blob_module, "PART", 2 * MIB)

    await put_blob(repository(pool, source.address, name), data)
    there = repository(pool, target.address, name)
    moved = Moved()
    await RegistryRepository(there, chunked=True).write_blob(
        description(data), RegistryRepository(repository(pool, source.address, name)), moved
    )
    assert moved.total == len(data)
    assert await blobs.head(there, digests.digest_of(data)) is not None
    patches = re.findall(
        rf"\"PATCH /v2/{name}/blobs/uploads/[^ ]* HTTP/1.1\" 202", target.log_text()
    )
    assert len(patches) == 3


async def ends(
    pool: ClientPool,
    registries: tuple[Registry, Registry],
    *,
    source: HostileServer | None = None,
    target: HostileServer | None = None,
    chunked: bool = True,
) -> tuple[RegistryRepository, RegistryRepository]:
    """The source, which has ``DATA``, and the target: registries, or scripted servers for them."""
    read, written = (
        repository(pool, (scripted or real).address, NAME)
        for scripted, real in zip((source, target), registries, strict=True)
    )
    if source is None:
        await put_blob(read, DATA)
    return RegistryRepository(read), RegistryRepository(written, chunked=chunked)


async def test_a_target_that_still_knows_the_upload_gets_only_the_rest(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    moved = Moved()

    with HostileServer() as server:
        at = f"{UPLOADS}one"
        server.expect("POST", UPLOADS, Reply(202, headers={"Location": at}))
        server.expect("PUT", f"{at}?digest={DIGEST}", Reply(hang_up=True), body=DATA)
        server.expect("HEAD", BLOB_AT, Reply(404))
        server.expect("GET", at, Reply(204, headers={"Location": f"{at}/2", "Range": "0-399"}))
        server.expect(
            "PATCH",
            f"{at}/2",
            Reply(202, headers={"Location": f"{at}/3", "Range": "0-999"}),
            headers={"Content-Range": "400-999", "Content-Length": "600"},
            body=DATA[400:],
        )
        server.expect("PUT", f"{at}/3?digest={DIGEST}", Reply(201), body=b"")
        source, target = await ends(pool, registries, target=server)
        await target.write_blob(description(DATA), source, moved)
    assert (moved.total, moved.back) == (1000, 0)


async def test_a_target_that_forbids_parts_is_not_asked_where_it_stands(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    with HostileServer() as server:
        for number, reply in enumerate((Reply(hang_up=True), Reply(201))):
            at = f"{UPLOADS}{number}"
            server.expect("POST", UPLOADS, Reply(202, headers={"Location": at}))
            server.expect("PUT", f"{at}?digest={DIGEST}", reply, body=DATA)
        server.expect("HEAD", BLOB_AT, Reply(404))
        source, target = await ends(pool, registries, target=server, chunked=False)
        await target.write_blob(description(DATA), source, Moved())


async def test_a_blob_whose_last_answer_was_lost_is_not_sent_again(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    moved = Moved()

    with HostileServer() as server:
        at = f"{UPLOADS}one"
        server.expect("POST", UPLOADS, Reply(202, headers={"Location": at}))
        server.expect("PUT", f"{at}?digest={DIGEST}", Reply(hang_up=True), body=DATA)
        server.expect("HEAD", BLOB_AT, Reply(200, headers={"Content-Length": "1000"}))
        # It says no of what nobody has.
        server.follow(BLOB_AT.rpartition(":")[0], lambda _: Reply(404))
        source, target = await ends(pool, registries, target=server)
        await target.write_blob(description(DATA), source, moved)
    assert moved.total == 1000


async def test_a_refused_mount_of_a_blob_that_is_there_teaches_that_mounts_are_refused(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    with HostileServer() as server:
        mount = f"{UPLOADS}?mount={DIGEST}&from=acme%2Fbase"
        server.expect("POST", mount, Reply(202, headers={"Location": f"{UPLOADS}one"}))
        server.expect("HEAD", f"/v2/acme/base/blobs/{DIGEST}", Reply(200))
        _, target = await ends(pool, registries, target=server)
        assert await target.mount(DIGEST, "acme/base") is not None
        assert not target.can_mount


async def refused(
    pool: ClientPool,
    registries: tuple[Registry, Registry],
    reply: Reply,
    blob: Descriptor,
    match: str,
) -> None:
    """A source that answers so makes no blob."""
    with HostileServer() as server:
        server.expect("GET", f"/v2/{NAME}/blobs/{blob.digest}", reply)
        source, target = await ends(pool, registries, source=server)
        moved = Moved()
        with pytest.raises(DigestMismatch, match=match):
            await target.write_blob(blob, source, moved)
        assert moved.total == 0
        assert await target.blob_head(blob.digest) is None


async def test_other_bytes_of_the_same_length_make_no_blob(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    wrong = hashlib.sha256(b"x" * 1000).hexdigest()
    await refused(
        pool, registries, Reply(body=b"x" * 1000), description(DATA), f"is sha256:{wrong}"
    )


@pytest.mark.parametrize("size", [999, 1001])
async def test_another_length_than_the_descriptors_is_refused_at_once(
    pool: ClientPool, registries: tuple[Registry, Registry], size: int
) -> None:
    blob = description(DATA, size=size)
    await refused(pool, registries, Reply(body=DATA), blob, f"has 1000 bytes, not {size}")


async def test_a_body_without_end_is_left_at_the_descriptors_size(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    await refused(
        pool, registries, Reply(body=DATA, endless=True), description(DATA), "more than 1000 bytes"
    )


class Unmeasured(RegistryRepository):
    """A fake source: it gives these bytes and says no length, as chunked encoding does."""

    data = b""

    @asynccontextmanager
    async def blob(
        self, digest: str, *, offset: int = 0, etag: str | None = None
    ) -> AsyncIterator[BlobReader]:
        yield Given(self.data)


@dataclass(frozen=True)
class Given:
    """These bytes."""

    data: bytes
    offset: int = 0
    size: int | None = None
    etag: str | None = None
    breaks_at: int | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), 100):
            if start == self.breaks_at:
                raise RegistryUnavailable("it broke")
            yield self.data[start : start + 100]


@pytest.mark.parametrize(
    ("data", "match"),
    [(DATA[:-1], "ended after 999 bytes, not 1000"), (DATA + b"!", "more than 1000 bytes")],
)
async def test_a_body_without_a_length_is_counted(
    pool: ClientPool, registries: tuple[Registry, Registry], data: bytes, match: str
) -> None:
    source, target = await ends(pool, registries)
    fake = Unmeasured(source._repository)
    fake.data = data
    with pytest.raises(DigestMismatch, match=match):
        await target.write_blob(description(DATA), fake, Moved())
    assert await target.blob_head(DIGEST) is None


async def test_no_bytes_are_a_blob_only_under_their_own_digest(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    source, target = await ends(pool, registries)
    await target.write_blob(description(b""), source, Moved())
    assert await target.blob_head(digests.digest_of(b"")) is not None
    with pytest.raises(DigestMismatch):
        await target.write_blob(description(b"other", size=0), source, Moved())


async def test_a_blob_that_the_source_lacks_is_named(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    source, target = await ends(pool, registries)
    with pytest.raises(BlobMissing):
        await target.write_blob(description(b"never put"), source, Moved())


class Whole(RegistryRepository):
    """A fake source: it breaks once, after 300 bytes, and then gives all from the first byte."""

    asked: list[tuple[int, str | None]]

    @asynccontextmanager
    async def blob(
        self, digest: str, *, offset: int = 0, etag: str | None = None
    ) -> AsyncIterator[BlobReader]:
        self.asked.append((offset, etag))
        yield Given(WHOLE, etag='"one"', breaks_at=300 if len(self.asked) == 1 else None)


async def test_a_source_without_parts_begins_again_and_nothing_is_sent_twice(
    pool: ClientPool, registries: tuple[Registry, Registry]
) -> None:
    source, target = await ends(pool, registries)
    fake = Whole(source._repository)
    fake.asked = []
    moved = Moved()
    await target.write_blob(description(WHOLE), fake, moved)
    assert await target.blob_head(digests.digest_of(WHOLE)) is not None
    assert fake.asked == [(0, None), (300, '"one"')]
    assert (moved.total, moved.back) == (1000, 0)


async def test_a_source_that_always_breaks_ends_the_copy(
    pool: ClientPool, registries: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume_module, "BREAKS_MOST", 2)
    data = b"always breaks" * 100
    blob = description(data)

    with HostileServer() as server:
        reply = Reply(body=b"", length=len(data))
        server.expect("GET", f"/v2/{NAME}/blobs/{blob.digest}", reply, times=3)
        source, target = await ends(pool, registries, source=server)
        with pytest.raises(RegistryUnavailable):
            await target.write_blob(blob, source, Moved())
        assert await target.blob_head(blob.digest) is None


class Counted(RegistryRepository):
    """A fake source of a large blob; it counts what is taken of it."""

    taken = 0

    @asynccontextmanager
    async def blob(
        self, digest: str, *, offset: int = 0, etag: str | None = None
    ) -> AsyncIterator[BlobReader]:
        yield Large(self)


@dataclass(frozen=True)
class Large:
    """Bytes without end."""

    counted: Counted
    offset: int = 0
    size: int | None = None
    etag: str | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        piece = noise(256 * 1024)
        while True:
            self.counted.taken += len(piece)
            yield piece


async def test_a_target_that_stops_taking_pauses_the_source(
    pool: ClientPool, registries: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_module, "UPLOAD_BREAKS_MOST", 0)
    # How long a target may take nothing; then the copy ends and what was taken is counted.
    monkeypatch.setattr(uploads, "CLOSING_S", 0.5)
    size = 1024 * MIB

    source = Counted(repository(pool, registries[0].address, NAME))
    with TcpProxy(registries[1].port) as proxy:
        target = RegistryRepository(repository(pool, proxy.address, NAME))
        moved = Moved(2 * MIB, proxy.hang)
        with pytest.raises(RegistryUnavailable):
            await target.write_blob(description(b"large", size=size), source, moved)
    # What fits into the buffers of sockets on the way.
    assert 2 * MIB < source.taken < 64 * MIB
