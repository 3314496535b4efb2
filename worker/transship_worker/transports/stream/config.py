"""An image's config, as far as a manifest that the worker writes depends on it.

Source: OCI image-spec, config.md ("rootfs"); Docker's configs have the same fields.
"""

from __future__ import annotations

import json
from typing import Final

from transship_worker.oci.digests import is_digest
from transship_worker.transports.stream.choice import Fallback

#: More than any store takes. Unit: layers.
LAYERS_MOST: Final = 1_024


def diff_ids_of(raw: bytes) -> list[str]:
    """The digests of the image's uncompressed layers, from the lowest.

    Raises:
        Fallback: it is no image config: a manifest that an engine calls its image by, or another
            file.
    """
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        raise Fallback("the image's config is not JSON") from None
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise Fallback("what the image is called by is not the digest of an image config")
    if diff_ids is None:
        # An image without layers (Go writes null).
        diff_ids = []
    if not isinstance(diff_ids, list) or len(diff_ids) > LAYERS_MOST:
        raise Fallback("the image's config has no list of layers that can be used")
    if not all(isinstance(one, str) and is_digest(one) for one in diff_ids):
        raise Fallback("the image's config names a layer by what is no digest")
    return diff_ids
