"""What a folder of layouts lists, and what it says of what it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.images.layout_folders import (
    LAYER_DIGEST,
    put,
    read,
    store,
)
from transship.errors import (
    BlobMissing,
    ImageNotFound,
    RegistryUnreachable,
    RepositoryMissing,
)
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.oci.descriptors import OCI_INDEX, parse_manifest


async def test_what_is_not_there_is_told_with_what_is(folder: LayoutFolder) -> None:
    await put(folder.target("cat"), "1", b"1")
    with pytest.raises(ImageNotFound, match=r"^there is no images.layout/cat:2; there is 1$"):
        await folder.target("cat").manifest("2")
    with pytest.raises(RepositoryMissing, match=r"there is no repository images.layout/dog"):
        await folder.source("dog")
    with pytest.raises(RepositoryMissing, match=r"there is no repository images.layout/dog"):
        await folder.target("dog").tags()
    with pytest.raises(BlobMissing, match=r"images.layout/cat does not hold sha256:"):
        await read(folder.target("cat"), LAYER_DIGEST)


async def test_a_folder_that_is_not_mounted_may_come_back(tmp_path: Path) -> None:
    folder = LayoutFolder(tmp_path / "absent", "images.layout")
    for work in (folder.check(), folder.source("cat"), store(folder.target("cat"), b"1")):
        with pytest.raises(
            RegistryUnreachable, match=r"the folder of images.layout is not there"
        ) as e:
            await work
        assert str(tmp_path) not in e.value.message


async def test_all_layouts_and_archives_are_listed(folder: LayoutFolder, path: Path) -> None:
    for name in ("cat", "cat/inner", "a/b/c"):
        await put(folder.target(name), "1", b"1")
    (path / "a/app.tar").write_bytes(b"")
    (path / "a/app.tar.gz").write_bytes(b"")
    (path / "a/app.tar.zst").write_bytes(b"")
    (path / "empty").mkdir()
    for name in (".git", "lost+found"):
        (path / name).mkdir()
    warnings: list[str] = []
    names = [name async for page in folder.repositories(warnings.append) for name in page]
    assert sorted(names) == ["a/app.tar", "a/app.tar.gz", "a/b/c", "cat", "cat/inner"]
    assert warnings == []


async def test_folders_and_archives_that_cannot_be_repositories_are_counted(
    folder: LayoutFolder, path: Path
) -> None:
    await put(folder.target("cat"), "1", b"1")
    (path / "Team\x1b[31m").mkdir()
    (path / "cat/Upper.tar").write_bytes(b"")
    (path / "linked").symlink_to(path / "cat")
    (path / "linked.tar").symlink_to(path / "cat/Upper.tar")
    warnings: list[str] = []
    names = [name async for page in folder.repositories(warnings.append) for name in page]
    assert names == ["cat"]
    assert warnings == [
        r"skipped 2 names that are not valid repository names, for example 'Team\x1b[31m'",
        "skipped 2 symbolic links, which are not followed, for example 'linked'",
    ]


async def test_a_folder_that_is_a_layout_itself_is_told(path: Path) -> None:
    await put(LayoutFolder(path, "images.layout").target("cat"), "1", b"1")
    warnings: list[str] = []
    folder = LayoutFolder(path / "cat", "cat.layout")
    assert [page async for page in folder.repositories(warnings.append)] == []
    (warning,) = warnings
    assert warning == (
        "cat.layout is an image layout itself and was skipped: it has no repository name; let uri "
        "name the folder above it"
    )


async def test_what_no_tag_leads_to_is_counted(folder: LayoutFolder, path: Path) -> None:
    target = folder.target("cat")
    subject = (await put(target, "1", b"1")).descriptor.as_json()
    (lost,) = [await put(target, "", b"2")]
    # Neither is lost: one goes along as a referrer, the other with the index that lists it.
    await put(target, "", b"3", subject=subject)
    child = await put(target, "", b"4")
    raw = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child.descriptor.as_json()]}
    await target.put("all", parse_manifest(json.dumps(raw).encode(), what="an index"))
    file = path / "cat/index.json"
    found = json.loads(file.read_bytes())
    found["manifests"].append(child.descriptor.as_json())
    for name in ("not a tag", "a\nb", "1"):
        annotations = {"org.opencontainers.image.ref.name": name}
        found["manifests"].append({**subject, "annotations": annotations})
    file.write_text(json.dumps(found))

    warnings: list[str] = []
    assert await folder.tags("cat", warnings.append) == ["1", "all"]
    assert warnings == [
        "skipped 2 names that are not valid tags, for example 'not a tag'",
        f"skipped 1 image without a tag, which can be copied by its digest: '{lost.digest}'",
    ]


async def test_a_damaged_image_without_a_tag_does_not_fail_the_list(
    folder: LayoutFolder, path: Path
) -> None:
    lost = await put(folder.target("cat"), "", b"1")
    (path / "cat/blobs/sha256" / lost.digest.partition(":")[2]).write_bytes(b"{}")
    warnings: list[str] = []
    assert await folder.tags("cat", warnings.append) == []
    assert [lost.digest in warning for warning in warnings] == [True]
