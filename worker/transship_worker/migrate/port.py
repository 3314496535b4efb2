"""What a planner reads: registries as the catalogue's components show them, and what is remembered.

All of it runs in the worker's background loop, with many requests at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.oci.manifests import ManifestHead
from transship_worker.oci.names import Warn


@dataclass(frozen=True, slots=True)
class NamedReferrer:
    """A manifest that refers to another one."""

    digest: str
    #: The tag by which cosign says so; empty: the manifest names its subject.
    tag: str = ""


class Side(Protocol):
    """One component, or a host that is read without one, as a planner sees it.

    Repositories are named as they follow the component's URI.
    """

    @property
    def name(self) -> str:
        """The component's name, or the host, as the specification has it."""

    @property
    def is_hub(self) -> bool:
        """Whether it is Docker Hub, where each GET of a manifest counts as a pull."""

    @property
    def hub_limit(self) -> int | None:
        """Pulls in six hours, as far as an answer told; ``None``: unknown, or no limit."""

    def repositories(self, warn: Warn) -> AsyncIterator[list[str]]:
        """All repositories of the component, a page at a time.

        ``warn`` hears what was left out, and that the list is empty or may not be complete.

        Raises:
            PushError: the flavor cannot list them, or the registry refuses.
        """

    async def tags(self, repository: str, warn: Warn) -> list[str] | None:
        """All tags of a repository, each once; ``None``: there is no such repository.

        ``warn`` hears what was left out, and that the list may not be complete. Of a target it
        is asked with the right to write: without it, some registries refuse what does not exist
        instead of saying so.
        """

    async def head(self, repository: str, reference: str) -> ManifestHead | None:
        """What a tag that is listed, or a digest, is; ``None``: there is none."""

    async def look(self, repository: str, tag: str) -> ManifestHead | None:
        """``head`` of a tag whose image will be copied; may read the manifest for the copy."""

    async def manifest(self, repository: str, reference: str) -> Manifest:
        """Read a manifest by tag or digest; its digest is verified."""

    async def config(self, repository: str, blob: Descriptor) -> bytes:
        """Read an image's config; its digest is verified."""

    async def referrers_of(
        self, repository: str, digest: str, tags: Collection[str]
    ) -> frozenset[NamedReferrer]:
        """What refers to a manifest; ``tags`` is the list of the repository's tags.

        A tag that is not in the list is not asked for.
        """


class Sides(Protocol):
    """The components that a specification may name."""

    def side(self, name: str, *, reading: bool) -> Side:
        """The component of this name, to read from or to write to; it does not block.

        Raises:
            UnknownComponent: there is none, and no host that may be read without one.
            PushError: the component may not be used so, or its login cannot be had.
        """

    def unified(self, name: str) -> str:
        """Where a component's repositories lie: its URI, ``host[:port][/path]``.

        So two names of one place, and one place inside another, are seen as what they are.
        """


class Memory(Protocol):
    """What platform subsets came to, so that an index is not read again to compare it."""

    async def subset(self, digest: str, platforms: str) -> str | None:
        """Digest of the index that is left of another for some platforms; ``None``: unknown."""

    async def remember(self, digest: str, platforms: str, filtered: str) -> None:
        """Keep it for the next time."""
