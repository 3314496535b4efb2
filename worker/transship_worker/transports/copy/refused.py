"""Manifests that a target refuses although it has all that they name: no retry changes that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from transship.errors import BlobMissing, ForeignLayersRefused, MediaTypeUnsupported, PushError
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.errors import refusal_of

_FOREIGN: Final = (
    "takes no manifest with nondistributable (foreign) layers, such as {digest}; allow their URLs "
    "there (distribution: `validation.manifests.urls.allow`)"
)
_BLOBS: Final = "takes no index whose entries are blobs, such as {digest}"


def missing_in(error: BlobMissing, manifests: Iterable[Manifest]) -> frozenset[str]:
    """The digests of which a target says that it lacks them, but for what targets do not take."""
    refusal = refusal_of(error)
    foreign = {one.digest for each in manifests for one in each.foreign_layers}
    return frozenset(refusal.digests if refusal is not None else ()) - foreign


def refused_content(
    error: BlobMissing, target: object, manifests: Iterable[Manifest], *, named_only: bool
) -> PushError | None:
    """The permanent error behind a target's claim that it lacks something; ``None``: there is none.

    distribution answers so to foreign layers whose URLs it does not allow, and distribution 3 to
    an index whose entries are blobs.

    Args:
        error: what the target said to a manifest whose content it was seen to have.
        target: its name, for messages.
        manifests: all that was to be written.
        named_only: count only a digest that the target names; else any content that targets are
            known to refuse.
    """
    refusal = refusal_of(error)
    named = refusal.digests if refusal is not None else ()
    every = tuple(manifests)
    foreign = dict.fromkeys(one.digest for each in every for one in each.foreign_layers)
    blobs = dict.fromkeys(
        one.digest for each in every if each.is_index for one in each.layers if not one.is_foreign
    )
    said = f" ({refusal})" if refusal is not None else ""
    for found, kind, text in (
        (foreign, ForeignLayersRefused, _FOREIGN),
        (blobs, MediaTypeUnsupported, _BLOBS),
    ):
        hits = [digest for digest in named if digest in found]
        if not hits and not named_only:
            hits = list(found)
        if hits:
            made: PushError = kind(f"{target} {text.format(digest=hits[0])}{said}")
            made.__cause__ = error.__cause__
            return made
    return None
