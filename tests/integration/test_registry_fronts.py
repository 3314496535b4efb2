"""Registries below a path, and behind a proxy that limits the size of a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.registry_images import image, noise, put_blob, put_image, repository
from tests.support.proxies.front import Front
from tests.support.scripted_servers.hostile import HostileServer, Reply
from tests.support.servers.registry import Registry
from transship.errors import (
    BodyTooLarge,
    DigestMismatch,
    PushError,
    PushRejected,
    RegistryUnavailable,
    UploadLost,
)
from transship_worker.credentials.access import Credentials
from transship_worker.oci import blobs, chunks, digests, manifests, tags, uploads
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import Descriptor
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy.registry import RegistryRepository
from transship_worker.transports.stream import upload

pytestmark = pytest.mark.registry

KIB = 1024
PREFIX = "/repository/x/"
#: What the proxy accepts at most. Unit: bytes.
LIMIT = 64 * KIB
NAME = "acme/app"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"


@pytest.fixture(scope="module")
def prefixed() -> Iterator[Registry]:
    """A registry that knows its path."""
    with Registry(prefix=PREFIX) as registry:
        yield registry


@pytest.fixture(scope="module", params=["removed", "passed on"])
def below(
    request: pytest.FixtureRequest, plain_registry: Registry, prefixed: Registry
) -> Iterator[Front]:
    """A registry below a path that the proxy removes, and one below a path that it passes on."""
    strips = request.param == "removed"
    target = plain_registry if strips else prefixed
    with Front(target.port, prefix=PREFIX, strips=strips) as front:
        yield front


async def test_a_registry_below_a_path_is_asked_there_alone(pool: ClientPool, below: Front) -> None:
    # The registry's name is another one than the proxy's, as in a catalog.
    client = pool.client(Endpoint("registry.example.com", endpoint=below.endpoint))
    await client.ping()
    one, two = (client.repository(f"fronts/{name}", writing=True) for name in ("one", "two"))
    layers = [noise(20_000, f"front{n}") for n in range(2)]
    made = image(*layers)
    # Uploads go where the ``Location`` leads.
    await put_image(one, made, *layers, b"{}", tag="v1")
    await put_image(one, made, tag="v2")
    assert (await manifests.get(one, "v1")).digest == made.digest
    assert await blobs.fetch(one, digests.digest_of(layers[0]), limit=30_000) == layers[0]
    assert await uploads.mount(two, digests.digest_of(layers[1]), "fronts/one") is None
    assert await blobs.head(two, digests.digest_of(layers[1])) is not None
    assert [name async for page in tags.tags(one, page_size=1) for name in page] == ["v1", "v2"]
    # Pages go where the ``Link`` leads.
    names = [name async for page in tags.repositories(client, page_size=1) for name in page]
    assert {"fronts/one", "fronts/two"} <= set(names)
    wrong = [one.path for one in below.asked if not one.path.startswith(f"{PREFIX}v2/")]
    assert wrong == []


async def test_a_login_is_used_below_a_path(pool: ClientPool, basic_registry: Registry) -> None:
    login = Credentials(USER, SecretStr(PASSWORD))
    with Front(basic_registry.port, prefix=PREFIX) as front:
        client = pool.client(Endpoint("registry.example.com", endpoint=front.endpoint), login)
        there = client.repository("fronts/login", writing=True)
        await put_blob(there, b"with a login")
        assert await blobs.head(there, digests.digest_of(b"with a login")) is not None


@pytest.mark.parametrize(
    ("realm", "asked"),
    [
        # Its own API's, which lies below the path; one that has the path; another server's.
        ("{base}/v2/token", "/repository/x/v2/token"),
        ("/v2/token", "/repository/x/v2/token"),
        ("{base}/repository/x/v2/token", "/repository/x/v2/token"),
        ("{base}/auth/token", "/auth/token"),
    ],
)
async def test_a_token_server_of_the_registry_is_asked_below_the_path(
    pool: ClientPool, realm: str, asked: str
) -> None:
    login = Credentials(USER, SecretStr(PASSWORD))
    with HostileServer() as server:
        bearer = f'Bearer realm="{realm.format(base=server.base)}",service="s"'
        server.expect("GET", "/repository/x/v2/", Reply(401, headers={"WWW-Authenticate": bearer}))
        server.follow(asked, lambda _: Reply(200, b'{"token": "t0k3n"}'))
        right = {"Authorization": "Bearer t0k3n"}
        server.expect("GET", "/repository/x/v2/", Reply(200), headers=right)
        endpoint = Endpoint("registry.example.com", endpoint=f"{server.base}/repository/x")
        await pool.client(endpoint, login).ping()


def limited(pool: ClientPool, front: Front, max_body: int | None, name: str) -> Repository:
    endpoint = Endpoint("registry.example.com", endpoint=front.endpoint, max_body=max_body)
    return pool.client(endpoint).repository(name, writing=True)


async def in_pieces(data: bytes, size: int = 7_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class OneLayer:
    """Stands for the conveyor of a streamed push."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pieces(self) -> AsyncIterator[bytes]:
        return in_pieces(self._data)


def description(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", digests.digest_of(data), len(data))


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT, 3 * LIMIT + 5, 0])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_blob_goes_in_chunks_of_max_body(
    pool: ClientPool, plain_registry: Registry, size: int, streamed: bool
) -> None:
    name, data = f"chunks/{size}-{streamed}".lower(), noise(size, f"{size}{streamed}")
    source = repository(pool, plain_registry.address, f"{name}/source")
    await put_blob(source, data)
    with Front(plain_registry.port, max_body=LIMIT) as front:
        target = limited(pool, front, LIMIT, name)
        if streamed:
            sent = await upload.send_layer(target, OneLayer(data))  # type: ignore[arg-type]
            assert (sent.digest, sent.size) == (digests.digest_of(data), size)
        else:
            moved: list[int] = []
            written = RegistryRepository(target, chunked=False)
            await written.write_blob(description(data), RegistryRepository(source), moved.append)
            assert sum(moved) == size
        assert max(one.size for one in front.asked) <= LIMIT
        parts = -(-size // LIMIT) if size > LIMIT else 0
        assert front.count("PATCH") == parts
        # Size and digest are looked at only where chunks were sent.
        assert front.count("HEAD") == (1 if parts else 0)
    there = repository(pool, plain_registry.address, name)
    assert await blobs.fetch(there, digests.digest_of(data), limit=size) == data


@pytest.mark.parametrize(("max_body", "sent"), [(None, 1), (2 * LIMIT, 1)])
@pytest.mark.parametrize("streamed", [False, True])
async def test_413_ends_at_the_first_attempt_and_names_max_body(
    pool: ClientPool, plain_registry: Registry, max_body: int | None, sent: int, streamed: bool
) -> None:
    data = noise(4_000_000, "large")
    source = repository(pool, plain_registry.address, "limits/source")
    await put_blob(source, data)
    with Front(plain_registry.port, max_body=LIMIT) as front:
        target = limited(pool, front, max_body, "limits/target")
        there, moved = RegistryRepository(target, chunked=True), list[int]().append
        if streamed:
            sending: Any = upload.send_layer(target, OneLayer(data))  # type: ignore[arg-type]
        else:
            sending = there.write_blob(description(data), RegistryRepository(source), moved)
        with pytest.raises(BodyTooLarge) as caught:
            await sending
        assert front.count("PATCH") + front.count("PUT") == sent
    assert not caught.value.retryable
    assert "set max_body of the component to a size that it accepts" in caught.value.message


async def test_a_large_config_of_a_streamed_push_goes_in_chunks_too(
    pool: ClientPool, plain_registry: Registry
) -> None:
    config = noise(LIMIT * 2, "config")
    with Front(plain_registry.port, max_body=LIMIT) as front:
        target = limited(pool, front, LIMIT, "limits/config")
        await upload._send_content(target, digests.digest_of(config), config)
        assert await blobs.head(target, digests.digest_of(config)) is not None


async def sent_to(server: HostileServer, data: bytes, source: Repository, streamed: bool) -> None:
    async with ClientPool({}) as pool:
        endpoint = Endpoint(server.address, endpoint=server.base, max_body=400)
        target = pool.client(endpoint).repository(NAME, writing=True)
        if streamed:
            await chunks.send(target, in_pieces(data, 70), max_body=400)
        else:
            there = RegistryRepository(target)
            await there.write_blob(description(data), RegistryRepository(source), lambda _: None)


def chunk(number: int, reached: int) -> tuple[str, Reply]:
    """An upload's address, and what it answers there."""
    answer = {"Location": f"{UPLOADS}{number + 1}", "Range": f"0-{reached - 1}"}
    return f"{UPLOADS}{number}", Reply(202, headers=answer)


@pytest.mark.parametrize("streamed", [False, True])
async def test_bytes_that_a_registry_did_not_take_are_sent_again(
    pool: ClientPool, plain_registry: Registry, streamed: bool
) -> None:
    data = noise(1000, f"lags{streamed}")
    source = repository(pool, plain_registry.address, "lags/source")
    await put_blob(source, data)
    digest = digests.digest_of(data)
    with HostileServer() as server:
        server.expect("POST", UPLOADS, Reply(202, headers={"Location": f"{UPLOADS}0"}))
        # From, to, and how much the registry says that it has then. A stream sends what is missing
        # of its chunk, a copy the next chunk from there on.
        steps = [(0, 400, 150)]
        if streamed:
            steps += [(150, 400, 400), (400, 800, 800), (800, 1000, 1000)]
        else:
            steps += [(150, 550, 550), (550, 950, 950), (950, 1000, 1000)]
        for number, (start, end, has) in enumerate(steps):
            place, reply = chunk(number, has)
            headers = {"Content-Range": f"{start}-{end - 1}", "Content-Length": str(end - start)}
            server.expect("PATCH", place, reply, headers=headers, body=data[start:end])
        last = f"{UPLOADS}{len(steps)}?digest={digest}"
        server.expect("PUT", last, Reply(201), body=b"")
        found = Reply(200, headers={"Content-Length": "1000"})
        server.expect("HEAD", f"/v2/{NAME}/blobs/{digest}", found)
        await sent_to(server, data, source, streamed)


async def test_a_registry_that_never_takes_all_of_a_chunk_is_given_up() -> None:
    data = noise(1000, "never")
    with HostileServer() as server:
        server.expect("POST", UPLOADS, Reply(202, headers={"Location": f"{UPLOADS}0"}))
        for number in range(chunks.LAGS_MOST + 1):
            place, reply = chunk(number, 100)
            server.expect("PATCH", place, reply)
        async with ClientPool({}) as pool:
            endpoint = Endpoint(server.address, endpoint=server.base, max_body=400)
            target = pool.client(endpoint).repository(NAME, writing=True)
            with pytest.raises(UploadLost, match="did not take all of a chunk 5 times"):
                await chunks.send(target, in_pieces(data), max_body=400)


BLOB_SIZE = 600
SIZED = {"Content-Length": f"{BLOB_SIZE}"}
OTHER = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}


async def confirmed(
    closing: Mapping[str, str], head: Reply | None = None, get: Reply | None = None
) -> None:
    """A blob in two chunks, at a registry that answers so at the end."""
    data = noise(BLOB_SIZE, "confirmed")
    digest = digests.digest_of(data)
    with HostileServer() as server:
        server.expect("POST", UPLOADS, Reply(202, headers={"Location": f"{UPLOADS}0"}))
        for number, has in enumerate((400, BLOB_SIZE)):
            place, reply = chunk(number, has)
            server.expect("PATCH", place, reply)
        server.expect("PUT", f"{UPLOADS}2?digest={digest}", Reply(201, headers=closing))
        for method, answer in (("HEAD", head), ("GET", get)):
            if answer is not None:
                server.expect(method, f"/v2/{NAME}/blobs/{digest}", answer)
        async with ClientPool({}) as pool:
            endpoint = Endpoint(server.address, endpoint=server.base, max_body=400)
            target = pool.client(endpoint).repository(NAME, writing=True)
            await chunks.send(target, in_pieces(data), max_body=400)


@pytest.mark.parametrize(
    ("closing", "head", "get", "kind", "match"),
    [
        ({}, Reply(404), Reply(404), UploadLost, "does not have it"),
        ({}, Reply(200, headers={"Content-Length": "599"}), Reply(200, b"x" * 599), UploadLost,
         "600 bytes were sent, the registry has 599"),
        ({}, Reply(405), Reply(200, b"x" * 601), UploadLost, "the registry has 601"),
        (OTHER, None, None, DigestMismatch, "the registry has sha256:000"),
        ({}, Reply(200, headers={**SIZED, **OTHER}), None, DigestMismatch, "sha256:000"),
        ({}, Reply(500), None, RegistryUnavailable, "500"),
    ],
)  # fmt: skip
async def test_size_and_digest_are_confirmed_after_chunks(
    closing: Mapping[str, str],
    head: Reply | None,
    get: Reply | None,
    kind: type[PushError],
    match: str,
) -> None:
    with pytest.raises(kind, match=match):
        await confirmed(closing, head, get)


@pytest.mark.parametrize(
    ("head", "get"),
    [
        (Reply(200, headers=SIZED), None),
        # HEAD is refused, or says nothing, or something else; GET is right.
        (Reply(405), Reply(200, b"x" * BLOB_SIZE)),
        (Reply(403), Reply(200, b"x" * BLOB_SIZE)),
        (Reply(404), Reply(200, b"x" * BLOB_SIZE)),
        (Reply(200, headers={"Content-Length": "0"}), Reply(200, b"x" * BLOB_SIZE)),
        # A login that may not read.
        (Reply(403), Reply(403)),
    ],
)
async def test_get_decides_where_head_is_of_no_use(head: Reply, get: Reply | None) -> None:
    await confirmed({}, head, get)


async def test_a_registry_that_wants_larger_chunks_than_max_body_is_refused() -> None:
    with HostileServer() as server:
        opened = {"Location": f"{UPLOADS}0", "OCI-Chunk-Min-Length": "5000"}
        server.expect("POST", UPLOADS, Reply(202, headers=opened))
        async with ClientPool({}) as pool:
            endpoint = Endpoint(server.address, endpoint=server.base, max_body=400)
            target = pool.client(endpoint).repository(NAME, writing=True)
            with pytest.raises(
                PushRejected, match="no chunk below 5000 bytes, and max_body is 400"
            ):
                await chunks.send(target, in_pieces(b"x" * 500), max_body=400)
