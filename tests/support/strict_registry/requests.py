"""Plain requests to a strict registry, and the parts that they bring."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import requests

from tests.support.strict_registry.registry import StrictRegistry

#: A blob.
DATA = bytes(range(256)) * 1024
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    """Its sha256 digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def ask(registry: StrictRegistry, method: str, path: str, **more: Any) -> requests.Response:
    """One request; redirects are given back."""
    return requests.request(
        method, f"{registry.base}{path}", timeout=30, allow_redirects=False, **more
    )


def code(answer: requests.Response) -> tuple[int, str]:
    """An error answer: its status and the first code."""
    return answer.status_code, str(answer.json()["errors"][0]["code"])


def opened(registry: StrictRegistry, repository: str = "a/b", query: str = "") -> str:
    """The address of a new upload."""
    answer = ask(registry, "POST", f"/v2/{repository}/blobs/uploads/{query}")
    assert answer.status_code == 202
    return answer.headers["Location"]


def put_blob(
    registry: StrictRegistry, data: bytes = DATA, repository: str = "a/b", **more: Any
) -> requests.Response:
    """Upload a blob in one body."""
    place = f"{opened(registry, repository)}&digest={digest_of(data)}"
    return ask(registry, "PUT", place, data=data, **more)


def put_manifest(
    registry: StrictRegistry, reference: str, repository: str = "a/b", **fields: Any
) -> requests.Response:
    """Put a manifest with these fields."""
    data = {"schemaVersion": 2, "mediaType": IMAGE, **fields}
    path = f"/v2/{repository}/manifests/{reference}"
    headers = {"Content-Type": data["mediaType"]}
    return ask(registry, "PUT", path, data=json.dumps(data), headers=headers)


def layer(data: bytes = DATA) -> dict[str, Any]:
    """A descriptor of a blob."""
    return {"mediaType": "application/octet-stream", "digest": digest_of(data), "size": len(data)}


def blob_path(data: bytes = DATA, repository: str = "a/b") -> str:
    """Where a blob is read."""
    return f"/v2/{repository}/blobs/{digest_of(data)}"
