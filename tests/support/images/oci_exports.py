"""Images as the containerd image store exports them: OCI image layouts, in its order of members.

Written after exports of Docker Engine 26.1 and 28.5: ``blobs`` by their digests, then
``index.json``, ``manifest.json`` and ``oci-layout``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OCI = "application/vnd.oci.image"


@dataclass
class Export:
    """The blobs of one image, and the manifest or index that names it."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    root: str = ""
    #: Diff ids of the last image that was added.
    diff_ids: tuple[str, ...] = ()

    def add(self, content: bytes) -> str:
        """A blob; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return digest

    def image(self, *layers: bytes, architecture: str = "amd64", gzipped: bool = True) -> str:
        """An image's manifest; it is the root until an index is made."""
        self.diff_ids = tuple(f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers)
        rootfs = {"type": "layers", "diff_ids": list(self.diff_ids)}
        config = {"architecture": architecture, "os": "linux", "rootfs": rootfs}
        stored = [gzip.compress(one, mtime=0) if gzipped else one for one in layers]
        kind = f"{OCI}.layer.v1.tar{'+gzip' if gzipped else ''}"
        return self._manifest(
            json.dumps(config).encode(), f"{OCI}.config.v1+json", [(kind, one) for one in stored]
        )

    def attestation(self) -> str:
        """The manifest of an attestation, as BuildKit makes them."""
        statement = json.dumps({"_type": "https://in-toto.io/Statement/v0.1"}).encode()
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}}).encode()
        layers = [("application/vnd.in-toto+json", statement)]
        return self._manifest(config, f"{OCI}.config.v1+json", layers)

    def index(self, *entries: tuple[str, str]) -> str:
        """An index of manifests and their architectures (``unknown``: an attestation)."""
        manifests = [
            {
                "mediaType": f"{OCI}.manifest.v1+json",
                "digest": digest,
                "size": len(self.blobs[digest]),
                "platform": {
                    "architecture": architecture,
                    "os": "unknown" if architecture == "unknown" else "linux",
                },
            }
            for digest, architecture in entries
        ]
        value = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}
        self.root = self.add(json.dumps(value).encode())
        return self.root

    def _manifest(self, config: bytes, config_type: str, layers: list[tuple[str, bytes]]) -> str:
        value = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self._descriptor(config_type, config),
            "layers": [self._descriptor(kind, content) for kind, content in layers],
        }
        self.root = self.add(json.dumps(value).encode())
        return self.root

    def _descriptor(self, kind: str, content: bytes) -> Mapping[str, Any]:
        return {"mediaType": kind, "digest": self.add(content), "size": len(content)}

    def tar(self) -> bytes:
        """The export."""
        files = {f"blobs/{digest.replace(':', '/')}": data for digest, data in self.blobs.items()}
        files = dict(sorted(files.items()))
        root = {"digest": self.root, "size": len(self.blobs.get(self.root, b""))}
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [root]}).encode()
        files["manifest.json"] = b"[]"
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        return tar_of(files)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
