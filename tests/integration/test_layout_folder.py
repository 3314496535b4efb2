"""A folder as a registry: written, read back here and by skopeo, shared by several writers."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.images.layout_folders import (
    LAYER,
    LAYER_DIGEST,
    Blobs,
    descriptor,
    image,
    put,
    read,
    store,
)
from tests.support.images.registry_client import EMPTY_DIGEST, make_manifest
from tests.support.processes import eventually, program, soon
from tests.support.repository import ROOT
from transship.errors import (
    BlobMissing,
    Denied,
    DigestMismatch,
    PushRejected,
    RegistryUnavailable,
)
from transship_worker.layouts.folder import translate
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.layouts.layout import NotLinked
from transship_worker.layouts.writing import Part
from transship_worker.oci import digests
from transship_worker.oci.content import ContentSource, ContentTarget
from transship_worker.oci.descriptors import OCI_INDEX, parse_manifest
from transship_worker.oci.referrers import fallback_tag


def skopeo(*words: str) -> bytes:
    done = subprocess.run(
        [program("skopeo"), "--insecure-policy", *words], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_it_is_what_a_copy_reads_from_and_writes_to(folder: LayoutFolder) -> None:
    target: ContentTarget = folder.target("tools/cat")
    source: ContentSource = folder.target("tools/cat")
    assert (target.registry, target.repository, str(source)) == (
        "images.layout",
        "tools/cat",
        "images.layout/tools/cat",
    )
    assert (target.can_mount, target.mounts_need_manifest) == (True, False)


async def test_a_disk_that_fails_in_the_middle_is_not_gone_on_with(
    folder: LayoutFolder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Part.write

    def full_once(part: Part, data: bytes | bytearray) -> None:
        """A fake full disk: half of the piece is written; the next piece would fit."""
        monkeypatch.setattr(Part, "write", real)
        real(part, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Part, "write", full_once)
    source = Blobs(LAYER)
    with pytest.raises(RegistryUnavailable, match="the worker's disk is full"):
        await store(folder.target("cat"), LAYER, source)
    assert source.offsets == [0]
    assert [p for p in path.rglob("*") if p.is_file()] == []


async def test_what_is_written_is_read_back(folder: LayoutFolder) -> None:
    target = folder.target("tools/cat")
    assert await target.head("1.2") is None
    assert await target.blob_head(LAYER_DIGEST) is None
    manifest = await put(target, "1.2", LAYER, b"")
    source = await folder.source("tools/cat")
    for reference in ("1.2", manifest.digest):
        head = await source.head(reference)
        assert head is not None
        assert (head.digest, head.media_type) == (manifest.digest, manifest.media_type)
        assert head.size == len(manifest.raw)
        assert await source.manifest(reference) == manifest
    assert await read(source, LAYER_DIGEST) == LAYER
    assert await read(source, LAYER_DIGEST, 2_000_000) == LAYER[2_000_000:]
    assert await read(source, LAYER_DIGEST, len(LAYER)) == b""
    assert await read(source, digests.digest_of(b"")) == b""
    assert await source.head(LAYER_DIGEST) is None
    assert await folder.tags("tools/cat") == ["1.2"]
    assert [page async for page in folder.repositories()] == [["tools/cat"]]


async def test_nothing_but_the_layout_is_left_in_the_folder(
    folder: LayoutFolder, path: Path
) -> None:
    await put(folder.target("cat"), "1", LAYER)
    assert sorted(p.name for p in (path / "cat").iterdir()) == ["blobs", "index.json", "oci-layout"]
    assert json.loads((path / "cat/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


async def test_skopeo_reads_what_was_written(folder: LayoutFolder, path: Path) -> None:
    target = folder.target("tools/cat")
    one = await put(target, "1", LAYER, annotations={"n": "1"})
    two = await put(target, "2", LAYER, annotations={"n": "2"})
    assert skopeo("inspect", "--raw", f"oci:{path}/tools/cat:1") == one.raw
    assert skopeo("inspect", "--raw", f"oci:{path}/tools/cat:2") == two.raw


async def test_a_layout_that_skopeo_wrote_is_read_and_added_to(
    folder: LayoutFolder, path: Path
) -> None:
    first = await put(folder.target("mine"), "1", LAYER)
    (path / "theirs").mkdir()
    skopeo("copy", "--all", f"oci:{path}/mine:1", f"oci:{path}/theirs:v1")
    raw = skopeo("inspect", "--raw", f"oci:{path}/theirs:v1")

    source = await folder.source("theirs")
    assert await source.tags() == ["v1"]
    assert (await source.manifest("v1")).raw == raw
    assert await read(source, LAYER_DIGEST) == LAYER
    added = await put(folder.target("theirs"), "v2", LAYER)
    assert added == first
    assert skopeo("inspect", "--raw", f"oci:{path}/theirs:v1") == raw
    assert skopeo("inspect", "--raw", f"oci:{path}/theirs:v2") == added.raw


async def test_a_source_that_breaks_is_gone_on_with_where_it_stopped(folder: LayoutFolder) -> None:
    source = Blobs(LAYER, breaks=[1_500_000, 2_500_000])
    moved = await store(folder.target("cat"), LAYER, source)
    assert source.offsets == [0, 1_500_000, 2_500_000]
    assert sum(moved) == len(LAYER)
    assert await read(folder.target("cat"), LAYER_DIGEST) == LAYER


async def test_a_source_without_parts_starts_again_and_says_so(folder: LayoutFolder) -> None:
    moved = await store(folder.target("cat"), LAYER, Blobs(LAYER, breaks=[1_500_000], parts=False))
    assert -1_500_000 in moved
    assert sum(moved) == len(LAYER)
    assert await read(folder.target("cat"), LAYER_DIGEST) == LAYER


async def test_a_source_that_breaks_again_and_again_ends_with_its_error(
    folder: LayoutFolder,
) -> None:
    with pytest.raises(RegistryUnavailable, match="the fake source broke off"):
        await store(folder.target("cat"), LAYER, Blobs(LAYER, breaks=[10] * 9))


@pytest.mark.parametrize(
    "sent", [LAYER[:-1], LAYER + b"1", b"x" + LAYER[1:]], ids=["short", "long", "other"]
)
async def test_what_is_not_the_blob_is_not_kept(
    folder: LayoutFolder, path: Path, sent: bytes
) -> None:
    with pytest.raises(DigestMismatch, match=f"images.layout/cat@{LAYER_DIGEST}: "):
        await store(folder.target("cat"), LAYER, Blobs(sent))
    assert await folder.target("cat").blob_head(LAYER_DIGEST) is None
    assert [p for p in path.rglob("*") if p.is_file()] == []


async def test_a_write_that_is_cancelled_leaves_nothing(folder: LayoutFolder, path: Path) -> None:
    class Endless(Blobs):
        """A fake source that stops in the middle."""

        async def pieces(self) -> Any:
            yield self.data[:2_000_000]
            await asyncio.Event().wait()

    def written() -> bool:
        return [part.stat().st_size for part in path.rglob("*.part")] == [2_000_000]

    task = asyncio.create_task(store(folder.target("cat"), LAYER, Endless(LAYER)))
    await asyncio.to_thread(eventually, written)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [p for p in path.rglob("*") if p.is_file()] == []


async def test_left_overs_of_writers_that_died_are_removed(
    folder: LayoutFolder, path: Path
) -> None:
    (path / "cat").mkdir()
    for name, age in ((".transship-old.part", 7_200), (".transship-new.part", 0), ("other", 7_200)):
        (path / "cat" / name).write_text("1")
        now = (path / "cat" / name).stat().st_mtime
        os.utime(path / "cat" / name, (now - age, now - age))
    await store(folder.target("cat"), b"1")
    left = {p.name for p in (path / "cat").iterdir()}
    assert left == {".transship-new.part", "other", "blobs"}


async def test_a_manifest_without_its_blobs_is_refused_as_registries_do(
    folder: LayoutFolder,
) -> None:
    with pytest.raises(BlobMissing, match=f"images.layout/cat:1 names {EMPTY_DIGEST}, which is"):
        await folder.target("cat").put("1", make_manifest())
    assert await folder.target("cat").head("1") is None


async def test_an_index_needs_its_manifests_and_hides_them(
    folder: LayoutFolder, path: Path
) -> None:
    target = folder.target("cat")
    child = image(b"1")
    data = {"mediaType": OCI_INDEX, "manifests": [child.descriptor.as_json()]}
    index = parse_manifest(json.dumps(data).encode(), what="made here")
    with pytest.raises(BlobMissing):
        await target.put("1", index)
    await put(target, "", b"1")
    await target.put("1", index)
    assert await target.manifest(child.digest) == child
    assert (await target.manifest("1")).children[0].digest == child.digest
    assert len(json.loads((path / "cat/index.json").read_text())["manifests"]) == 1


async def test_a_blob_of_another_repository_is_linked(folder: LayoutFolder, path: Path) -> None:
    await store(folder.target("one"), LAYER)
    assert await folder.target("two/three").mount(LAYER_DIGEST, "one") is None
    assert await folder.target("two/three").mount(LAYER_DIGEST, "one") is None
    assert await read(folder.target("two/three"), LAYER_DIGEST) == LAYER
    missing = await folder.target("two/three").mount(EMPTY_DIGEST, "one")
    assert isinstance(missing, NotLinked)
    nowhere = await folder.target("two/three").mount(EMPTY_DIGEST, "nowhere")
    assert isinstance(nowhere, NotLinked)
    one, two = (
        path / name / "blobs/sha256" / LAYER_DIGEST.partition(":")[2]
        for name in ("one", "two/three")
    )
    assert one.samefile(two)


async def test_referrers_are_found_by_the_list_and_by_their_subject(folder: LayoutFolder) -> None:
    target = folder.target("cat")
    subject = await put(target, "1", b"1")
    first = await put(target, "", b"sig", subject=subject.descriptor.as_json())
    second = await put(target, "", b"sbom", subject=subject.descriptor.as_json())
    await put(target, "2", b"2")
    found = await target.referrers(subject.digest)
    assert {one.digest for one in found.manifests} == {first.digest, second.digest}
    assert not found.by_tag
    for one in (first, second, first):
        await target.attach(one)
    assert len((await target.manifest(fallback_tag(subject.digest))).children) == 2
    found = await target.referrers(subject.digest)
    assert [one.digest for one in found.manifests] == [first.digest, second.digest]
    assert found.by_tag
    assert (await target.referrers(first.digest)).manifests == ()


async def test_what_is_no_manifest_in_an_index_does_not_hide_referrers(
    folder: LayoutFolder, path: Path
) -> None:
    target = folder.target("cat")
    subject = await put(target, "1", b"1")
    referrer = await put(target, "", b"sig", subject=subject.descriptor.as_json())
    file = path / "cat/index.json"
    data = json.loads(file.read_text())
    data["manifests"].insert(0, {**descriptor(b"sig").as_json(), "mediaType": "text/plain"})
    file.write_text(json.dumps(data))
    found = await target.referrers(subject.digest)
    assert [one.digest for one in found.manifests] == [referrer.digest]


async def test_an_index_that_could_not_be_read_again_is_not_written(
    folder: LayoutFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(folder.target("cat"), "1", b"1")
    monkeypatch.setattr("transship_worker.layouts.layout.INDEX_LIMIT", 300)
    with pytest.raises(PushRejected, match=r"images\.layout/cat is full: its index\.json has 300"):
        await put(folder.target("cat"), "2", b"2")
    assert await folder.tags("cat") == ["1"]


async def test_a_tag_that_is_no_list_is_not_attached_to(folder: LayoutFolder) -> None:
    target = folder.target("cat")
    subject = await put(target, "1", b"1")
    await put(target, fallback_tag(subject.digest), b"2")
    referrer = await put(target, "", b"sig", subject=subject.descriptor.as_json())
    with pytest.raises(PushRejected, match="is no list of referrers; it stays as it is"):
        await target.attach(referrer)


async def test_tags_of_cosign_are_found(folder: LayoutFolder) -> None:
    target = folder.target("cat")
    subject = await put(target, "1", b"1")
    tag = f"{fallback_tag(subject.digest)}.sig"
    signature = await put(target, tag, b"sig")
    found = await target.cosign_tags(subject.digest)
    assert {name: head.digest for name, head in found.items()} == {tag: signature.digest}


async def test_many_writers_of_one_repository_lose_no_tag(folder: LayoutFolder, path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.support.images.layout_folders import put\n"
        "from transship_worker.layouts.folders import LayoutFolder\n"
        "async def main():\n"
        "    target = LayoutFolder(Path(sys.argv[1]), 'images.layout').target('cat')\n"
        "    await asyncio.gather(*(put(target, f'{sys.argv[2]}-{n}', str(n).encode())"
        " for n in range(20)))\n"
        "asyncio.run(main())\n"
    )
    root = str(ROOT)
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name], cwd=root)
        for name in ("a", "b", "c")
    ]
    assert [one.wait(120) for one in started] == [0, 0, 0]
    assert await folder.tags("cat") == sorted(f"{a}-{n}" for a in "abc" for n in range(20))
    assert not list(path.rglob("*.part"))


async def test_a_writer_that_holds_the_index_too_long_is_given_up_on(
    folder: LayoutFolder, path: Path
) -> None:
    manifest = await put(folder.target("cat"), "1", b"1")
    with (path / "cat/oci-layout").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RegistryUnavailable, match="another writer holds its layout"):
            await folder.target("cat").put("2", manifest, timeout_s=0.2)

        task = asyncio.create_task(folder.target("cat").put("2", manifest))
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await folder.tags("cat") == ["1"]


async def test_an_index_that_another_tool_changes_is_read_again(
    folder: LayoutFolder, path: Path
) -> None:
    await put(folder.target("cat"), "1", b"1")
    file = path / "cat/index.json"
    os.utime(file, (1_000_000_000, 1_000_000_000))

    async def read_by_now() -> bool:
        return await folder.tags("cat") == ["1"]

    await soon(read_by_now)
    file.write_text(file.read_text().replace('"1"', '"2"'))
    assert await folder.tags("cat") == ["2"]


async def test_damage_is_found_when_it_is_read_and_is_written_over(
    folder: LayoutFolder, path: Path
) -> None:
    manifest = await put(folder.target("cat"), "1", b"1")
    file = path / "cat/blobs/sha256" / manifest.digest.partition(":")[2]
    file.write_bytes(file.read_bytes().replace(b"2", b"3", 1))
    with pytest.raises(DigestMismatch):
        await folder.target("cat").manifest("1")
    assert await folder.target("cat").head(manifest.digest) is None
    await folder.target("cat").put("1", manifest)
    assert await folder.target("cat").manifest("1") == manifest


def test_a_full_or_closed_disk_is_told() -> None:
    assert isinstance(translate(PermissionError(13, "Permission denied"), "x"), Denied)
    full = translate(OSError(28, "No space left on device"), "x")
    assert full.message == "x: the worker's disk is full: No space left on device"
    assert full.retryable


def test_the_command_checks_a_folder_without_an_engine(path: Path, tmp_path: Path) -> None:
    catalogue = tmp_path / "catalog.yaml"
    found = []
    for name in ("images", "absent"):
        catalogue.write_text(f"registries: {{images: {{flavor: layout, uri: {name}}}}}")
        words = [sys.executable, "-m", "transship", "registry", "check", "images"]
        done = subprocess.run(
            [*words, "--catalog", str(catalogue)], capture_output=True, text=True, check=False
        )
        found.append((done.returncode, done.stdout.splitlines()[-1]))
    absent = "the folder of images.layout is not there on this worker; create or mount it"
    assert found == [
        (0, "ok    folder       it can be read and written"),
        (1, f"FAIL  folder       {absent}"),
    ]
