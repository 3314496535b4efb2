"""Signatures, SBOMs and attestations of an image that the target has: is anything new?

Compared is what a copy would bring: all that refers to the image, to the manifests of its index,
and to what refers to them. Most images have nothing new, so what the lists of tags tell costs no
request: cosign's tags, and the fallback tags of a registry without the referrers API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from transship.errors import ImageNotFound
from transship.model.migration.specification import OnConflict
from transship_worker.migrate.port import NamedReferrer, Side

#: Manifests of one image whose referrers are compared; beyond, the copy compares them.
LOOKS_MOST: Final = 2_000
#: Names that a reason lists.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A repository of one side, and the tags that its list has."""

    side: Side
    repository: str
    tags: Collection[str]

    async def referrers_of(self, digest: str) -> frozenset[NamedReferrer]:
        """What refers to a manifest here."""
        return await self.side.referrers_of(self.repository, digest, self.tags)


async def new_referrers(
    source: Place,
    target: Place,
    digest: str,
    on_conflict: OnConflict,
    left: Callable[[str], object],
    *,
    is_index: bool,
) -> list[str]:
    """What refers to an image at the source, and is not at the target: its tags and digests.

    Of an index that the target has lost parts of, these are named: the copy brings them.

    Args:
        source: where the image is from.
        target: where it is.
        digest: what it is at the target.
        on_conflict: what is done where a tag of cosign's is another signature.
        left: hears of each such tag that is left alone.
        is_index: whether it may lead to further manifests.

    Raises:
        PushError: a side refuses or does not answer.
    """
    try:
        subjects = await _manifests(target, digest) if is_index else [digest]
    except ImageNotFound as error:
        return [error.message]
    found: list[str] = []
    seen = set(subjects)
    while subjects:
        if len(seen) > LOOKS_MOST:
            return [*found, f"the referrers of more than {LOOKS_MOST} manifests"]
        subject = subjects.pop()
        theirs = await source.referrers_of(subject)
        ours = await target.referrers_of(subject) if theirs else frozenset()
        lacking = sorted(theirs - ours, key=lambda one: (one.tag, one.digest))
        found += [
            one.tag or one.digest
            for one in lacking
            if await _is_to_be_copied(one, ours, source, on_conflict, left)
        ]
        new = {one.digest for one in theirs} - seen
        subjects += new
        seen |= new
    return found


def named(names: list[str]) -> str:
    """Some of these names, and how many there are more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


async def _manifests(place: Place, digest: str) -> list[str]:
    """The digests of an image's manifests, as its index lists them."""
    found, pending = {digest: None}, [digest]
    while pending and len(found) <= LOOKS_MOST:
        manifest = await place.side.manifest(place.repository, pending.pop())
        new = [child for child in manifest.children if child.digest not in found]
        found |= dict.fromkeys(child.digest for child in new)
        pending += [child.digest for child in new if child.is_index]
    return list(found)


async def _is_to_be_copied(
    one: NamedReferrer,
    ours: Collection[NamedReferrer],
    source: Place,
    on_conflict: OnConflict,
    left: Callable[[str], object],
) -> bool:
    if one.tag:
        # Another signature under cosign's tag is left alone, as any other tag.
        there = any(other.tag == one.tag for other in ours)
        if not there or on_conflict is OnConflict.OVERWRITE:
            return True
        left(one.tag)
        return False
    # A list may name what was deleted: that would come up anew with each run.
    return await source.side.head(source.repository, one.digest) is not None
