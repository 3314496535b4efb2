"""What commands read when TRANSSHIP_URL is unset."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from transship.ledger.local_url import URL_FILE, local_folder, local_url
from transship_config.errors import InvalidSettings

URL = "redis://:planted-secret@127.0.0.1:6390/0"


@pytest.fixture
def url_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    file = local_folder() / URL_FILE
    file.parent.mkdir(parents=True)
    return file


def test_no_file_means_that_nothing_runs(url_file: Path) -> None:
    assert local_url() is None


def test_no_folder_means_that_nothing_runs(url_file: Path) -> None:
    url_file.parent.rmdir()
    assert local_url() is None


def test_the_folder_lies_under_the_users_data_folder(url_file: Path, tmp_path: Path) -> None:
    assert tmp_path in url_file.parents


def test_the_url_that_up_wrote_is_read(url_file: Path) -> None:
    url_file.write_text(f"{URL}\n")
    url_file.chmod(0o600)
    assert local_url() == URL


def test_an_empty_file_means_that_nothing_runs(url_file: Path) -> None:
    url_file.touch(mode=0o600)
    assert local_url() is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_open_is_refused_and_not_shown(url_file: Path, mode: int) -> None:
    url_file.write_text(URL)
    url_file.chmod(mode)
    with pytest.raises(InvalidSettings, match="chmod 600") as caught:
        local_url()
    assert "planted-secret" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused(url_file: Path) -> None:
    url_file.write_text(URL)
    url_file.chmod(0o600)
    os.chown(url_file, 12345, -1)
    with pytest.raises(InvalidSettings, match="another user"):
        local_url()


def test_a_file_that_is_not_text_is_refused(url_file: Path) -> None:
    url_file.write_bytes(b"\xff\xfe")
    url_file.chmod(0o600)
    with pytest.raises(InvalidSettings, match="cannot be read"):
        local_url()
