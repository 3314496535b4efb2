"""Sending what a containerd image store exports to a real registry, byte for byte.

The engine is scripted: it exports layouts such as Docker Engine 26.1 and 28.5 were seen to write,
and such as none should. The real engines are part of ``./dev test matrix engines``.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.support.images.oci_exports import Export, tar_of
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.registry import MANIFEST_TYPES, Registry
from tests.support.workers.recording_control import RecordingControl
from transship.errors import DigestMismatch, EngineUnavailable, LeaseLost
from transship.model.references import ImageReference
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.oci.client import Repository
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.connection import Line
from transship_worker.transports.engine.identity import HeldImage, HeldManifest, Store
from transship_worker.transports.stream.choice import Fallback
from transship_worker.transports.stream.stored import StoredPush

pytestmark = [pytest.mark.registry]

MIB = 1024 * 1024


@dataclass
class ScriptedEngine:
    """What an engine exports, and what it says of an index."""

    data: bytes
    listed: tuple[HeldManifest, ...] | None = None
    exported: bool = False

    def export(self, *_: Any) -> Iterator[bytes]:
        self.exported = True
        for start in range(0, len(self.data), 300_000):
            yield self.data[start : start + 300_000]

    def manifests(self, *_: Any) -> tuple[HeldManifest, ...] | None:
        return self.listed


@dataclass
class Stored:
    """One streamed push of an export."""

    loop: BackgroundLoop
    pool: ClientPool
    address: str
    control: RecordingControl

    name: str = ""

    def push(
        self,
        export: Export,
        *,
        name: str = "",
        data: bytes | None = None,
        engine: ScriptedEngine | None = None,
    ) -> str:
        """Push to a repository, a fresh one unless it is named."""
        self.name = name or f"stored/{uuid.uuid4().hex[:8]}"
        engine = engine or ScriptedEngine(export.tar() if data is None else data)
        held = HeldImage(
            export.root, Store.CONTAINERD, frozenset(), export.diff_ids, len(export.tar()), None
        )
        push = StoredPush(self.loop, cast("Engine", engine), self._repository(), self.control, held)
        push.look()
        image = ImageReference.parse(f"{self.address}/{self.name}:1")
        return push.push(cast("Line", None), image)

    def _repository(self) -> Repository:
        async def make() -> Repository:
            client = self.pool.client(Endpoint(self.address))
            return client.repository(self.name, writing=True)

        return self.loop.run(make())


@pytest.fixture
def connect() -> Iterator[Callable[[str], Stored]]:
    with BackgroundLoop() as loop:

        async def make() -> ClientPool:
            return ClientPool()

        pool = loop.run(make())
        try:
            yield lambda address: Stored(loop, pool, address, RecordingControl())
        finally:
            loop.run(pool.close())


@pytest.fixture
def stored(connect: Callable[[str], Stored], plain_registry: Registry) -> Stored:
    return connect(plain_registry.address)


def whole_index(export: Export) -> str:
    """Two platforms and an attestation."""
    amd, arm = export.image(os.urandom(MIB)), export.image(os.urandom(900), architecture="arm64")
    return export.index((amd, "amd64"), (arm, "arm64"), (export.attestation(), "unknown"))


def served(registry: Registry, name: str, reference: str, kind: str = "manifests") -> bytes:
    answer = registry.get(f"{name}/{kind}/{reference}", accept=MANIFEST_TYPES)
    assert answer.status_code == 200, reference
    return bytes(answer.content)


def test_an_index_arrives_whole_and_unchanged(stored: Stored, plain_registry: Registry) -> None:
    export = Export()
    index = whole_index(export)
    assert stored.push(export) == index
    assert served(plain_registry, stored.name, "1") == export.blobs[index]
    for digest, content in export.blobs.items():
        kind = "manifests" if b'"schemaVersion"' in content[:40] else "blobs"
        assert served(plain_registry, stored.name, digest, kind) == content
    assert stored.control.warnings == []
    last = stored.control.last
    assert last.bytes_done <= last.bytes_total
    assert last.layers_done == last.layers_total


@pytest.mark.parametrize("gzipped", [True, False], ids=["gzip", "loaded from an archive"])
def test_one_manifest_arrives_with_its_layers_as_they_are_stored(
    stored: Stored, plain_registry: Registry, gzipped: bool
) -> None:
    export = Export()
    # The diff ids of uncompressed layers are their digests: nothing is to be compressed here.
    manifest = export.image(os.urandom(5 * MIB), b"{not JSON", b"", gzipped=gzipped)
    assert stored.push(export) == manifest
    assert served(plain_registry, stored.name, "1") == export.blobs[manifest]
    for digest, content in export.blobs.items():
        if digest != manifest:
            assert served(plain_registry, stored.name, digest, "blobs") == content


def test_blobs_that_the_registry_has_are_not_sent_again(
    connect: Callable[[str], Stored], plain_registry: Registry
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        stored = connect(proxy.address)
        export = Export()
        export.image(os.urandom(3 * MIB))
        stored.push(export)
        before = proxy.bytes_up
        stored.push(export, name=stored.name)
        assert proxy.bytes_up - before < 20_000


def lacking(digest_of: Callable[[Export], str]) -> Export:
    """An index whose export lacks one blob."""
    export = Export()
    whole_index(export)
    del export.blobs[digest_of(export)]
    return export


def first_child(export: Export) -> str:
    return str(json.loads(export.blobs[export.root])["manifests"][0]["digest"])


def first_layer(export: Export) -> str:
    return str(json.loads(export.blobs[first_child(export)])["layers"][0]["digest"])


@pytest.mark.parametrize("missing", [first_child, first_layer, lambda export: export.root])
def test_an_index_of_which_a_part_is_missing_is_left_to_the_engine_and_tags_nothing(
    stored: Stored, plain_registry: Registry, missing: Callable[[Export], str]
) -> None:
    with pytest.raises(Fallback, match="the engine's export"):
        stored.push(lacking(missing))
    assert plain_registry.digest(stored.name, "1") is None


def test_an_index_that_the_engine_says_to_lack_a_part_of_is_not_even_exported(
    stored: Stored,
) -> None:
    export = Export()
    whole_index(export)
    absent = HeldManifest(first_child(export), None, available=False, is_image=True)
    engine = ScriptedEngine(export.tar(), listed=(absent,))
    with pytest.raises(Fallback, match="does not hold all of the index"):
        stored.push(export, engine=engine)
    assert not engine.exported


@pytest.mark.parametrize("of", [first_layer, first_child], ids=["layer", "manifest"])
def test_content_that_is_not_what_its_digest_says_becomes_no_blob(
    stored: Stored, plain_registry: Registry, of: Callable[[Export], str]
) -> None:
    export = Export()
    whole_index(export)
    digest = of(export)
    export.blobs[digest] = export.blobs[digest][:-1] + b"!"
    with pytest.raises(DigestMismatch, match="the engine exported"):
        stored.push(export)
    assert plain_registry.digest(stored.name, "1") is None
    answer = plain_registry.get(f"{stored.name}/blobs/{digest}", accept="*/*")
    assert answer.status_code == 404


def test_an_export_that_breaks_off_tags_nothing(stored: Stored, plain_registry: Registry) -> None:
    export = Export()
    export.image(os.urandom(MIB))
    data = export.tar()
    with pytest.raises((EngineUnavailable, Fallback)):
        stored.push(export, data=data[: len(data) // 2])
    assert plain_registry.digest(stored.name, "1") is None


def test_an_export_of_an_older_layout_is_left_to_the_engine(stored: Stored) -> None:
    export = Export()
    export.image(b"layer")
    with pytest.raises(Fallback):
        stored.push(export, data=tar_of({"0/layer.tar": b"layer", "manifest.json": b"[]"}))


def test_a_job_that_lost_its_lease_writes_no_tag(stored: Stored, plain_registry: Registry) -> None:
    export = Export()
    whole_index(export)
    stored.control.lease_s = 0.5
    looks = iter(range(1000))

    def look() -> None:
        if next(looks) > 8:
            stored.control.stop(LeaseLost("another worker has it"))

    stored.control.at_checkpoint = look
    with pytest.raises(LeaseLost):
        stored.push(export)
    assert plain_registry.digest(stored.name, "1") is None
