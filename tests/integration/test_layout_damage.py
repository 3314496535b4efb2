"""Files of a layout that were damaged behind its back: noticed, never relied on, written anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.layout_folders import put
from tests.support.images.registry_images import WatchedControl
from transship.errors import AnswerMalformed, BlobMissing, ImmutableTag
from transship.model.migration.specification import OnConflict
from transship_worker.handlers.migration.readers import LayoutSide
from transship_worker.layouts import verified
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.layouts.verified import verified_files
from transship_worker.oci import digests
from transship_worker.oci.descriptors import OCI_INDEX, Manifest, parse_manifest
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask

BASE, OWN, OTHER = b"base layer" * 100, b"own layer" * 100, b"another layer" * 100
BASE_DIGEST = digests.digest_of(BASE)


@pytest.fixture(autouse=True)
def nothing_verified() -> Iterator[None]:
    """As in a worker that just started: no file was read yet."""
    verified_files.clear()
    yield
    verified_files.clear()


class Copies:
    """Copies from the repository ``cat`` of a folder to ``copy`` of another one."""

    def __init__(self, path: Path) -> None:
        (path / "to").mkdir()
        self.source = LayoutFolder(path, "images.layout").target("cat")
        self.folder = LayoutFolder(path / "to", "copies.layout")
        self.leads = AloneLeads()
        self.control = WatchedControl()
        self.path = path / "to"

    async def copy(self, reference: str = "1", to: str = "copy", **task: Any) -> Copied:
        self.control = WatchedControl()
        return await copy_image(
            CopyTask(reference, (reference,), **task),
            self.source,
            self.folder.target(to),
            self.leads,
            self.control,
            f"{reference} to {to}",
        )

    def file(self, digest: str, repository: str = "copy") -> Path:
        return self.path / repository / "blobs/sha256" / digest.partition(":")[2]

    async def is_right(self, manifest: Manifest) -> bool:
        """Whether all files that a manifest of one layer names are what they are called."""
        found = [manifest.digest, *(one.digest for one in manifest.blobs)]
        return all(digests.digest_of(self.file(one).read_bytes()) == one for one in found)


@pytest.fixture
def copies(path: Path) -> Copies:
    return Copies(path)


def shorter(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flipped(file: Path) -> None:
    """The same size, and a later time of change, as after any write."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(file, ns=(0, 1))


@pytest.mark.parametrize("gone", [shorter, Path.unlink])
async def test_a_copy_without_work_sees_a_blob_that_lost_its_size_and_writes_it_anew(
    copies: Copies, gone: Callable[[Path], None]
) -> None:
    image = await put(copies.source, "1", BASE, OWN)
    await copies.copy()
    assert (await copies.copy()).skipped
    gone(copies.file(BASE_DIGEST))

    mended = await copies.copy()

    assert not mended.skipped
    assert copies.control.bytes["moved"] == len(BASE)
    assert await copies.is_right(image)
    assert (await copies.copy()).skipped


@pytest.mark.parametrize("damaged", [shorter, flipped])
@pytest.mark.parametrize("known", [True, False])
async def test_a_damaged_blob_that_another_image_needs_is_written_anew(
    copies: Copies, damaged: Callable[[Path], None], known: bool
) -> None:
    await put(copies.source, "1", BASE)
    image = await put(copies.source, "2", BASE, OWN)
    await copies.copy()
    damaged(copies.file(BASE_DIGEST))
    if not known:
        # A fleet that never saw the folder.
        copies.leads = AloneLeads()

    assert (await copies.copy("2")).tagged == ("2",)

    assert copies.control.bytes["moved"] == len(BASE) + len(OWN)
    assert await copies.is_right(image)


async def test_a_damaged_blob_is_not_linked_to_another_repository(copies: Copies) -> None:
    image = await put(copies.source, "1", BASE)
    await copies.copy(to="first")
    flipped(copies.file(BASE_DIGEST, "first"))
    await copies.copy()
    assert await copies.is_right(image)


async def test_a_damaged_blob_is_replaced_where_another_repository_has_a_right_one(
    copies: Copies,
) -> None:
    await put(copies.source, "1", BASE)
    image = await put(copies.source, "2", BASE, OWN)
    await copies.copy()
    # Not a link to the same file.
    await copies.copy("2", to="second")
    flipped(copies.file(BASE_DIGEST))
    assert (await copies.copy("2")).tagged == ("2",)
    assert await copies.is_right(image)


async def test_a_damaged_manifest_is_written_anew(copies: Copies) -> None:
    image = await put(copies.source, "1", BASE)
    await copies.copy()
    flipped(copies.file(image.digest))
    assert not (await copies.copy()).skipped
    assert await copies.is_right(image)


async def test_a_damaged_image_of_an_index_is_written_anew(copies: Copies) -> None:
    child = await put(copies.source, "", BASE)
    raw = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child.descriptor.as_json()]}
    index = parse_manifest(json.dumps(raw).encode(), what="an index")
    await copies.source.put("1", index)
    await copies.copy()
    shorter(copies.file(BASE_DIGEST))
    assert not (await copies.copy()).skipped
    assert await copies.is_right(child)


async def test_another_image_that_is_damaged_is_still_another_image(copies: Copies) -> None:
    await put(copies.source, "1", BASE)
    await copies.copy()
    await put(copies.source, "1", OTHER)
    shorter(copies.file(BASE_DIGEST))
    with pytest.raises(ImmutableTag):
        await copies.copy(on_conflict=OnConflict.FAIL)


async def test_a_manifest_is_not_written_over_a_damaged_blob(copies: Copies) -> None:
    image = await put(copies.source, "1", BASE)
    await copies.copy()
    flipped(copies.file(BASE_DIGEST))
    with pytest.raises(BlobMissing, match="or is damaged there"):
        await copies.folder.target("copy").put("2", image)


async def test_a_planner_sees_what_is_not_complete_at_its_target(copies: Copies) -> None:
    await put(copies.source, "1", BASE)
    await copies.copy()
    target = LayoutSide("copies", copies.folder, True)
    found = await target.head("copy", "1")
    assert found is not None
    assert found.complete
    shorter(copies.file(BASE_DIGEST))
    found = await target.head("copy", "1")
    assert found is not None
    assert not found.complete


async def test_a_file_is_read_once_while_it_stays_as_it_is(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await put(copies.source, str(number), BASE, b"%d" % number)
    await copies.copy("0")
    await copies.copy("1")
    read: list[str] = []
    real = verified._digest_of

    def counted(fd: int, digest: str) -> str:
        read.append(digest)
        return real(fd, digest)

    monkeypatch.setattr(verified, "_digest_of", counted)
    # What this process wrote was hashed on the way, and a look at what is there reads no blob.
    await copies.copy("1")
    await copies.copy("2")
    assert BASE_DIGEST not in read
    verified_files.clear()
    await copies.copy("1")
    assert BASE_DIGEST not in read
    await copies.copy("3")
    await copies.copy("3", to="another")
    assert read.count(BASE_DIGEST) == 1


def set_size(file: Path, size: int) -> None:
    found = json.loads(file.read_bytes())
    found["manifests"][0]["size"] = size
    file.write_text(json.dumps(found))


async def test_a_wrong_size_in_an_index_is_told_as_what_it_is(copies: Copies, path: Path) -> None:
    image = await put(copies.source, "1", BASE)
    set_size(path / "cat/index.json", 7)
    source = await LayoutFolder(path, "images.layout").source("cat")
    said = (
        f"images.layout/cat: its index.json says that {image.digest} has 7 bytes; "
        f"the file has {len(image.raw)}"
    )
    for look in (source.head, source.manifest):
        with pytest.raises(AnswerMalformed) as caught:
            await look("1")
        assert caught.value.message == said
        assert not caught.value.retryable
    # By its digest it can be verified.
    assert await source.manifest(image.digest) == image


async def test_a_wrong_size_in_the_index_of_a_target_is_corrected(
    copies: Copies, path: Path
) -> None:
    image = await put(copies.source, "1", BASE)
    await copies.copy()
    set_size(path / "to/copy/index.json", 7)
    await copies.copy()
    (entry,) = json.loads((path / "to/copy/index.json").read_bytes())["manifests"]
    assert entry["size"] == len(image.raw)
    assert (await copies.copy()).skipped
