"""The matrix of Debian releases: this machine's configuration of packages for another release."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix.debian import _digests
from tests.matrix.hostconfig import adapt_lines, adapt_stanzas, existing_paths, mirror_of
from tests.matrix.outcomes import counts_of

STANZAS = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Signed-By: /usr/share/keyrings/debian-archive-bookworm.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security

Types: deb
URIs: http://others.example/bookworm
Suites: nodistro
"""
LINES = """\
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main

deb http://others.example/bookworm stable main
"""


def test_stanzas_of_this_release_are_turned_to_another_and_others_left_out() -> None:
    assert adapt_stanzas(STANZAS.splitlines(), "bookworm", "trixie") == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: trixie trixie-updates\n"
        "Signed-By: /usr/share/keyrings/debian-archive-bookworm.gpg\n\n"
        "Types: deb\n"
        "URIs: http://mirror.example/security\n"
        "Suites: trixie-security\n\n"
    )


def test_lines_of_this_release_are_turned_to_another_and_others_left_out() -> None:
    assert adapt_lines(LINES.splitlines(), "bookworm", "trixie") == (
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main\n"
        "deb-src http://mirror.example/debian trixie main\n"
        "deb http://mirror.example/debian trixie-updates main\n"
    )


@pytest.mark.parametrize("text", [STANZAS, LINES])
def test_the_mirror_is_the_first_that_has_the_suite_itself(text: str) -> None:
    assert mirror_of([text], "bookworm") == "http://mirror.example/debian"
    assert mirror_of([text], "trixie") is None


def test_paths_are_found_in_values_and_file_urls_only_where_they_exist(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    text = f"find-links = {tmp_path}/wheels\nindex = file://{tmp_path} http://x{tmp_path}\n/no/such"
    assert set(existing_paths(text)) == {tmp_path / "wheels", tmp_path}


def test_counts_are_those_of_pytests_last_line() -> None:
    log = b"3 failed\n===== 2 failed, 40 passed, 1 skipped, 3 errors in 7.1s =====\n"
    assert counts_of(log) == "2 failed, 40 passed, 1 skipped, 3 errors"
    assert _digests(b"They are the same. Everything was stopped") == "digests equal"
