"""What is checked of a push: read from the registry over HTTP, and pulled by two clients."""

from __future__ import annotations

import gzip
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import docker

from tests.support.engines import images
from tests.support.engines.images import digest_of
from tests.support.engines.kinds import EngineKind
from tests.support.processes import program
from tests.support.servers.registry import MANIFEST_TYPES, Registry
from transship import JobRecord, State

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_GZIP: Final = b"\x1f\x8b"


class CheckFailed(AssertionError):
    """What is not as it has to be."""


def expect(condition: object, message: str) -> None:
    """Fail the case with this message unless the condition is true."""
    if not condition:
        raise CheckFailed(message)


@dataclass(frozen=True)
class Stored:
    """What an engine says of an image before it is pushed."""

    kind: EngineKind
    inspected: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The engine's ID of the image."""
        return str(self.inspected["Id"])

    @property
    def diff_ids(self) -> Sequence[str]:
        """The diff IDs of the host's platform."""
        return list(self.inspected["RootFS"]["Layers"])


def stored(kind: EngineKind, client: docker.DockerClient, name: str) -> Stored:
    """Ask the engine about an image."""
    return Stored(kind, images.inspect(client, name))


def check_succeeded(record: JobRecord, *, attempts: int | None = 1, skipped: bool = False) -> None:
    """The job succeeded, at the first attempt unless ``attempts`` is ``None``."""
    why = f": {record.error.code}: {record.error.message}" if record.error else ""
    expect(record.state is State.SUCCEEDED, f"the job {record.state}{why}")
    if attempts is not None:
        expect(record.attempts == attempts, f"{record.attempts} attempts, not {attempts}{why}")
    expect(record.skipped is skipped, f"skipped is {record.skipped}, not {skipped}")


def check_failed(record: JobRecord, code: str, *, words: str = "") -> None:
    """The job failed at its first attempt for good, under this code."""
    expect(record.state is State.FAILED, f"the job {record.state}, not failed")
    expect(record.error is not None, "a failed job has no error")
    assert record.error is not None
    said = f"{record.error.code}: {record.error.message}"
    expect(record.error.code == code, f"not {code} but {said}")
    expect(not record.error.retryable, f"retryable: {said}")
    expect(record.attempts == 1, f"{record.attempts} attempts: {said}")
    expect(words in record.error.message, f"the message does not name {words}: {said}")


@dataclass(frozen=True)
class Manifest:
    """A manifest or index as the registry serves it."""

    digest: str
    body: Mapping[str, Any]


def read_manifest(registry: Registry, repository: str, reference: str) -> Manifest:
    """Read a manifest and check the digest that the registry states."""
    answer = registry.get(f"{repository}/manifests/{reference}", accept=MANIFEST_TYPES)
    expect(answer.status_code == 200, f"{repository}:{reference} answers {answer.status_code}")
    digest = digest_of(answer.content)
    stated = answer.headers["Docker-Content-Digest"]
    expect(digest == stated, f"the registry states {stated} for {digest}")
    return Manifest(digest, json.loads(answer.content))


def check_content(
    registry: Registry, repository: str, tag: str, record: JobRecord, image: Stored, expected: str
) -> None:
    """The registry holds, whole, what belongs to the engine's image.

    Args:
        registry: Where it was pushed to.
        repository: The repository there.
        tag: The tag there.
        record: The succeeded job.
        image: What the engine said of the image before.
        expected: The digest that the tag must have; empty: any whose config is the image's.
    """
    top = read_manifest(registry, repository, tag)
    expect(top.digest == record.digest, f"the tag has {top.digest}, the job says {record.digest}")
    expect(expected in ("", top.digest), f"the tag has {top.digest}, not {expected}")
    all_diff_ids = []
    for manifest in _manifests(registry, repository, top):
        if any("in-toto" in layer["mediaType"] for layer in manifest.body["layers"]):
            _check_attestation(registry, repository, manifest)
            continue
        diff_ids = _check_image(registry, repository, manifest)
        all_diff_ids.append(diff_ids)
        if not expected:
            config = manifest.body["config"]["digest"]
            expect(config == image.id, f"the config is {config}, the image is {image.id}")
            expect(diff_ids == image.diff_ids, f"other diff IDs than those of {image.id}")
    expect(all_diff_ids, "the registry holds no image under the tag")
    if expected == image.id:
        expect(image.diff_ids in all_diff_ids, f"no manifest has the diff IDs of {image.id}")


def _manifests(registry: Registry, repository: str, top: Manifest) -> Iterator[Manifest]:
    if "manifests" not in top.body:
        yield top
    for entry in top.body.get("manifests", []):
        child = read_manifest(registry, repository, entry["digest"])
        expect(child.digest == entry["digest"], f"{entry['digest']} is {child.digest}")
        yield child


def _check_image(registry: Registry, repository: str, manifest: Manifest) -> Sequence[str]:
    """The config parses, and each layer has its diff ID; the diff IDs."""
    described = manifest.body["config"]
    config = registry.blob(repository, described["digest"])
    expect(digest_of(config) == described["digest"], "the config has another digest")
    diff_ids = list(json.loads(config)["rootfs"]["diff_ids"])
    layers = manifest.body["layers"]
    expect(len(layers) == len(diff_ids), f"{len(layers)} layers, {len(diff_ids)} diff IDs")
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        blob = registry.blob(repository, layer["digest"])
        expect(digest_of(blob) == layer["digest"], f"layer {layer['digest']} is corrupt")
        expect(len(blob) == layer["size"], f"layer {layer['digest']} has {len(blob)} bytes")
        expect(not blob.startswith(_ZSTD), "a layer is compressed by zstd: not checked here")
        content = gzip.decompress(blob) if blob.startswith(_GZIP) else blob
        expect(digest_of(content) == diff_id, f"layer {layer['digest']} is not {diff_id}")
    return diff_ids


def _check_attestation(registry: Registry, repository: str, manifest: Manifest) -> None:
    for described in [manifest.body["config"], *manifest.body["layers"]]:
        blob = registry.blob(repository, described["digest"])
        expect(digest_of(blob) == described["digest"], "an attestation is corrupt")


def check_engine_pulls(
    client: docker.DockerClient,
    image: Stored,
    name: str,
    record: JobRecord,
    *,
    platform: str | None = None,
    login: dict[str, str] | None = None,
) -> None:
    """The same engine, which no longer has the image, pulls it by tag and by digest."""
    images.remove(client, image.id)
    for reference in (name, f"{name.rpartition(':')[0]}@{record.digest}"):
        images.pull(client, reference, platform=platform, login=login)
        pulled = images.inspect(client, reference)
        expected = record.digest if image.kind.stores_manifests else image.id
        expect(
            pulled["Id"] == expected,
            f"the engine pulled {pulled['Id']} by {reference}, not {expected}",
        )
    images.remove(client, pulled["Id"])


def check_skopeo_pulls(name: str, record: JobRecord, *, login: str | None = None) -> None:
    """skopeo copies all that the digest names."""
    source = f"docker://{name.rpartition(':')[0]}@{record.digest}"
    with tempfile.TemporaryDirectory() as folder:
        words = [program("skopeo"), "--insecure-policy", "copy", "--quiet", "--all"]
        words += ["--src-creds", login] if login else []
        words += ["--src-tls-verify=false"]
        done = subprocess.run(
            [*words, source, f"dir:{folder}"], capture_output=True, text=True, timeout=300
        )
    expect(done.returncode == 0, f"skopeo cannot pull {source}: {done.stderr.strip()[-300:]}")
