"""What goes along with an image: signatures, SBOMs and attestations that refer to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from transship.errors import ImageNotFound, ManifestUnsupported
from transship.model.migration.specification import OnConflict
from transship_worker.concurrency.gather import both, together
from transship_worker.oci.content import ContentSource, ContentTarget
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.manifests import ManifestHead
from transship_worker.transports.copy.port import CopyControl
from transship_worker.transports.copy.tree import Tree, TreeReader

#: Referrers of referrers.
DEPTH_MOST: Final = 8
#: Manifests whose referrers are asked for at once.
LOOKS_AT_ONCE: Final = 4
#: Digests that a warning names.
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Referrer:
    """Something that refers to an image of this copy."""

    tree: Tree
    #: cosign's tag; ``None``: it refers by its ``subject``.
    tag: str | None
    #: The target has it, under its tag if there is one.
    here: bool


class Referring:
    """Finds what refers to the manifests of one copy."""

    def __init__(
        self,
        source: ContentSource,
        target: ContentTarget,
        reader: TreeReader,
        control: CopyControl,
        on_conflict: OnConflict,
    ) -> None:
        self._source = source
        self._target = target
        self._reader = reader
        self._control = control
        self._on_conflict = on_conflict
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def find(self, image: Tree) -> list[Referrer]:
        """All that refers to an image, its children, and to what refers to them.

        What refers stands behind what it refers to.

        Raises:
            ManifestUnsupported: it goes deeper than what is copied.
            PushError: a side refuses or does not answer.
        """
        found: list[Referrer] = []
        seen: set[tuple[str, str | None]] = set()
        subjects = [one.digest for one in image.manifests]
        looked = set(subjects)
        for _ in range(DEPTH_MOST):
            names = [
                name
                for names in await together(map(self._names, subjects))
                for name in names
                if name not in seen
            ]
            seen.update(names)
            read = await together(self._read(*name) for name in dict.fromkeys(names))
            latest = [one for one in read if one is not None and self._refers(one, looked)]
            found += latest
            digests = (one.digest for referrer in latest for one in referrer.tree.manifests)
            subjects = [digest for digest in dict.fromkeys(digests) if digest not in looked]
            looked.update(subjects)
            if not subjects:
                return found
        raise ManifestUnsupported(
            f"{self._source}@{image.root.digest} has referrers of referrers, more than "
            f"{DEPTH_MOST} deep"
        )

    def _refers(self, referrer: Referrer, subjects: set[str]) -> bool:
        """Whether what a registry lists says itself that it refers to one of these.

        What has no ``subject`` is believed to: it is in a list that clients keep, or has a tag.
        """
        root = referrer.tree.root
        if referrer.tag is not None or root.subject is None or root.subject.digest in subjects:
            return True
        self._control.warn(
            f"{self._source}@{root.digest} is listed as a referrer and refers to "
            f"{root.subject.digest}, which is not copied; it was left out"
        )
        return False

    async def name_left_out(self, digests: Iterable[str]) -> None:
        """Warn of what refers to manifests that are not copied."""
        for digest in digests:
            names = [name for name, _ in await self._names(digest)]
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                self._control.warn(
                    f"{self._source}@{digest} is not copied, nor what refers to it: "
                    f"{', '.join(names[:_NAMED])}{more}"
                )

    async def _names(self, digest: str) -> list[tuple[str, str | None]]:
        """Digests of what refers to a manifest, with their tags."""
        async with self._looks:
            listed, tags = await both(
                self._source.referrers(digest), self._source.cosign_tags(digest)
            )
        by_digest: list[tuple[str, str | None]] = [(one.digest, None) for one in listed.manifests]
        return by_digest + [(head.digest, tag) for tag, head in tags.items()]

    async def _read(self, digest: str, tag: str | None) -> Referrer | None:
        """One referrer; ``None``: there is nothing to copy."""
        async with self._looks:
            head = await self._target.head(tag or digest)
            if tag is not None and not self._may_write(tag, head, digest):
                return None
            here = head is not None and head.is_whole(digest)
            try:
                root = await self._root(digest, here=here)
                if tag is None and root.subject is None:
                    # Only a list under a fallback tag can name it.
                    self._control.warn(
                        f"{self._source}@{digest} is listed as a referrer and names no subject; it "
                        "is copied, but the target does not list it"
                    )
                side = self._target if here else self._source
                return Referrer(await self._reader.tree(root, side.manifest), tag, here)
            except ImageNotFound:
                self._control.warn(
                    f"{self._source}@{digest} is listed as a referrer and is not there; it was "
                    "left out"
                )
                return None

    async def _root(self, digest: str, *, here: bool) -> Manifest:
        return await (self._target if here else self._source).manifest(digest)

    def _may_write(self, tag: str, head: ManifestHead | None, digest: str) -> bool:
        if head is None or head.digest == digest or self._on_conflict is OnConflict.OVERWRITE:
            return True
        self._control.warn(f"{self._target}:{tag} is another signature there, and was left alone")
        return False
