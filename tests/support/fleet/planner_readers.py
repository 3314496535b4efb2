"""Both sides of a migration over the registry client: real, but without a catalogue of components.

``Catalogue`` is made of (name, URI) pairs; ``Remembered`` keeps platform subsets in this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping

from transship.errors import Denied, RepositoryMissing
from transship.model.components import unknown_component
from transship.model.references import RegistryUri
from transship_worker.handlers.migration.readers import listed_referrers
from transship_worker.migrate.port import NamedReferrer, Side
from transship_worker.oci import blobs, manifests, tags
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import MANIFEST_LIMIT, Descriptor, Manifest
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.manifests import ManifestHead
from transship_worker.oci.names import Warn
from transship_worker.oci.pool import ClientPool


class ClientSide:
    """A component as its registry answers; it counts what it asks."""

    is_hub = False
    hub_limit: int | None = None

    def __init__(self, pool: ClientPool, name: str, uri: RegistryUri) -> None:
        self.name = name
        self.uri = uri
        self.client = pool.client(Endpoint(uri.registry, endpoint=f"http://{uri.registry}"))
        self.asked: Counter[str] = Counter()

    def repository(self, name: str) -> Repository:
        return self.client.repository(f"{self.uri.path}/{name}" if self.uri.path else name)

    async def repositories(self, warn: Warn) -> AsyncIterator[list[str]]:
        self.asked["repositories"] += 1
        prefix = f"{self.uri.path}/" if self.uri.path else ""
        async for page in tags.repositories(self.client, warn=warn):
            yield [one.removeprefix(prefix) for one in page if one.startswith(prefix)]

    async def tags(self, repository: str, warn: Warn) -> list[str] | None:
        self.asked["tags"] += 1
        pages = tags.tags(self.repository(repository), warn=warn)
        try:
            return list(dict.fromkeys([tag async for page in pages for tag in page]))
        except RepositoryMissing:
            return None

    async def head(self, repository: str, reference: str) -> ManifestHead | None:
        self.asked["head"] += 1
        return await manifests.head(self.repository(repository), reference)

    async def look(self, repository: str, tag: str) -> ManifestHead | None:
        return await self.head(repository, tag)

    async def manifest(self, repository: str, reference: str) -> Manifest:
        self.asked["manifest"] += 1
        return await manifests.get(self.repository(repository), reference)

    async def config(self, repository: str, blob: Descriptor) -> bytes:
        self.asked["config"] += 1
        return await blobs.fetch(self.repository(repository), blob.digest, limit=MANIFEST_LIMIT)

    async def referrers_of(
        self, repository: str, digest: str, tags: Collection[str]
    ) -> frozenset[NamedReferrer]:
        self.asked["referrers"] += 1
        return await listed_referrers(self.repository(repository), digest, tags)


class Catalogue:
    """Components by name, and what some of them are not allowed to."""

    def __init__(
        self, sides: Mapping[str, Side], uris: Mapping[str, str], *, forbidden: Collection[str] = ()
    ) -> None:
        self.sides = sides
        self.uris = uris
        self.forbidden = forbidden

    def side(self, name: str, *, reading: bool) -> Side:
        if name not in self.sides:
            raise unknown_component(name, self.sides)
        use = "copy_from" if reading else "copy_to"
        if f"{name}.{use}" in self.forbidden:
            raise Denied(f"{name} does not allow {use}; add it to the component's allow")
        return self.sides[name]

    def unified(self, name: str) -> str:
        return self.uris[name]


class Remembered:
    """Platform subsets that were seen, for as long as the test runs."""

    def __init__(self) -> None:
        self.subsets: dict[tuple[str, str], str] = {}

    async def subset(self, digest: str, platforms: str) -> str | None:
        return self.subsets.get((digest, platforms))

    async def remember(self, digest: str, platforms: str, filtered: str) -> None:
        self.subsets[digest, platforms] = filtered


def catalogue(pool: ClientPool, *, forbidden: Collection[str] = (), **uris: str) -> Catalogue:
    """Components over the registry client."""
    sides = {name: ClientSide(pool, name, RegistryUri.parse(uri)) for name, uri in uris.items()}
    return Catalogue(sides, uris, forbidden=forbidden)
