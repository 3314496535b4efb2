"""Nothing outside of a layout folder is read or written, whatever names and links say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images.layout_folders import put
from transship.errors import ManifestUnsupported, NotAllowed, NotUnderRegistry
from transship_worker.layouts.folders import LayoutFolder


@pytest.mark.parametrize(
    "name",
    ["..", "../cat", "a/../../b", "/etc", "a//b", "", "A", "a/.", "a\x00b", ".hidden", "a/b/"],
)
async def test_no_name_leads_out_of_the_folder(folder: LayoutFolder, name: str) -> None:
    with pytest.raises(NotUnderRegistry, match="is no name of a repository"):
        folder.target(name)
    with pytest.raises(NotUnderRegistry, match="is no name of a repository"):
        await folder.source(name)


@pytest.mark.parametrize("name", ["blobs", "cat/blobs", "cat/blobs/sha256", "index.json"])
def test_names_of_the_layout_itself_are_no_repositories(folder: LayoutFolder, name: str) -> None:
    with pytest.raises(NotUnderRegistry, match="which is a layout's own; use another name"):
        folder.target(name)


def _repository(path: Path, outside: Path) -> None:
    (path / "cat").rename(outside / "cat")
    (path / "cat").symlink_to(outside / "cat")


def _inside(path: Path, outside: Path) -> None:
    (path / "cat").rename(path / "dog")
    (path / "cat").symlink_to("dog")


def _blobs(path: Path, outside: Path) -> None:
    (path / "cat/blobs/sha256").rename(outside / "sha256")
    (path / "cat/blobs/sha256").symlink_to(outside / "sha256")


def _blob(path: Path, outside: Path) -> None:
    for number, file in enumerate((path / "cat/blobs/sha256").iterdir()):
        file.rename(outside / str(number))
        file.symlink_to(outside / str(number))


def _index(path: Path, outside: Path) -> None:
    (path / "cat/index.json").rename(outside / "index.json")
    (path / "cat/index.json").symlink_to(outside / "index.json")


def _pipe(path: Path, outside: Path) -> None:
    (path / "cat/index.json").unlink()
    os.mkfifo(path / "cat/index.json")


@pytest.mark.parametrize("change", [_repository, _inside, _blobs, _blob, _index, _pipe])
async def test_links_and_pipes_are_refused(
    folder: LayoutFolder, path: Path, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    await put(folder.target("cat"), "1", b"1")
    (tmp_path / "outside").mkdir()
    change(path, tmp_path / "outside")
    before = {p: p.read_bytes() for p in (tmp_path / "outside").rglob("*") if p.is_file()}
    with pytest.raises(NotAllowed, match=r"is a symbolic link|is no regular file") as caught:
        await folder.target("cat").manifest("1")
    assert "\n" not in caught.value.message
    with pytest.raises(NotAllowed, match=r"is a symbolic link|is no regular file"):
        await put(folder.target("cat"), "2", b"2")
    assert before == {p: p.read_bytes() for p in (tmp_path / "outside").rglob("*") if p.is_file()}


async def test_the_folder_itself_may_be_a_link(
    folder: LayoutFolder, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(path)
    await put(LayoutFolder(tmp_path / "link", "x.layout").target("cat"), "1", b"1")
    assert await folder.tags("cat") == ["1"]


async def test_another_version_of_layouts_is_refused(folder: LayoutFolder, path: Path) -> None:
    await put(folder.target("cat"), "1", b"1")
    (path / "cat/oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    os.utime(path / "cat/index.json")
    with pytest.raises(ManifestUnsupported, match="is an image layout of another version"):
        await folder.tags("cat")
