"""Images made on the spot: no base image and no registry is needed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence

import docker


def archive(names: Sequence[str], layers: Sequence[bytes], *, note: str = "") -> bytes:
    """A ``docker save`` archive of one image; each layer holds one file with the given bytes."""
    tars = [_tar({f"layer-{number}": data}) for number, data in enumerate(layers)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Labels": {"note": note}},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
        },
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": note} for _ in tars],
    }
    body = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(body).hexdigest()}.json"
    files = {config_name: body}
    for number, tar in enumerate(tars):
        files[f"{number}/layer.tar"] = tar
    manifest = {
        "Config": config_name,
        "RepoTags": list(names),
        "Layers": [f"{number}/layer.tar" for number in range(len(tars))],
    }
    files["manifest.json"] = json.dumps([manifest]).encode()
    return _tar(files)


def make_image(
    client: docker.DockerClient,
    *names: str,
    layers: Sequence[int | bytes] = (1000,),
    note: str = "",
) -> str:
    """Put an image into an engine under these names and return its id.

    A layer given as a number holds that many random bytes, which do not compress; two images
    made so share nothing. The names lose whatever image they had before.
    """
    contents = [os.urandom(layer) if isinstance(layer, int) else layer for layer in layers]
    data = archive(names, contents, note=note or os.urandom(8).hex())
    images = client.images.load(data)
    return str(images[0].id)


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
