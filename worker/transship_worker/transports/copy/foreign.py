"""Nondistributable (foreign) layers: copied where the source holds them, else left as references.

A registry need not hold such a layer, whose descriptor says in ``urls`` where else it is (OCI
image-spec, layer.md, "Non-Distributable Layers"; Windows base layers in Docker's format).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from transship.errors import BlobMissing
from transship.model.migration.specification import ForeignLayers
from transship_worker.concurrency.gather import together
from transship_worker.oci.content import ContentSource
from transship_worker.oci.descriptors import Descriptor
from transship_worker.transports.copy.port import CopyControl

#: Digests that a warning names.
_NAMED: Final = 5


async def foreign_to_copy(
    layers: Mapping[str, Descriptor],
    source: ContentSource,
    policy: ForeignLayers,
    control: CopyControl,
) -> dict[str, Descriptor]:
    """Those of an image's foreign layers that are to be copied.

    What is left as a reference is told as a warning: the image at the target depends on it.

    Raises:
        BlobMissing: the source does not hold a layer, and the layer names no other place.
        PushError: the source refuses, or does not answer.
    """
    if policy is ForeignLayers.REFERENCE:
        _tell(control, "nondistributable layers were left as references", layers)
        return {}
    held = dict(zip(layers, await together(_is_held(source, one) for one in layers), strict=True))
    absent = {digest: layer for digest, layer in layers.items() if not held[digest]}
    for digest, layer in absent.items():
        if not layer.urls:
            raise BlobMissing(
                f"{source} does not hold the nondistributable layer {digest}, and its descriptor "
                "names no URL where it is"
            )
    _tell(
        control,
        f"nondistributable layers that {source} does not hold were left as references",
        absent,
    )
    return {digest: layer for digest, layer in layers.items() if held[digest]}


async def _is_held(source: ContentSource, digest: str) -> bool:
    """Whether a source gives a blob: asked by reading it, since a HEAD may be refused."""
    try:
        async with source.blob(digest):
            return True
    except BlobMissing:
        return False


def _tell(control: CopyControl, text: str, digests: Iterable[str]) -> None:
    names = list(digests)
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        control.warn(f"{text}: {', '.join(names[:_NAMED])}{more}")
