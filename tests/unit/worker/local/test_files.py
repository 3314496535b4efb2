"""Files of `transship up` that only their user may open."""

from __future__ import annotations

from pathlib import Path

from transship_worker.local.files import private_folder, read_or_none, write_private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    assert mode(private_folder(folder)) == 0o700


def test_a_file_is_replaced_with_a_private_one(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("old")
    file.chmod(0o666)
    write_private(file, "new")
    assert (file.read_text(), mode(file)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("theirs")
    link = tmp_path / "url"
    link.symlink_to(target)
    write_private(link, "secret")
    assert target.read_text() == "theirs"
    assert not link.is_symlink()


def test_a_file_that_is_not_there_reads_as_none(tmp_path: Path) -> None:
    assert read_or_none(tmp_path / "url") is None
