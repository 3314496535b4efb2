"""The registry client against distribution 2.8: plain, with logins, with TLS, through proxies."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from yarl import URL

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, make_manifest, stream
from tests.support.processes import eventually
from tests.support.scripted_servers.hostile import HostileServer, Reply
from tests.support.servers.certificates import Authority
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer
from transship.errors import (
    BlobMissing,
    Denied,
    DigestInvalid,
    ImageNotFound,
    RegistryUnavailable,
    RegistryUnreachable,
    RegistryUntrusted,
    RepositoryMissing,
    UploadLost,
)
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.credentials.access import Access, Credentials
from transship_worker.oci import blobs, digests, manifests, referrers, tags, uploads
from transship_worker.oci.client import RegistryClient, Repository
from transship_worker.oci.descriptors import OCI_INDEX, Manifest, parse_manifest
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.exchange import Answer, Request
from transship_worker.oci.pool import ClientPool

pytestmark = pytest.mark.registry

LOGIN = Credentials(USER, SecretStr(PASSWORD))
NUMBERS = itertools.count(1)
LAYER = b"layer" * 50_000
LAYER_DIGEST = digests.digest_of(LAYER)


@pytest.fixture(scope="module")
def pool(loop: BackgroundLoop) -> Iterator[ClientPool]:
    async def make() -> ClientPool:
        return ClientPool({})

    made = loop.run(make())
    yield made
    loop.run(made.close())


def fresh(client: RegistryClient) -> Repository:
    """A repository that nobody wrote to so far."""
    return client.repository(f"oci/r{next(NUMBERS)}", writing=True)


async def write_blob(repository: Repository, data: bytes) -> str:
    digest = digests.digest_of(data)
    opened = await uploads.start(repository)
    await opened.finish(digest, lambda: stream(data[:10], data[10:]), length=len(data))
    return digest


async def write_image(repository: Repository, *names: str, **fields: object) -> Manifest:
    await write_blob(repository, EMPTY)
    image = make_manifest(**fields)
    for name in names or (image.digest,):
        await manifests.put(repository, name, image)
    return image


@pytest.mark.parametrize("kind", ["plain", "basic", "token"])
def test_an_image_is_written_and_read_back_equal(
    kind: str, loop: BackgroundLoop, pool: ClientPool, request: pytest.FixtureRequest
) -> None:
    registry: Registry = request.getfixturevalue(f"{kind}_registry")

    async def work() -> None:
        client = pool.client(Endpoint(registry.address), None if kind == "plain" else LOGIN)
        await client.ping()
        repository = fresh(client)
        assert await blobs.head(repository, LAYER_DIGEST) is None
        await write_blob(repository, LAYER)
        head = await blobs.head(repository, LAYER_DIGEST)
        assert head == blobs.BlobHead(LAYER_DIGEST, len(LAYER))
        image = await write_image(repository, "1", "2")
        assert await manifests.get(repository, "1") == image
        assert await manifests.get(repository, image.digest) == image
        found = await manifests.head(repository, "2")
        assert found == manifests.ManifestHead(image.digest, image.media_type, len(image.raw))
        # distribution 2.8 gives them in no order.
        assert [sorted(page) async for page in tags.tags(repository)] == [["1", "2"]]
        assert registry.digest(repository.name, "1") == image.digest
        assert registry.blob(repository.name, LAYER_DIGEST) == LAYER

    loop.run(work())


def test_a_blob_is_streamed_from_one_registry_to_another(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry, token_registry: Registry
) -> None:
    async def work() -> str:
        source = fresh(pool.client(Endpoint(plain_registry.address)))
        target = fresh(pool.client(Endpoint(token_registry.address), LOGIN))
        await write_blob(source, LAYER)
        hashed = hashlib.sha256()
        async with blobs.read(source, LAYER_DIGEST) as found:
            assert found.size == len(LAYER)

            async def pieces() -> AsyncIterator[bytes]:
                async for piece in found.pieces():
                    hashed.update(piece)
                    yield piece

            opened = await (await uploads.start(target)).patch(pieces)
        assert opened.offset == len(LAYER)
        await opened.finish(LAYER_DIGEST)
        return target.name

    name = loop.run(work())
    assert token_registry.blob(name, LAYER_DIGEST) == LAYER


def test_an_upload_in_chunks_goes_on_from_what_the_registry_has(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry
) -> None:
    async def work() -> bytes:
        repository = fresh(pool.client(Endpoint(plain_registry.address)))
        opened = await (await uploads.start(repository)).patch(LAYER[:1_000])
        opened = await opened.status()
        assert opened.offset == 1_000
        await opened.finish(LAYER_DIGEST, LAYER[1_000:])
        async with blobs.read(repository, LAYER_DIGEST, offset=len(LAYER) - 5) as found:
            assert found.offset == len(LAYER) - 5
            return b"".join([piece async for piece in found.pieces()])

    assert loop.run(work()) == LAYER[-5:]


def test_an_empty_blob_is_a_blob(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry
) -> None:
    async def work() -> bytes:
        repository = fresh(pool.client(Endpoint(plain_registry.address)))
        empty = digests.digest_of(b"")
        opened = await (await uploads.start(repository)).patch(b"")
        await opened.finish(empty)
        assert await blobs.head(repository, empty) == blobs.BlobHead(empty, 0)
        return await blobs.fetch(repository, empty, limit=0)

    assert loop.run(work()) == b""


def test_a_blob_is_mounted_with_a_token_for_both_repositories(
    loop: BackgroundLoop, pool: ClientPool, token_registry: Registry, token_server: TokenServer
) -> None:
    async def work() -> tuple[Repository, Repository]:
        client = pool.client(Endpoint(token_registry.address), LOGIN)
        source, target = fresh(client), fresh(client)
        await write_blob(source, LAYER)
        assert await uploads.mount(target, LAYER_DIGEST, source.name) is None
        assert await blobs.head(target, LAYER_DIGEST) is not None
        missing = digests.digest_of(b"nowhere")
        opened = await uploads.mount(target, missing, source.name)
        assert opened is not None
        await opened.finish(missing, b"nowhere")
        return source, target

    source, target = loop.run(work())
    asked = {frozenset(scopes.split()) for _, scopes in token_server.requests}
    both = {f"repository:{source.name}:pull", f"repository:{target.name}:pull,push"}
    assert frozenset(both) in asked


def test_an_upload_that_was_cancelled_or_refused_is_lost(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry
) -> None:
    async def cancelled() -> None:
        repository = fresh(pool.client(Endpoint(plain_registry.address)))
        opened = await (await uploads.start(repository)).patch(LAYER)
        await opened.cancel()
        await opened.status()

    async def wrong() -> None:
        repository = fresh(pool.client(Endpoint(plain_registry.address)))
        opened = await (await uploads.start(repository)).patch(LAYER)
        await opened.finish(EMPTY_DIGEST)

    with pytest.raises(UploadLost):
        loop.run(cancelled())
    with pytest.raises(DigestInvalid, match="DIGEST_INVALID"):
        loop.run(wrong())


def test_what_is_not_there_is_told_apart(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry
) -> None:
    async def work() -> None:
        client = pool.client(Endpoint(plain_registry.address))
        repository = fresh(client)
        with pytest.raises(ImageNotFound, match=f"there is no {repository}:1"):
            await manifests.get(repository, "1")
        with pytest.raises(BlobMissing):
            await blobs.fetch(repository, EMPTY_DIGEST, limit=10)
        with pytest.raises(RepositoryMissing):
            [page async for page in tags.tags(repository)]
        with pytest.raises(BlobMissing, match="MANIFEST_BLOB_UNKNOWN"):
            await manifests.put(repository, "1", make_manifest())

    loop.run(work())


def test_repositories_and_tags_are_listed_in_pages(loop: BackgroundLoop, pool: ClientPool) -> None:
    with Registry() as registry:

        async def work() -> tuple[list[list[str]], list[list[str]]]:
            client = pool.client(Endpoint(registry.address))
            for name in ("a", "b/c", "d"):
                await write_image(client.repository(name, writing=True), "x", "y")
            listed = [page async for page in tags.repositories(client, page_size=2)]
            return listed, [page async for page in tags.tags(client.repository("a"), page_size=1)]

        listed, found = loop.run(work())
    assert listed[0] == ["a", "b/c"]
    assert [name for page in listed for name in page] == ["a", "b/c", "d"]
    # distribution 2.8 gives all tags at once, whatever it is asked.
    assert [sorted(page) for page in found] == [["x", "y"]]


@pytest.mark.parametrize("kind", ["plain", "basic", "token"])
def test_a_long_list_of_tags_takes_one_request_more(
    kind: str,
    loop: BackgroundLoop,
    pool: ClientPool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry: Registry = request.getfixturevalue(f"{kind}_registry")
    asked: list[str] = []

    async def work() -> list[list[str]]:
        client = pool.client(Endpoint(registry.address), None if kind == "plain" else LOGIN)
        short, long = fresh(client), fresh(client)
        await write_image(short, *(f"v{number:02}" for number in range(49)))
        await write_image(long, *(f"v{number:02}" for number in range(50)))
        ask = client.ask

        async def counted(request: Request, **options: Any) -> Answer:
            asked.append(request.about)
            return await ask(request, **options)

        monkeypatch.setattr(client, "ask", counted)
        found = [[tag async for page in tags.tags(one) for tag in page] for one in (short, long)]
        asked.sort()
        assert asked == sorted([f"the tags of {short}"] + 2 * [f"the tags of {long}"])
        return found

    found = loop.run(work())
    assert [sorted(names) for names in found] == [
        [f"v{number:02}" for number in range(count)] for count in (49, 50)
    ]


def test_referrers_are_kept_under_the_tag_where_the_registry_has_no_api(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry
) -> None:
    async def work() -> None:
        repository = fresh(pool.client(Endpoint(plain_registry.address)))
        image = await write_image(repository, "1")
        subject = image.descriptor.as_json()
        assert (await referrers.referrers(repository, image.digest)).manifests == ()
        signed = []
        for number in ("1", "2", "2"):
            signature = await write_image(
                repository, subject=subject, artifactType="x/sig", annotations={"n": number}
            )
            signed.append(signature.digest)
            await referrers.attach(repository, signature)
        found = await referrers.referrers(repository, image.digest)
        assert found.by_tag
        assert [d.digest for d in found.manifests] == signed[:2]
        assert [d.artifact_type for d in found.manifests] == ["x/sig", "x/sig"]
        cosign = f"{referrers.fallback_tag(image.digest)}.sig"
        await write_image(repository, cosign)
        assert list(await referrers.cosign_tags(repository, image.digest)) == [cosign]
        index = await manifests.get(repository, referrers.fallback_tag(image.digest))
        assert index.media_type == OCI_INDEX

    loop.run(work())


def test_a_wrong_and_a_missing_login_are_denied(
    loop: BackgroundLoop, pool: ClientPool, basic_registry: Registry, token_registry: Registry
) -> None:
    async def get(registry: Registry, login: Credentials | None) -> None:
        client = pool.client(Endpoint(registry.address), login)
        await manifests.get(client.repository("a/b"), "1")

    wrong = Credentials(USER, SecretStr("not-the-password"))
    for registry in (basic_registry, token_registry):
        with pytest.raises(Denied, match="refused the component's login") as caught:
            loop.run(get(registry, wrong))
        assert "not-the-password" not in f"{caught.value!r}"
    with pytest.raises(Denied, match="wants a login"):
        loop.run(get(basic_registry, None))


def test_tokens_that_die_between_requests_are_fetched_anew(
    loop: BackgroundLoop, pool: ClientPool, tmp_path: Path
) -> None:
    """The registry refuses the old token: the client believes in it for longer than it lives."""
    with (
        TokenServer(tmp_path, {USER: PASSWORD}, lifetime_s=1.5) as tokens,
        Registry(tokens=tokens) as registry,
    ):
        tokens.claimed_s = 60

        async def work() -> None:
            repository = fresh(pool.client(Endpoint(registry.address), LOGIN))
            opened = await uploads.start(repository)
            opened = await opened.patch(LAYER[:1_000])
            first = len(tokens.requests)
            while len(tokens.requests) == first:
                opened = await opened.status()
                await asyncio.sleep(0.1)
            await opened.finish(LAYER_DIGEST, LAYER[1_000:])
            assert await blobs.head(repository, LAYER_DIGEST) is not None

        loop.run(work(), timeout_s=60)


def test_tokens_are_fetched_before_their_end(
    loop: BackgroundLoop, pool: ClientPool, tmp_path: Path
) -> None:
    """No request is refused: the log of the registry has one 401, that of the first request."""
    with (
        TokenServer(tmp_path, {USER: PASSWORD}) as tokens,
        Registry(tokens=tokens) as registry,
    ):
        tokens.claimed_s = 1

        async def work() -> None:
            repository = fresh(pool.client(Endpoint(registry.address), LOGIN))
            while len(tokens.requests) < 3:
                assert await blobs.head(repository, LAYER_DIGEST) is None
                await asyncio.sleep(0.05)

        loop.run(work(), timeout_s=60)
        heads = [line for line in registry.log_text().splitlines() if '"HEAD /v2/' in line]
        assert len([line for line in heads if '" 401 ' in line]) == 1
        assert len([line for line in heads if '" 404 ' in line]) > 3


def test_tls_is_trusted_through_the_components_ca_only(
    loop: BackgroundLoop, pool: ClientPool, authority: Authority
) -> None:
    async def write(access: Access, endpoint: str | None = None) -> URL:
        client = pool.client(Endpoint(registry.address, access, endpoint))
        await write_image(fresh(client), "1")
        return await client.base()

    with Registry(tls=authority.issue("127.0.0.1")) as registry:
        https = URL(f"https://{registry.address}/")
        assert loop.run(write(Access(ca=authority.ca))) == https
        assert loop.run(write(Access(insecure=True))) == https
        # The loopback is trusted as Docker trusts it, unless the component says more.
        assert loop.run(write(Access())) == https
        with pytest.raises(RegistryUntrusted, match=r"certificate .* not trusted.* set ca:"):
            loop.run(write(Access(), f"https://{registry.address}"))
    with (
        Registry(tls=authority.issue("localhost")) as registry,
        pytest.raises(RegistryUntrusted, match="certificate"),
    ):
        loop.run(write(Access(ca=authority.ca)))


def test_a_component_with_a_ca_is_never_asked_in_plain_http(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry, authority: Authority
) -> None:
    endpoint = Endpoint(plain_registry.address, Access(ca=authority.ca))
    with pytest.raises(RegistryUnreachable, match=r"TLS|no connection"):
        loop.run(pool.client(endpoint).ping())


def test_an_endpoint_is_asked_under_another_name(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry
) -> None:
    async def work() -> str:
        client = pool.client(Endpoint("registry.example.com", endpoint=plain_registry.base))
        repository = fresh(client)
        image = await write_image(repository, "1")
        assert str(repository).startswith("registry.example.com/")
        assert plain_registry.digest(repository.name, "1") == image.digest
        return str(repository)

    assert loop.run(work()).startswith("registry.example.com/oci/")


def test_a_registry_is_asked_through_the_proxy_of_the_environment(loop: BackgroundLoop) -> None:
    with HostileServer() as proxy:
        target = "http://registry.example.com/v2/"
        login = {"Proxy-Authorization": "Basic dTpw"}
        proxy.expect("GET", target, Reply(200, b"{}"), headers=login)

        async def work() -> None:
            async with ClientPool({"http_proxy": f"http://u:p@{proxy.address}"}) as pool:
                endpoint = Endpoint("registry.example.com", endpoint="http://registry.example.com")
                await pool.client(endpoint).ping()

        loop.run(work())


def test_a_proxy_for_tls_gets_its_login_and_may_refuse(loop: BackgroundLoop) -> None:
    with HostileServer() as proxy:
        login = {"Proxy-Authorization": "Basic dTpw", "Authorization": None}
        proxy.expect("CONNECT", "registry.example.com:443", Reply(407), headers=login)

        async def work() -> None:
            async with ClientPool({"https_proxy": f"http://u:p@{proxy.address}"}) as pool:
                await pool.client(Endpoint("registry.example.com"), LOGIN).ping()

        with pytest.raises(Denied, match=r"the proxy before .* requires a login .* \(407\)"):
            loop.run(work())


def test_a_silent_registry_is_given_up(loop: BackgroundLoop, pool: ClientPool) -> None:
    """It takes the connection and nothing more: no answer, and no byte of a body."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"

        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1_000_000

        async def ask(method: str) -> None:
            client = pool.client(Endpoint("registry.example.com", endpoint=base))
            url = (await client.base()).join(URL("/v2/"))
            sent = body if method == "PATCH" else None
            request = Request(method, url, about="it", body=sent, total_s=None, silence_s=0.3)
            await client.ask(request, limit=10)

        for method in ("GET", "PATCH"):
            with pytest.raises(RegistryUnavailable, match="silent"):
                loop.run(ask(method), timeout_s=60)


def test_connections_are_kept_and_shared(loop: BackgroundLoop) -> None:
    with Registry() as registry:

        async def work() -> None:
            async with ClientPool({}) as pool:
                for _ in range(5):
                    client = pool.client(Endpoint(registry.address))
                    assert await blobs.head(client.repository("a/b"), EMPTY_DIGEST) is None

        loop.run(work())

        def ports() -> set[str]:
            marks = ("http.request.method=HEAD", "http.response.status=404")
            lines = registry.log_text().splitlines()
            heads = [line for line in lines if all(mark in line for mark in marks)]
            return {line.partition("remoteaddr=")[2].partition(" ")[0] for line in heads}

        assert len(eventually(ports)) == 1


def test_a_sha512_digest_is_verified_like_any(
    loop: BackgroundLoop, pool: ClientPool, plain_registry: Registry
) -> None:
    async def work() -> None:
        repository = fresh(pool.client(Endpoint(plain_registry.address)))
        digest = digests.digest_of(LAYER, "sha512")
        opened = await uploads.start(repository, algorithm="sha512")
        await opened.finish(digest, LAYER)
        assert await blobs.fetch(repository, digest, limit=len(LAYER)) == LAYER
        parsed = make_manifest()
        parsed = parse_manifest(
            parsed.raw, what="x", digest=digests.digest_of(parsed.raw, "sha512")
        )
        assert parsed.digest.startswith("sha512:")

    loop.run(work())
