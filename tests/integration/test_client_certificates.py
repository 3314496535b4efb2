"""Registries that know their clients by certificates: who is let in, and who is shown one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST
from tests.support.scripted_servers.loopback import Loopback, LoopbackHandler
from tests.support.servers.certificates import Authority
from tests.support.servers.registry import Registry
from transship.errors import CredentialsMissing, Denied, RegistryUntrusted
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.credentials.access import Access
from transship_worker.oci import blobs, uploads
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool

pytestmark = pytest.mark.registry


@pytest.fixture
def pool(loop: BackgroundLoop) -> Iterator[ClientPool]:
    async def make() -> ClientPool:
        return ClientPool({})

    made = loop.run(make())
    yield made
    loop.run(made.close())


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    """The certificate and key that ``strict`` knows."""
    return authority.issue("worker-7")


@pytest.fixture(scope="module")
def strict(authority: Authority, pair: tuple[Path, Path]) -> Iterator[Registry]:
    """A registry that talks to nobody without a certificate of the tests' authority."""
    tls = authority.issue("127.0.0.1")
    with Registry(tls=tls, clients=authority.ca, client=pair) as registry:
        yield registry


def access(authority: Authority, pair: tuple[Path, Path] | None) -> Access:
    certificate, key = pair or (None, None)
    return Access.of(ca=authority.ca, client_cert=certificate, client_key=key)


async def write(pool: ClientPool, endpoint: Endpoint) -> None:
    """Put a blob there, and see it."""
    repository = pool.client(endpoint).repository("client/certificates", writing=True)
    opened = await uploads.start(repository)
    await opened.finish(EMPTY_DIGEST, EMPTY)
    assert await blobs.head(repository, EMPTY_DIGEST) is not None


def test_the_components_certificate_opens_the_registry(
    loop: BackgroundLoop,
    pool: ClientPool,
    authority: Authority,
    strict: Registry,
    pair: tuple[Path, Path],
) -> None:
    loop.run(write(pool, Endpoint(strict.address, access(authority, pair))))
    assert strict.blob("client/certificates", EMPTY_DIGEST) == EMPTY


def test_none_and_one_that_is_not_known_are_refused_for_good_in_clear_words(
    loop: BackgroundLoop,
    pool: ClientPool,
    authority: Authority,
    strict: Registry,
    tmp_path: Path,
) -> None:
    strangers = Authority(tmp_path).issue("stranger")
    for given, says in (
        (None, "; set client_cert and client_key"),
        (strangers, f" other than {strangers[0]}"),
    ):
        with pytest.raises(Denied, match="requires a client certificate") as caught:
            loop.run(write(pool, Endpoint(strict.address, access(authority, given))))
        assert caught.value.message.endswith(f"that it accepts{says}")
        assert not caught.value.retryable


def test_the_registrys_own_certificate_is_checked_all_the_same(
    loop: BackgroundLoop, pool: ClientPool, strict: Registry, pair: tuple[Path, Path]
) -> None:
    only = Access.of(client_cert=pair[0], client_key=pair[1])
    with pytest.raises(RegistryUntrusted, match="not trusted"):
        loop.run(write(pool, Endpoint(strict.address, only)))


def test_files_that_cannot_be_used_are_named_and_nobody_is_asked_for_a_password(
    loop: BackgroundLoop,
    pool: ClientPool,
    authority: Authority,
    strict: Registry,
    pair: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    _, other_key = authority.issue("other")
    absent, locked = tmp_path / "absent.key", tmp_path / "locked.key"
    key = serialization.load_pem_private_key(pair[1].read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"planted-passphrase"),
        )
    )
    for file, says in (
        (absent, "client_key .*absent.key cannot be used: No such file"),
        (other_key, "must be a PEM certificate and its own key"),
        (locked, "without a password"),
        (authority.ca, "must be a PEM certificate and its own key"),
    ):
        with pytest.raises(CredentialsMissing, match=says):
            loop.run(write(pool, Endpoint(strict.address, access(authority, (pair[0], file)))))


def test_a_renewed_certificate_counts_in_a_worker_that_runs(
    loop: BackgroundLoop,
    pool: ClientPool,
    authority: Authority,
    strict: Registry,
    pair: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    files = tmp_path / "worker.pem", tmp_path / "worker.key"

    def put(made: tuple[Path, Path]) -> None:
        for file, content in zip(files, made, strict=True):
            file.write_bytes(content.read_bytes())

    strangers = tmp_path / "strangers"
    strangers.mkdir()
    put(Authority(strangers).issue("stranger"))
    with pytest.raises(Denied):
        loop.run(write(pool, Endpoint(strict.address, access(authority, files))))
    put(pair)
    loop.run(write(pool, Endpoint(strict.address, access(authority, files))))


class Curious(Loopback):
    """An HTTPS server that asks for certificates, takes none for an answer, and remembers."""

    def __init__(self, authority: Authority, tls: tuple[Path, Path]) -> None:
        super().__init__(_CuriousHandler)
        #: For each request its path, and the name in the client's certificate, if any.
        self.seen: list[tuple[str, str | None]] = []
        #: Path → where it redirects to.
        self.redirects: dict[str, str] = {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]


class _CuriousHandler(LoopbackHandler):
    owner: ClassVar[Curious]
    connection: ssl.SSLSocket

    def handle_any(self) -> None:
        assert self.command == "GET", self.command
        subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
        names = [value for part in subject for _, value in part]
        self.owner.seen.append((self.path, names[0] if names else None))
        target = self.owner.redirects.get(self.path)
        self.send_response(307 if target else 200)
        if target:
            self.send_header("Location", target)
        body = b"" if target else EMPTY
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_the_certificate_is_shown_to_the_registry_and_not_where_it_redirects_to(
    loop: BackgroundLoop, pool: ClientPool, authority: Authority, pair: tuple[Path, Path]
) -> None:
    tls = authority.issue("127.0.0.1", "localhost")
    place = f"/v2/client/a/blobs/{EMPTY_DIGEST}"

    async def read(endpoint: Endpoint) -> bytes:
        repository = pool.client(endpoint).repository("client/a")
        async with blobs.read(repository, EMPTY_DIGEST) as found:
            return b"".join([piece async for piece in found.pieces()])

    with Curious(authority, tls) as registry, Curious(authority, tls) as storage:
        # The same address under a name that is not the registry's.
        registry.redirects[place] = f"https://localhost:{storage.port}/object"
        endpoint = Endpoint(f"127.0.0.1:{registry.port}", access(authority, pair))
        assert loop.run(read(endpoint)) == EMPTY
    assert (place, "worker-7") in registry.seen
    assert storage.seen == [("/object", None)]
