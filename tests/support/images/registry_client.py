"""The registry client in tests: one pool a call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from pydantic import SecretStr

from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship_worker.credentials.access import Credentials
from transship_worker.oci import blobs, digests, manifests
from transship_worker.oci.client import RegistryClient, Repository
from transship_worker.oci.descriptors import OCI_MANIFEST, Manifest, parse_manifest
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool

T = TypeVar("T")

#: The blob that an artifact has for a config.
EMPTY = b"{}"
EMPTY_DIGEST = digests.digest_of(EMPTY)
LOGIN = Credentials("pusher", SecretStr("s3cret-password"))
#: Where a scripted server has the tag, the blob and the uploads that tests ask for.
TAG = "/v2/acme/app/manifests/1"
BLOB = f"/v2/acme/app/blobs/{EMPTY_DIGEST}"
UPLOADS = "/v2/acme/app/blobs/uploads/"


async def asking(
    server: HostileServer | str,
    work: Callable[[Repository], Awaitable[T]],
    *,
    login: Credentials | None = None,
    repository: str = "acme/app",
    **endpoint: Any,
) -> T:
    """Run ``work`` with a repository of a server (or of a name) that no proxy stands before."""

    async with ClientPool({}) as pool:
        return await work(client(pool, server, login, **endpoint).repository(repository))


def client(
    pool: ClientPool, server: HostileServer | str, login: Credentials | None, **endpoint: Any
) -> RegistryClient:
    """A client that asks a scripted server in plain HTTP at once, without trying TLS."""
    if isinstance(server, HostileServer):
        endpoint = {"endpoint": server.base, **endpoint}
        server = server.address
    return pool.client(Endpoint(server, **endpoint), login)


def make_manifest(**fields: Any) -> Manifest:
    """A small artifact."""
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY_DIGEST, "size": 2}
    data = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], **fields}
    return parse_manifest(json.dumps(data).encode(), what="made here")


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body in pieces."""
    for piece in pieces:
        yield piece


MANIFEST = make_manifest()
#: A good answer for ``TAG``.
GOOD = Reply(200, MANIFEST.raw, {"Content-Type": OCI_MANIFEST})


def errors(code: str, message: str = "", **detail: str) -> bytes:
    """A registry's own words for a refusal."""
    return json.dumps({"errors": [{"code": code, "message": message, **detail}]}).encode()


async def get_1(repository: Repository) -> object:
    """Read ``TAG``."""
    return await manifests.get(repository, "1")


async def read_all(repository: Repository) -> bytes:
    """Read ``BLOB``, whatever it is."""
    async with blobs.read(repository, EMPTY_DIGEST) as found:
        return b"".join([piece async for piece in found.pieces()])
