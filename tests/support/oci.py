"""The registry client in tests: one pool a call, on plain asyncio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from longshore_worker.oci import digests
from longshore_worker.oci.client import RegistryClient, Repository
from longshore_worker.oci.descriptors import OCI_MANIFEST, Manifest, parse_manifest
from longshore_worker.oci.endpoint import Endpoint
from longshore_worker.oci.pool import ClientPool
from longshore_worker.transports.port import Credentials
from tests.support.hostile import HostileServer

T = TypeVar("T")

#: The blob that an artifact has for a config.
EMPTY = b"{}"
EMPTY_DIGEST = digests.digest_of(EMPTY)


def asking(
    server: HostileServer | str,
    work: Callable[[Repository], Awaitable[T]],
    *,
    login: Credentials | None = None,
    repository: str = "acme/app",
    **endpoint: Any,
) -> T:
    """Run ``work`` with a repository of a server (or of a name) that no proxy stands before."""

    async def main() -> T:
        async with ClientPool({}) as pool:
            return await work(client(pool, server, login, **endpoint).repository(repository))

    return asyncio.run(main())


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
