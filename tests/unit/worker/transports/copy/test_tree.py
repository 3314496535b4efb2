"""The manifests of an image: their order and their bounds; and work side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from transship.errors import Denied, ManifestUnsupported, RegistryUnavailable
from transship_worker.concurrency.gather import both, together
from transship_worker.oci import digests
from transship_worker.oci.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest
from transship_worker.transports.copy import tree
from transship_worker.transports.copy.tree import Tree, TreeReader, blobs_of


def leaf(name: str, *layers: str) -> Manifest:
    entries = [
        {"mediaType": "application/x", "digest": digests.digest_of(one.encode()), "size": len(one)}
        for one in (name, *layers)
    ]
    data = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entries[0]}
    return parse_manifest(json.dumps(data | {"layers": entries[1:]}).encode(), what=name)


def index(*children: Manifest) -> Manifest:
    entries = [
        {"mediaType": one.media_type, "digest": one.digest, "size": len(one.raw)}
        for one in children
    ]
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return parse_manifest(json.dumps(data).encode(), what="index")


async def read(root: Manifest, others: Sequence[Manifest]) -> Tree:
    known = {one.digest: one for one in others}

    async def get(digest: str) -> Manifest:
        await asyncio.sleep(0)
        return known[digest]

    return await TreeReader("hub/app:v1").tree(root, get)


async def test_what_leads_to_others_stands_behind_all_of_them() -> None:
    one, two = leaf("one", "shared"), leaf("two", "shared")
    inner = index(one)
    # It is named beside what leads to it.
    outer = index(inner, one, index(two, inner))
    found = await read(outer, [one, two, inner, index(two, inner)])
    names = [manifest.digest for manifest in found.manifests]
    assert names[-1] == outer.digest
    assert len(names) == len(set(names)) == 5
    for manifest in found.manifests:
        for child in manifest.children:
            assert names.index(child.digest) < names.index(manifest.digest)
    for earlier in found.rounds:
        written = {manifest.digest for manifest in earlier}
        assert not any(child.digest in written for one in earlier for child in one.children)


async def test_each_blob_of_all_trees_is_listed_once() -> None:
    one, two = leaf("one", "shared"), leaf("two", "shared")
    blobs = blobs_of([Tree(one), await read(index(one, two), [one, two])])
    assert list(blobs) == [digests.digest_of(name) for name in (b"one", b"shared", b"two")]


async def test_too_many_manifests_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tree, "MANIFESTS_MOST", 3)
    leaves = [leaf(str(n)) for n in range(3)]
    with pytest.raises(ManifestUnsupported, match="hub/app:v1 has more than 3 manifests"):
        await read(index(*leaves), [])
    await read(index(*leaves[:2]), leaves)


async def test_too_many_bytes_of_manifests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = [leaf(str(n)) for n in range(3)]
    root = index(*leaves)
    total = sum(len(one.raw) for one in (root, *leaves))
    monkeypatch.setattr(tree, "BYTES_MOST", total)
    await read(root, leaves)
    monkeypatch.setattr(tree, "BYTES_MOST", total - 1)
    with pytest.raises(ManifestUnsupported):
        await read(root, leaves)


async def test_too_many_layers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = [leaf(str(n), f"layer {n}") for n in range(3)]
    monkeypatch.setattr(tree, "BLOBS_MOST", 6)
    await read(index(*leaves), leaves)
    monkeypatch.setattr(tree, "BLOBS_MOST", 5)
    with pytest.raises(ManifestUnsupported, match="more than 5 layers"):
        await read(index(*leaves), leaves)


async def test_the_first_failure_is_raised_with_its_cause_and_ends_the_rest() -> None:
    ended = []

    async def fail() -> None:
        raise Denied("no") from ValueError("the answer")

    async def go_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def nested() -> None:
        await both(go_on(), fail())

    with pytest.raises(Denied) as caught:
        await together([nested(), go_on()])
    assert isinstance(caught.value.__cause__, ValueError)
    assert ended == [True, True]


async def test_results_come_in_the_order_of_the_work() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await together(map(after, (3, 1, 2))) == [3, 1, 2]
    assert await both(after(2), after(1)) == (2, 1)
    assert await together([]) == []


async def test_one_that_failed_before_the_others_began_leaves_nothing_running() -> None:
    async def fail() -> None:
        raise RegistryUnavailable("gone")

    with pytest.raises(RegistryUnavailable):
        await together([fail(), fail(), fail()])
    assert asyncio.all_tasks() == {asyncio.current_task()}
