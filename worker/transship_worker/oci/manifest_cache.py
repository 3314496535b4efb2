"""Manifests that were read a moment ago, for whoever needs the same ones soon.

Content that is named by its digest cannot be out of date. It is kept per client (registry and
login) and repository, so that nobody is given what the registry would refuse.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.manifest_memory import cost_of

#: What all clients of a process keep; the oldest are dropped. Unit: bytes.
BYTES_MOST: Final = 16 * 1024 * 1024
#: A larger one is not worth the others. Unit: bytes.
LARGEST: Final = 1024 * 1024


class KeptManifests:
    """Manifests of all clients by client, repository and digest, the newest."""

    def __init__(self, most: int = BYTES_MOST) -> None:
        self._most = most
        self._size = 0
        self._found: OrderedDict[tuple[int, str, str], Manifest] = OrderedDict()
        self._clients = 0

    def next_client(self) -> int:
        """A number for one more client."""
        self._clients += 1
        return self._clients

    def get(self, client: int, repository: str, digest: str) -> Manifest | None:
        """The manifest, if it was kept."""
        return self._found.get((client, repository, digest))

    def keep(self, client: int, repository: str, manifest: Manifest) -> None:
        """Keep a manifest whose digest was verified."""
        key = (client, repository, manifest.digest)
        if key in self._found or cost_of(manifest) > LARGEST:
            return
        self._found[key] = manifest
        self._size += cost_of(manifest)
        while self._size > self._most:
            _, old = self._found.popitem(last=False)
            self._size -= cost_of(old)


class OwnManifests:
    """The manifests of one client."""

    def __init__(self, kept: KeptManifests) -> None:
        self._kept = kept
        self._client = kept.next_client()

    def get(self, repository: str, digest: str) -> Manifest | None:
        """The manifest, if it was kept."""
        return self._kept.get(self._client, repository, digest)

    def keep(self, repository: str, manifest: Manifest) -> None:
        """Keep a manifest whose digest was verified."""
        self._kept.keep(self._client, repository, manifest)
