"""Manifests that were read a moment ago, for whoever needs the same ones soon.

Content that is named by its digest cannot be out of date. It is kept per registry, login and
repository, so that nobody is given what the registry would refuse.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from transship_worker.oci.descriptors import Manifest

#: Bytes of manifests that one client keeps; the oldest are dropped. Unit: bytes.
BYTES_MOST: Final = 8 * 1024 * 1024
#: What one manifest takes besides its bytes, about. Unit: bytes.
_OVERHEAD: Final = 4_096


class KeptManifests:
    """Manifests of one client by repository and digest, the newest."""

    def __init__(self, most: int = BYTES_MOST) -> None:
        self._most = most
        self._size = 0
        self._found: OrderedDict[tuple[str, str], Manifest] = OrderedDict()

    def get(self, repository: str, digest: str) -> Manifest | None:
        """The manifest, if it was kept."""
        return self._found.get((repository, digest))

    def keep(self, repository: str, manifest: Manifest) -> None:
        """Keep a manifest whose digest was verified."""
        key = (repository, manifest.digest)
        if key in self._found:
            return
        self._found[key] = manifest
        self._size += len(manifest.raw) + _OVERHEAD
        while self._size > self._most:
            _, old = self._found.popitem(last=False)
            self._size -= len(old.raw) + _OVERHEAD
