"""Manifests that are kept for whoever needs them soon."""

from __future__ import annotations

import json

from transship_worker.oci.descriptors import OCI_INDEX, Manifest, parse_manifest
from transship_worker.oci.manifest_cache import LARGEST, KeptManifests, OwnManifests


def manifest(note: str) -> Manifest:
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"n": note}}
    return parse_manifest(json.dumps(data).encode(), what="a test")


def test_a_manifest_is_kept_for_its_repository_alone() -> None:
    kept, one = OwnManifests(KeptManifests()), manifest("one")
    kept.keep("a/b", one)
    assert kept.get("a/b", one.digest) is one
    assert kept.get("a/c", one.digest) is None
    assert kept.get("a/b", "latest") is None


def test_the_oldest_are_dropped() -> None:
    kept = OwnManifests(KeptManifests(most=6_000))
    made = [manifest(str(number)) for number in range(10)]
    for one in made:
        kept.keep("a/b", one)
        kept.keep("a/b", one)
    there = [one for one in made if kept.get("a/b", one.digest)]
    assert there == made[-4:]


def test_clients_share_the_room_and_not_what_they_keep() -> None:
    store, one = KeptManifests(most=3_000), manifest("one")
    first, second = OwnManifests(store), OwnManifests(store)
    first.keep("a/b", one)
    assert second.get("a/b", one.digest) is None
    second.keep("a/b", manifest("two"))
    second.keep("a/b", manifest("three"))
    assert first.get("a/b", one.digest) is None


def test_a_large_one_is_not_kept() -> None:
    kept, one = OwnManifests(KeptManifests()), manifest("x" * LARGEST)
    kept.keep("a/b", one)
    assert kept.get("a/b", one.digest) is None
