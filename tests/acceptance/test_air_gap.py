"""Across an air gap: from a registry into a folder, and from the folder into another registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images.corpus import KIB, Corpus, Image, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.images.engine_images import archive
from tests.support.images.layout_folders import put
from tests.support.images.registry_images import (
    entry,
    image,
    index,
    noise,
    put_image,
    repository,
    with_pool,
)
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component, counted, manifests, rule, spec
from transship.model.records import JobRecord
from transship.report.render import render
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.layouts.index import REF_NAME
from transship_worker.oci import digests
from transship_worker.oci.pool import ClientPool

pytestmark = [pytest.mark.redis, pytest.mark.registry]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is carried across."""
    folder = tmp_path / "carried"
    folder.mkdir()
    return folder


@pytest.fixture
def near(tmp_path: Path, redis_url: str) -> Iterator[CopySite]:
    """The fleet on this side."""
    site = CopySite(tmp_path / "near", redis_url)
    yield site
    site.close()


@pytest.fixture
def far(tmp_path: Path, redis_url: str) -> Iterator[CopySite]:
    """The fleet on the other side, which knows nothing of the first."""
    site = CopySite(tmp_path / "far", redis_url)
    yield site
    site.close()


def put_index(registry: Registry, name: str) -> None:
    """An index of two images under ``v1``."""

    async def work(pool: ClientPool) -> None:
        source = repository(pool, registry.address, name)
        entries = []
        for platform in ("linux/amd64", "linux/arm64"):
            layer = noise(20_000, platform)
            one = await put_image(source, image(layer), layer, b"{}")
            entries.append(entry(one, platform))
        await put_image(source, index(*entries), tag="v1")

    with_pool(work)


def layout(folder: Path) -> dict[str, str]:
    """The folder as a component."""
    return {"flavor": "layout", "uri": str(folder)}


def test_images_cross_in_a_folder_and_every_digest_is_equal(
    near: CopySite, far: CopySite, folder: Path
) -> None:
    corpus = shared_layers(3, 2, shared=2, shared_size=16 * KIB, own_size=8 * KIB, seed="gap")
    with Registry() as old, Registry() as new:
        fill(old.base, corpus)
        put_index(old, "gap/index")
        near.write_catalog({"old": component(old.address), "disk": layout(folder)})
        near.start_copier()
        out = near.client.migrate(spec(rule("old", "disk"))).wait(timeout=60)
        assert counted(out.images) == {"planned": 7, "succeeded": 7}
        again = near.client.migrate(spec(rule("old", "disk"))).wait(timeout=60)
        assert counted(again.images) == {"planned": 7, "skipped": 7}
        near.close()
        old.stop()

        far.write_catalog({"disk": layout(folder), "new": component(new.address)})
        far.start_copier()
        into = far.client.migrate(spec(rule("disk", "new"))).wait(timeout=60)
        assert counted(into.images) == {"planned": 7, "succeeded": 7}
        # Between the two sides each byte is carried once, too.
        assert into.bytes.moved == corpus.unique_bytes + 2 * 20_000 + 2

        old.start()
        places = [(one.repository, one.tag) for one in corpus.images] + [("gap/index", "v1")]
        for name, tag in places:
            assert manifests(new.address, name, tag) == manifests(old.address, name, tag)
        _blobs_are_equal(corpus, new)


def _blobs_are_equal(corpus: Corpus, registry: Registry) -> None:
    for one in corpus.images:
        for layer in one.layers:
            expected = b"".join(layer.pieces())
            assert registry.blob(one.repository, layer.digest) == expected


def test_an_archive_in_the_folder_is_a_source(near: CopySite, folder: Path) -> None:
    contents = [b"first" * 1_000, b"second" * 1_000]
    (folder / "saved.tar").write_bytes(archive(["acme/app:3"], contents, note="saved"))
    with Registry() as new:
        near.write_catalog({"disk": layout(folder), "new": component(new.address)})
        near.start_copier()

        done = near.client.copy("disk.layout/saved.tar:3", f"{new.address}/acme/app:3").wait(60)
        again = near.client.copy("disk.layout/saved.tar:3", f"{new.address}/acme/app:3").wait(60)

        assert done.digest == new.digest("acme/app", "3")
        assert not done.skipped
        assert again.skipped
        assert again.digest == done.digest
        (digest,) = manifests(new.address, "acme/app", "3")
        assert digest == done.digest
        found = new.manifest("acme/app", "3")
        bodies = [new.blob("acme/app", one["digest"]) for one in found["layers"]]
        for body, content in zip(bodies, contents, strict=True):
            assert content in body


def test_a_damaged_layer_in_the_folder_is_written_anew(near: CopySite, folder: Path) -> None:
    corpus = shared_layers(2, 1, shared=1, shared_size=16 * KIB, own_size=8 * KIB, seed="damage")
    first, second = corpus.images
    shared = first.layers[0].digest
    with Registry() as old:
        fill(old.base, corpus)
        near.write_catalog({"old": component(old.address), "disk": layout(folder)})
        near.start_copier()

        def copy(image: Image, tag: str) -> JobRecord:
            source = f"{old.address}/{image.repository}:{image.tag}"
            return near.client.copy(source, f"disk.layout/app:{tag}").wait(60)

        assert not copy(first, "1").skipped
        file = folder / "app/blobs/sha256" / shared.partition(":")[2]
        for damaged, tag, image in ((b"short", "1", first), (bytes(16 * KIB), "2", second)):
            file.write_bytes(damaged)
            done = copy(image, tag)
            assert (done.state, done.skipped, done.attempts) == ("succeeded", False, 1)
            assert digests.digest_of(file.read_bytes()) == shared
        assert copy(first, "1").skipped


def test_what_a_folder_holds_and_no_rule_can_name_is_told(near: CopySite, folder: Path) -> None:
    (folder / "app.tar").write_bytes(archive(["acme/app:3"], [b"layer"], note="saved"))
    (folder / "Team").mkdir()
    (folder / "linked").symlink_to(folder / "Team")
    layouts = LayoutFolder(folder, "disk.layout")
    found = asyncio.run(_layout_of(layouts, 3))
    file = folder / "cat/index.json"
    data = json.loads(file.read_bytes())
    for listed, name in zip(data["manifests"], ("v1", "not a tag", None), strict=True):
        listed["annotations"] = {REF_NAME: name} if name else {}
    file.write_text(json.dumps(data))

    with Registry() as new:
        near.write_catalog({"disk": layout(folder), "new": component(new.address)})
        near.start_copier()
        migration = near.client.migrate(spec(rule("disk", "new")))
        record = migration.wait(timeout=60)
        assert counted(record.images) == {"planned": 2, "succeeded": 2}
        untagged = "skipped 1 image without a tag, which can be copied by its digest"
        told = [
            "disk: skipped 1 name that is not a valid repository name: 'Team'",
            "disk: skipped 1 symbolic link, which is not followed: 'linked'",
            "rules[0]: disk/cat: skipped 1 name that is not a valid tag: 'not a tag'",
            f"rules[0]: disk/cat: {untagged}: '{found[2]}'",
        ]
        assert sorted(record.warnings) == sorted(told)
        report = migration.report()
        assert sorted(json.loads(report.to_json())["migration"]["warnings"]) == sorted(told)
        assert all(f"warning: {one}" in render(report, "text") for one in told)


async def _layout_of(folder: LayoutFolder, count: int) -> list[str]:
    """Digests of so many images in the repository ``cat``, in the order of its index."""
    return [(await put(folder.target("cat"), f"v{n}", b"%d" % n)).digest for n in range(count)]
