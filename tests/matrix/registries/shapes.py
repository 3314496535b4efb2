"""Images and artifacts of every shape, made of random bytes, and put where a case needs them."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.matrix.registries.wire import Served, Wire, digest_of, expect
from tests.support.strict_registry.registry import StrictRegistry
from tests.support.strict_registry.store import StoredManifest

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
NONDISTRIBUTABLE: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
#: What BuildKit writes as the config of a registry cache (moby/buildkit, cache/remotecache/v1).
BUILDKIT_CACHE: Final = "application/vnd.buildkit.cacheconfig.v0"

Descriptor = dict[str, Any]


@dataclass
class Shape:
    """What one repository holds: blobs, manifests (children first) and tags."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Served] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add_blob(
        self, data: bytes, media_type: str = OCI_LAYER, *, algorithm: str = "sha256", **more: Any
    ) -> Descriptor:
        """A blob that the source holds; its descriptor."""
        described = describe(data, media_type, algorithm=algorithm, **more)
        self.blobs[described["digest"]] = data
        return described

    def add_manifest(
        self,
        fields: Mapping[str, Any],
        *,
        tag: str = "",
        served_as: str = "",
        algorithm: str = "sha256",
    ) -> Descriptor:
        """A manifest of these fields; its descriptor."""
        body = json.dumps({"schemaVersion": 2, **fields}).encode()
        media_type = served_as or str(fields["mediaType"])
        described = describe(body, media_type, algorithm=algorithm)
        self.manifests[described["digest"]] = Served(body, media_type)
        if tag:
            self.tags[tag] = described["digest"]
        return described

    def add_image(
        self,
        *layers: Descriptor,
        config: bytes | None = None,
        tag: str = "",
        algorithm: str = "sha256",
        **fields: Any,
    ) -> Descriptor:
        """An OCI image of these layers; without a config, the empty one of artifacts."""
        if config is None:
            described = self.add_blob(b"{}", OCI_EMPTY)
        else:
            described = self.add_blob(config, OCI_CONFIG)
        wanted = {
            "mediaType": OCI_MANIFEST, "config": described, "layers": list(layers), **fields
        }  # fmt: skip
        return self.add_manifest(wanted, tag=tag, algorithm=algorithm)

    def add_index(self, *entries: Descriptor, tag: str = "", **fields: Any) -> Descriptor:
        """An index of these entries."""
        wanted = {"mediaType": OCI_INDEX, "manifests": list(entries), **fields}
        return self.add_manifest(wanted, tag=tag)

    def top(self, tag: str) -> Served:
        """The manifest under a tag."""
        return self.manifests[self.tags[tag]]

    def hold(self, registry: StrictRegistry, repository: str) -> None:
        """Put it into the memory of a strict registry, past its checks."""
        held = registry.store.repository(repository)
        registry.store.blobs.update(self.blobs)
        held.blobs.update(self.blobs)
        for digest, served in self.manifests.items():
            data = json.loads(served.body)
            held.manifests[digest] = StoredManifest(served.body, served.media_type, data)
        held.tags.update(self.tags)

    def put(self, wire: Wire, repository: str) -> None:
        """Put it into a registry by plain requests."""
        for digest, data in self.blobs.items():
            wire.put_blob(repository, data, digest.partition(":")[0])
        for digest, served in self.manifests.items():
            wire.put_manifest(repository, digest, served)
        for tag, digest in self.tags.items():
            wire.put_manifest(repository, tag, self.manifests[digest])

    def check(self, wire: Wire, repository: str, *, absent: Sequence[str] = ()) -> None:
        """Fail unless a registry gives the same bytes for all of it, ``absent`` blobs excepted."""
        for tag, digest in self.tags.items():
            found = wire.manifest(repository, tag)
            expect(found is not None, f"{repository}:{tag} is not there")
            assert found is not None
            expect(found.body == self.manifests[digest].body, f"{repository}:{tag} is another")
        for digest, served in self.manifests.items():
            found = wire.manifest(repository, digest)
            expect(found is not None, f"{repository} lacks the manifest {digest}")
            assert found is not None
            expect(found.body == served.body, f"the manifest {digest} has other bytes")
        for digest, data in self.blobs.items():
            if digest not in absent:
                expect(wire.blob(repository, digest) == data, f"{repository} lacks {digest}")


def describe(data: bytes, media_type: str, *, algorithm: str = "sha256", **more: Any) -> Descriptor:
    """The descriptor of a content."""
    digest = digest_of(data, algorithm)
    return {"mediaType": media_type, "digest": digest, "size": len(data), **more}


def noise(size: int, seed: object) -> bytes:
    """Bytes that are the same for the same seed."""
    return random.Random(str(seed)).randbytes(size)


def layer(size: int, seed: object) -> tuple[bytes, str]:
    """A gzip layer with one file of random bytes, and its diff ID."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("data")
        entry.size = size
        tar.addfile(entry, io.BytesIO(noise(size, seed)))
    content = buffer.getvalue()
    return gzip.compress(content, 1, mtime=0), digest_of(content)


def config(diff_ids: Sequence[str], architecture: str = "amd64", **more: Any) -> bytes:
    """An image's config."""
    rootfs = {"type": "layers", "diff_ids": list(diff_ids)}
    fields = {"os": "linux", "architecture": architecture, "config": {}, "rootfs": rootfs, **more}
    return json.dumps(fields).encode()


def add_platform(
    shape: Shape, seed: str, architecture: str, *, layers: int = 2, tag: str = ""
) -> Descriptor:
    """A whole image for one platform."""
    made = [layer(20_000, f"{seed}/{architecture}/{n}") for n in range(layers)]
    described = [shape.add_blob(data) for data, _ in made]
    body = config([diff_id for _, diff_id in made], architecture)
    return shape.add_image(*described, config=body, tag=tag)


def single(seed: str, *, layers: int = 2, tag: str = "v1") -> Shape:
    """An image for one platform."""
    shape = Shape()
    add_platform(shape, seed, "amd64", layers=layers, tag=tag)
    return shape


def docker_image(seed: str, tag: str = "v1") -> Shape:
    """A Docker image (schema 2)."""
    shape = Shape()
    data, diff_id = layer(5_000, seed)
    shape.add_manifest(
        {
            "mediaType": DOCKER_MANIFEST,
            "config": shape.add_blob(config([diff_id]), DOCKER_CONFIG),
            "layers": [shape.add_blob(data, DOCKER_LAYER)],
        },
        tag=tag,
    )
    return shape


def attested_index(seed: str, tag: str = "v1") -> Shape:
    """An index of two platforms, each with an attestation, as BuildKit makes them."""
    shape, entries = Shape(), []
    for architecture in ("amd64", "arm64"):
        child = add_platform(shape, seed, architecture)
        entries.append({**child, "platform": {"os": "linux", "architecture": architecture}})
        statement = shape.add_blob(
            json.dumps({"_type": "https://in-toto.io/Statement/v0.1", "of": seed}).encode(),
            "application/vnd.in-toto+json",
            annotations={"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
        )
        proof = shape.add_image(statement, config=config([statement["digest"]], "unknown"))
        entries.append(
            {
                **proof,
                "platform": {"os": "unknown", "architecture": "unknown"},
                "annotations": {
                    "vnd.docker.reference.digest": child["digest"],
                    "vnd.docker.reference.type": "attestation-manifest",
                },
            }
        )
    shape.add_index(*entries, tag=tag)
    return shape


def small_image(seed: object, tag: str = "") -> Shape:
    """An image of one tiny layer, for lists of many."""
    shape = Shape()
    data, diff_id = layer(10, seed)
    shape.add_image(shape.add_blob(data), config=config([diff_id], note=str(seed)), tag=tag)
    return shape
