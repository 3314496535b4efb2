"""Copies in tests: images made here, put into real registries by the registry client."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from transship_worker.oci import digests, manifests, uploads
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.exchange import Request
from transship_worker.oci.pool import ClientPool

T = TypeVar("T")

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class WatchedControl:
    """A job that never ends by itself; it keeps what a copy says. A fake of the runner's part."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {"planned": 0, "moved": 0, "mounted": 0, "present": 0}
        self.layers = 0
        self.done = 0
        self.warnings: list[str] = []
        self.checkpoints = 0
        self.is_parked = asyncio.Event()
        self.times_parked = 0
        #: What ``checkpoint`` raises; ``None``: nothing.
        self.stop: Exception | None = None
        #: Answers of ``lease_left_s``; the last one stays.
        self.leases = [60.0]

    def planned(self, size: int, layers: int) -> None:
        self.bytes["planned"] += size
        self.layers += layers

    def moved(self, size: int) -> None:
        self.bytes["moved"] += size

    def mounted(self, size: int) -> None:
        self.bytes["mounted"] += size

    def present(self, size: int) -> None:
        self.bytes["present"] += size

    def blob_done(self) -> None:
        self.done += 1

    def alive(self) -> None:
        pass

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def checkpoint(self) -> None:
        self.checkpoints += 1
        if self.stop is not None:
            raise self.stop

    def lease_left_s(self) -> float:
        return self.leases.pop(0) if len(self.leases) > 1 else self.leases[0]

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        self.times_parked += 1
        self.is_parked.set()
        try:
            yield
        finally:
            self.is_parked.clear()


def with_pool(work: Callable[[ClientPool], Awaitable[T]]) -> T:
    """Run ``work`` with a pool that no proxy stands before."""

    async def main() -> T:
        async with ClientPool({}) as pool:
            return await work(pool)

    return asyncio.run(main())


def repository(pool: ClientPool, address: str, name: str) -> Repository:
    """A repository that may be written, of a registry that speaks plain HTTP."""
    client = pool.client(Endpoint(address, endpoint=f"http://{address}"))
    return client.repository(name, writing=True)


def noise(size: int, seed: object = 0) -> bytes:
    """Bytes that are the same for the same seed."""
    return random.Random(str(seed)).randbytes(size)


async def put_blob(target: Repository, data: bytes, *, algorithm: str = "sha256") -> str:
    """Upload a blob; its digest."""
    digest = digests.digest_of(data, algorithm)
    upload = await uploads.start(target)
    await upload.finish(digest, data or None)
    return digest


def describe(
    data: bytes, media_type: str = LAYER, *, algorithm: str = "sha256", **more: Any
) -> dict[str, Any]:
    """The descriptor of a content."""
    digest = digests.digest_of(data, algorithm)
    return {"mediaType": media_type, "digest": digest, "size": len(data), **more}


def made(data: Mapping[str, Any]) -> Manifest:
    """A manifest of this JSON."""
    return parse_manifest(json.dumps(data, indent=1).encode(), what="made here")


def image(*layers: bytes, config: bytes = b"{}", kind: str = CONFIG, **more: Any) -> Manifest:
    """An image's manifest."""
    return made(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": describe(config, kind),
            "layers": [describe(layer) for layer in layers],
            **more,
        }
    )


def index(*children: Mapping[str, Any], **more: Any) -> Manifest:
    """An index."""
    return made({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children), **more})


def entry(manifest: Manifest, platform: str = "", **annotations: str) -> dict[str, Any]:
    """The entry of a manifest in an index; annotations are written with ``__`` for ``.``."""
    found: dict[str, Any] = manifest.descriptor.as_json()
    found.pop("artifactType", None)
    if platform:
        system, architecture, *variant = platform.split("/")
        found["platform"] = {"os": system, "architecture": architecture}
        if variant:
            found["platform"]["variant"] = variant[0]
    if annotations:
        found["annotations"] = {name.replace("__", "."): text for name, text in annotations.items()}
    return found


async def put_image(
    target: Repository, manifest: Manifest, *contents: bytes, tag: str | None = None
) -> Manifest:
    """Put blobs, and a manifest under its digest or a tag."""
    for data in contents:
        await put_blob(target, data)
    await manifests.put(target, tag or manifest.digest, manifest)
    return manifest


async def delete_blob(target: Repository, digest: str) -> None:
    """Delete a blob from one repository, as distribution's API allows."""
    url = await target.url(f"blobs/{digest}")
    request = Request("DELETE", url, target.scopes, expected=frozenset({202}))
    await target.client.ask(request, limit=1_000)


async def delete_manifest(target: Repository, digest: str) -> None:
    """Delete a manifest; its blobs stay."""
    url = await target.url(f"manifests/{digest}")
    request = Request("DELETE", url, target.scopes, expected=frozenset({202}))
    await target.client.ask(request, limit=1_000)
