"""Putting images into an engine in each way that people do: build, load, pull, BuildKit."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import docker
import requests

from tests.support.servers.registry import Registry
from tests.support.servers.root import Entry

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
#: The platforms of ``publish_index``, this machine's first.
PLATFORMS: Final = ("linux/amd64", "linux/arm64", "linux/arm/v7")


def digest_of(content: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def build(client: docker.DockerClient, name: str, sizes: Sequence[int]) -> str:
    """Build an image with one layer of random bytes for each size, without BuildKit; its ID."""
    files = {f"layer-{number}": os.urandom(size) for number, size in enumerate(sizes)}
    lines = ["FROM scratch", *(f"COPY {file} /{file}" for file in files)]
    context = tar_of({"Dockerfile": "\n".join(lines).encode(), **files})
    image, _ = client.images.build(
        fileobj=io.BytesIO(context), custom_context=True, tag=name, rm=True
    )
    return str(image.id)


def build_by_buildkit(entry: Entry, url: str, folder: Path, name: str, *, provenance: bool) -> None:
    """Build an image with two layers by BuildKit.

    Args:
        entry: A root that has the ``docker`` command and buildx, with ``folder`` mounted.
        url: The engine that builds it, whose socket is in ``folder``.
        folder: Where the build context is written.
        name: The image's name.
        provenance: With an attestation, which only the containerd image store can hold.

    Raises:
        RuntimeError: It was not built; the message holds the end of the output.
    """
    context = folder / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY one /one\nCOPY two /two\n")
    for file in ("one", "two"):
        (context / file).write_bytes(os.urandom(50_000))
    attestation = f"--provenance={str(provenance).lower()}"
    words = ["docker", "buildx", "build", attestation, "--load", "-t", name, str(context)]
    command = entry.words(words, environment={"DOCKER_HOST": url, "HOME": str(folder)})
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"docker buildx build failed: {done.stderr[-500:]}")


def pull(
    client: docker.DockerClient,
    reference: str,
    *,
    platform: str | None = None,
    login: dict[str, str] | None = None,
) -> None:
    """Pull an image by tag (``name:tag``) or digest (``name@digest``).

    Raises:
        RuntimeError: The engine could not; the message holds its own.
    """
    name, separator, version = reference.partition("@")
    if not separator:
        name, _, version = reference.rpartition(":")
    try:
        events = client.api.pull(
            name, tag=version, platform=platform, auth_config=login, stream=True, decode=True
        )
        for event in events:
            if "error" in event:
                raise RuntimeError(f"pull of {reference} failed: {event['error']}")
    except docker.errors.APIError as error:
        raise RuntimeError(f"pull of {reference} failed: {error}") from None


def inspect(client: docker.DockerClient, name: str) -> dict[str, Any]:
    """What the engine says of an image."""
    inspected: dict[str, Any] = client.api.inspect_image(name)  # type: ignore[no-untyped-call]
    return inspected


def remove(client: docker.DockerClient, image_id: str) -> None:
    """Remove an image under all its names, so that a pull has to fetch it anew."""
    try:
        inspected = inspect(client, image_id)
    except docker.errors.ImageNotFound:
        return
    for name in [*(inspected.get("RepoTags") or []), image_id]:
        try:
            client.api.remove_image(name, force=True)
        except docker.errors.APIError as error:
            # Removed with the last of its names.
            if error.status_code != 404:
                raise


def publish_index(registry: Registry, repository: str, tag: str) -> Mapping[str, str]:
    """Put an OCI index of ``PLATFORMS`` into a registry; the digests of its manifests.

    The index's own digest is under the key ``""``.
    """
    entries, digests = [], {}
    for platform in PLATFORMS:
        system, architecture, *variant = platform.split("/")
        described = {"os": system, "architecture": architecture}
        if variant:
            described["variant"] = variant[0]
        manifest = _publish_image(registry, repository, described)
        digests[platform] = digest_of(manifest)
        registry.put_manifest(repository, digests[platform], manifest, OCI_MANIFEST)
        entries.append({**_describe(manifest, OCI_MANIFEST), "platform": described})
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    registry.put_manifest(repository, tag, index, OCI_INDEX)
    return {**digests, "": digest_of(index)}


def _publish_image(registry: Registry, repository: str, platform: Mapping[str, str]) -> bytes:
    """Put the blobs of an image with two layers into a registry; its manifest."""
    tars = [tar_of({f"file-{number}": os.urandom(40_000)}) for number in range(2)]
    layers = [gzip.compress(content, mtime=0) for content in tars]
    rootfs = {"type": "layers", "diff_ids": [digest_of(content) for content in tars]}
    config = json.dumps({**platform, "config": {}, "rootfs": rootfs}).encode()
    for content in [*layers, config]:
        _put_blob(registry, repository, content)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _describe(config, _CONFIG),
        "layers": [_describe(content, _LAYER) for content in layers],
    }
    return json.dumps(manifest).encode()


def _put_blob(registry: Registry, repository: str, content: bytes) -> None:
    started = requests.post(f"{registry.base}/v2/{repository}/blobs/uploads/", timeout=30)
    started.raise_for_status()
    location = started.headers["Location"]
    separator = "&" if "?" in location else "?"
    put = requests.put(
        f"{location}{separator}digest={digest_of(content)}", data=content, timeout=30
    )
    put.raise_for_status()


def _describe(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
