"""What planners read, over the components of the worker's catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

from transship.errors import CannotList, ImageNotFound, RepositoryMissing
from transship.ledger.keys import Keys
from transship.model.references import DOCKER_HUB, ImageReference
from transship_worker.flavors import listing
from transship_worker.flavors.options import Use
from transship_worker.fleet.redis import FleetRedis
from transship_worker.handlers.registries import OpenedLayout, OpenedRegistry, Registries, Way
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.layouts.layout import LayoutSource
from transship_worker.migrate.port import NamedReferrer, Side
from transship_worker.oci import manifests, referrers, stored, tags
from transship_worker.oci.client import RegistryClient, Repository
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.oci.digests import is_digest
from transship_worker.oci.manifests import ManifestHead
from transship_worker.oci.names import Warn
from transship_worker.transports.copy.platforms import SourceReader
from transship_worker.transports.copy.registry import RegistryRepository

#: How long the digest of a platform subset is remembered. Unit: s.
SUBSET_S = 30 * 24 * 3600


@dataclass(slots=True)
class RegistrySide:
    """A registry as a planner sees it; implements ``Side``."""

    opened: OpenedRegistry
    way: Way
    writing: bool
    #: Asked for once for each tag.
    _repositories: dict[str, Repository] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The component's name, or the host, as the specification has it."""
        return self.opened.name

    @property
    def is_hub(self) -> bool:
        """Whether it is Docker Hub, where each GET of a manifest counts as a pull."""
        return self.opened.uri.registry == DOCKER_HUB

    @property
    def hub_limit(self) -> int | None:
        """Pulls in six hours, as far as an answer told; ``None``: unknown, or no limit."""
        told = self._client.rate_limit
        return told.limit if told is not None else None

    async def repositories(self, warn: Warn) -> AsyncIterator[list[str]]:
        """All repositories of the component, a page at a time; see ``Side``.

        Raises:
            PushError: the flavor cannot list them, or the registry refuses.
        """
        if self.opened.component is None:
            raise CannotList(
                f"{self.name} is read without a component, which cannot list repositories; "
                "write their names out, or register a component"
            )
        async for page in listing.repositories(self.opened.component, self._client, warn):
            yield page

    async def tags(self, repository: str, warn: Warn) -> list[str] | None:
        """All tags of a repository; ``None``: there is no such repository. See ``Side``."""
        component = self.opened.component
        size = component.PAGE_SIZE if component is not None else tags.PAGE_SIZE
        try:
            pages = tags.tags(self._repository(repository), page_size=size, warn=warn)
            # Pages may overlap.
            return list(dict.fromkeys([tag async for page in pages for tag in page]))
        except RepositoryMissing:
            return None

    async def head(self, repository: str, reference: str) -> ManifestHead | None:
        """What a tag that is listed, or a digest, is; ``None``: there is none."""
        # That a target does not have a digest is common; of a listed tag it is a contradiction.
        confirm = not (self.writing and is_digest(reference))
        where = self._repository(repository)
        found = await manifests.head(where, reference, confirm=confirm, doubted=self.writing)
        # On Docker Hub a read counts as a pull.
        if found is None or not self.writing or self.is_hub:
            return found
        return await stored.confirmed(where, reference, found)

    async def look(self, repository: str, tag: str) -> ManifestHead | None:
        """``head`` of a tag whose image will be copied; may read the manifest for the copy."""
        if self.is_hub:
            # A read counts as a pull there, and this worker may not be the one that copies.
            return await self.head(repository, tag)
        where = self._repository(repository)
        try:
            found = await manifests.get(where, tag)
        except (ImageNotFound, RepositoryMissing):
            return None
        where.client.kept.keep(where.name, found)
        return ManifestHead(found.digest, found.media_type, len(found.raw))

    async def manifest(self, repository: str, reference: str) -> Manifest:
        """Read a manifest by tag or digest; its digest is verified."""
        return await manifests.get(self._repository(repository), reference)

    async def config(self, repository: str, blob: Descriptor) -> bytes:
        """Read an image's config; its digest is verified."""
        source = RegistryRepository(self._repository(repository))
        return await SourceReader(source).config(blob)

    async def referrers_of(
        self, repository: str, digest: str, tags: Collection[str]
    ) -> frozenset[NamedReferrer]:
        """What refers to a manifest; a tag that is not among ``tags`` is not asked for."""
        return await listed_referrers(self._repository(repository), digest, tags)

    @property
    def _client(self) -> RegistryClient:
        return self.opened.client(self.way)

    def _repository(self, name: str) -> Repository:
        found = self._repositories.get(name)
        if found is None:
            # Parsed, since names on Docker Hub have a long form.
            whole = ImageReference.parse(f"{self.opened.uri}/{name}")
            found = self._client.repository(whole.repository, writing=self.writing)
            self._repositories[name] = found
        return found


async def listed_referrers(
    repository: Repository, digest: str, tags: Collection[str]
) -> frozenset[NamedReferrer]:
    """What refers to a manifest of a registry, with requests for the listed tags alone.

    Raises:
        PushError: the registry refuses, or does not answer.
    """
    found: set[NamedReferrer] = set()
    fallback = referrers.fallback_tag(digest)
    listing = await referrers.referrers(repository, digest, tagged=fallback in tags)
    found |= {NamedReferrer(one.digest) for one in listing.manifests}
    for tag in (f"{fallback}.{suffix}" for suffix in referrers.COSIGN_SUFFIXES):
        head = await manifests.head(repository, tag) if tag in tags else None
        if head is not None:
            found.add(NamedReferrer(head.digest, tag))
    return frozenset(found)


@dataclass(slots=True)
class LayoutSide:
    """A folder of layouts as a planner sees it; implements ``Side``."""

    name: str
    layouts: LayoutFolder
    writing: bool

    is_hub = False
    hub_limit = None

    def repositories(self, warn: Warn) -> AsyncIterator[list[str]]:
        """All layouts and archives of the folder, a page at a time."""
        return self.layouts.repositories(warn)

    async def tags(self, repository: str, warn: Warn) -> list[str] | None:
        """All tags of a repository; ``None``: there is no such repository. See ``Side``."""
        try:
            # What no tag leads to at a target is nobody's loss, and costs reads to find.
            return await self.layouts.tags(repository, None if self.writing else warn)
        except RepositoryMissing:
            return None

    async def head(self, repository: str, reference: str) -> ManifestHead | None:
        """What a tag or digest is; ``None``: there is none."""
        try:
            source = await self.layouts.source(repository)
            if self.writing and isinstance(source, LayoutSource):
                # A target sees what is missing or damaged.
                source = self.layouts.target(repository)
            return await source.head(reference)
        except RepositoryMissing:
            return None

    async def look(self, repository: str, tag: str) -> ManifestHead | None:
        """``head``: nothing is gained by reading more."""
        return await self.head(repository, tag)

    async def manifest(self, repository: str, reference: str) -> Manifest:
        """Read a manifest by tag or digest; its digest is verified."""
        return await (await self.layouts.source(repository)).manifest(reference)

    async def config(self, repository: str, blob: Descriptor) -> bytes:
        """Read an image's config; its digest is verified."""
        return await SourceReader(await self.layouts.source(repository)).config(blob)

    async def referrers_of(
        self,
        repository: str,
        digest: str,
        tags: Collection[str],  # noqa: ARG002 - nothing is gained by knowing them
    ) -> frozenset[NamedReferrer]:
        """What refers to a manifest."""
        try:
            source = await self.layouts.source(repository)
            by_subject = await source.referrers(digest)
            by_tag = await source.cosign_tags(digest)
        except RepositoryMissing:
            return frozenset()
        found = {NamedReferrer(one.digest) for one in by_subject.manifests}
        return frozenset(found | {NamedReferrer(head.digest, tag) for tag, head in by_tag.items()})


@dataclass(slots=True)
class CatalogueSides:
    """The components that a specification may name; implements ``Sides``.

    Logins are had before planning begins, in the job's thread, since they may block.
    """

    registries: Registries
    way: Way
    _opened: dict[tuple[str, bool], OpenedLayout | OpenedRegistry] = field(default_factory=dict)

    def open(self, name: str, *, reading: bool) -> OpenedLayout | OpenedRegistry:
        """Have a component ready. May block.

        Raises:
            TransshipError: it is unknown, not for this, or its login cannot be had.
        """
        key = (name, reading)
        if key not in self._opened:
            use = Use.COPY_FROM if reading else Use.COPY_TO
            self._opened[key] = self.registries.open(name, use)
        return self._opened[key]

    def side(self, name: str, *, reading: bool) -> Side:
        """The component of this name, to read from or to write to.

        Raises:
            TransshipError: it is unknown, not for this, or its login cannot be had.
        """
        opened = self.open(name, reading=reading)
        if isinstance(opened, OpenedLayout):
            return LayoutSide(opened.name, opened.component.layouts, not reading)
        return RegistrySide(opened, self.way, not reading)

    def unified(self, name: str) -> str:
        """Where a component's repositories lie: its URI, ``host[:port][/path]``."""
        return str(self.registries.uri(name))


@dataclass(frozen=True, slots=True)
class RememberedSubsets:
    """Platform subsets that were seen, in Redis; implements ``Memory``."""

    fleet: FleetRedis
    keys: Keys

    async def subset(self, digest: str, platforms: str) -> str | None:
        """Digest of the index that is left of another for some platforms; ``None``: unknown."""
        found = await self.fleet.client.get(self.keys.subset(digest, platforms))
        return None if found is None else str(found)

    async def remember(self, digest: str, platforms: str, filtered: str) -> None:
        """Keep it for the next time."""
        await self.fleet.client.set(self.keys.subset(digest, platforms), filtered, ex=SUBSET_S)
