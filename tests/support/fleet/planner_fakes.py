"""Registries in memory for tests of the planner, and planners over them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.fleet.planner_readers import Catalogue, Remembered
from tests.support.images.registry_client import make_manifest
from transship.model.jobs import JobId
from transship.model.migration.specification import Spec
from transship_config.errors import TransshipError
from transship_worker.migrate.plan import Planner
from transship_worker.migrate.port import NamedReferrer
from transship_worker.oci import digests
from transship_worker.oci.descriptors import OCI_MANIFEST, Descriptor, Manifest
from transship_worker.oci.manifests import ManifestHead
from transship_worker.oci.names import Warn

MIGRATION = JobId.new()


def digest(text: str) -> str:
    """The digest of a manifest that is told apart by this text."""
    return digests.digest_of(text.encode())


@dataclass
class FakeSide:
    """A registry in memory, which fails where it is told to; not a real one.

    ``content`` has the digests of each repository's tags.
    """

    name: str
    content: Mapping[str, Mapping[str, str]]
    is_hub: bool = False
    hub_limit: int | None = None
    #: Errors by ``repository``, ``repository:reference`` or, for the catalogue, ``*``.
    errors: Mapping[str, TransshipError] = field(default_factory=dict)
    #: What is said of the list of a repository's tags or, for ``*``, of the catalog.
    said: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Listed, but not there.
    vanished: frozenset[str] = frozenset()
    #: What a lookup waits for.
    pause: Callable[[str], Any] | None = None
    #: Digests by the digest that they refer to.
    referrers: Mapping[str, Iterable[str]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    running: int = 0
    most: int = 0

    async def _ask(self, what: str) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await (self.pause(what) if self.pause is not None else asyncio.sleep(0))
        finally:
            self.running -= 1
        if what in self.errors:
            raise self.errors[what]

    async def repositories(self, warn: Warn) -> AsyncIterator[list[str]]:
        self.asked["repositories"] += 1
        await self._ask("*")
        names = list(self.content)
        for start in range(0, len(names), 3):
            yield names[start : start + 3]
        for text in self.said.get("*", ()):
            warn(text)

    async def tags(self, repository: str, warn: Warn) -> list[str] | None:
        self.asked["tags"] += 1
        for text in self.said.get(repository, ()):
            warn(text)
        await self._ask(repository)
        found = self.content.get(repository)
        return None if found is None else list(found)

    async def head(self, repository: str, reference: str) -> ManifestHead | None:
        self.asked["head"] += 1
        await self._ask(f"{repository}:{reference}")
        found = self.content.get(repository, {})
        if reference in self.vanished:
            return None
        if reference in found:
            return ManifestHead(found[reference], OCI_MANIFEST, 500)
        return ManifestHead(reference, "", None) if reference in found.values() else None

    async def look(self, repository: str, tag: str) -> ManifestHead | None:
        return await self.head(repository, tag)

    async def manifest(self, repository: str, reference: str) -> Manifest:
        self.asked["manifest"] += 1
        await self._ask(f"{repository}@{reference}")
        return make_manifest()

    async def config(self, repository: str, blob: Descriptor) -> bytes:
        self.asked["config"] += 1
        await self._ask(f"{repository}@{blob.digest}")
        return b"{}"

    async def referrers_of(
        self, repository: str, digest: str, tags: Collection[str]
    ) -> frozenset[NamedReferrer]:
        self.asked["referrers"] += 1
        await self._ask(f"{repository}@{digest}")
        return frozenset(NamedReferrer(one) for one in self.referrers.get(digest, ()))


def rule(*repositories: str, to: str = "{repository}", **others: Any) -> dict[str, Any]:
    """A rule from ``old`` to ``new``."""
    return {
        "from": {"registry": others.pop("source", "old"), "repositories": list(repositories)},
        "to": {"registry": others.pop("target", "new"), "repository": to, **others.pop("at", {})},
        **others,
    }


def planner(
    old: FakeSide, new: FakeSide, rules: Iterable[dict[str, Any]], **options: Any
) -> Planner:
    """A planner of these rules."""
    spec = Spec.parse({"version": 1, "name": "test", "rules": list(rules)})
    sides = Catalogue({"old": old, "new": new}, {"old": "old.example", "new": "new.example/x"})
    return Planner(spec, MIGRATION, sides, Remembered(), **options)
