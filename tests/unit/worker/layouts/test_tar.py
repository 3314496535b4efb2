"""Archives: their members are found by offset, and what has no place in one is refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transship.errors import AnswerMalformed, ManifestUnsupported, NotAllowed, PushError
from transship_worker.layouts.byte_source import PlainFile
from transship_worker.layouts.tar import HEADER_LIMIT, Tar, read_tar


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def pack(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "a.tar"


def walk(place: Path, data: bytes) -> Tar:
    place.write_bytes(data)
    fd = os.open(place, os.O_RDONLY)
    try:
        return read_tar(PlainFile(fd), "a.tar")
    finally:
        os.close(fd)


def content(place: Path, found: Tar, name: str) -> bytes:
    where = found.find(name)
    assert where is not None
    return place.read_bytes()[where.start : where.start + where.size]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_in_every_format(place: Path, form: int) -> None:
    long = f"{'d' * 90}/{'e' * 90}/layer.tar"
    data = pack(
        member("d/", type=tarfile.DIRTYPE),
        member("./a", b"1" * 700),
        member(long, b"22"),
        form=form,
    )
    found = walk(place, data)
    assert content(place, found, "a") == b"1" * 700
    assert content(place, found, long) == b"22"
    assert found.find("d") is None
    assert found.find("b") is None


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_too_long_for_a_block_are_read(place: Path, form: int) -> None:
    name = "n" * 300
    found = walk(place, pack(member(name, b"1"), link("a", name), form=form))
    assert content(place, found, name) == content(place, found, "a") == b"1"


def test_links_are_followed_inside_of_the_archive(place: Path) -> None:
    found = walk(
        place,
        pack(
            member("one/layer.tar", b"1"),
            link("two/layer.tar", "../one/layer.tar"),
            link("three/layer.tar", "../two/layer.tar"),
            link("four/layer.tar", "one/layer.tar", tarfile.LNKTYPE),
        ),
    )
    for folder in ("two", "three", "four"):
        assert content(place, found, f"{folder}/layer.tar") == b"1"


def test_links_that_go_round_are_refused(place: Path) -> None:
    found = walk(place, pack(member("a", b"1"), link("x", "y"), link("y", "x")))
    with pytest.raises(NotAllowed, match="'x' is a link that leads to no file"):
        found.find("x")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (member("../a"), "'../a' lies or leads out of the archive"),
        (member("/etc/passwd"), "'/etc/passwd' lies or leads out"),
        (member("a/../../b"), "lies or leads out"),
        (link("a/b", "../../etc/passwd"), "'a/b' lies or leads out"),
        (link("a", "/etc/passwd"), "the link 'a' leads out of the archive"),
        (link("a", "../a", tarfile.LNKTYPE), "'a' lies or leads out"),
        (member("good", b"2"), "has two members called 'good'"),
        (link("good", "other"), "has two members called 'good'"),
        (member("a", type=tarfile.FIFOTYPE), "'a' is neither a file nor a folder nor a link"),
        (member("a", type=tarfile.CHRTYPE), "'a' is neither a file"),
        (member("a", type=tarfile.GNUTYPE_SPARSE), "'a' is stored with holes; write it without"),
        (
            member("a", pax_headers={"GNU.sparse.realsize": "1099511627776"}),
            "stored with holes",
        ),
    ],
)
def test_what_no_image_needs_is_refused_in_one_line(
    place: Path, bad: tuple[tarfile.TarInfo, bytes], said: str
) -> None:
    form = tarfile.PAX_FORMAT if bad[0].pax_headers else tarfile.GNU_FORMAT
    with pytest.raises(NotAllowed) as caught:
        walk(place, pack(member("good", b"1"), bad, form=form))
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_a_member_that_claims_more_than_the_file_has_is_refused(place: Path) -> None:
    for size in (513, 2**33, 2**62):
        info = tarfile.TarInfo("a")
        info.size = size
        with pytest.raises(AnswerMalformed, match=r"a\.tar ends before its member 'a' does"):
            walk(place, info.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)


def test_a_negative_size_is_refused(place: Path) -> None:
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 11 + b"\x00"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    with pytest.raises(AnswerMalformed, match="ends before its member"):
        walk(place, bytes(block) + b"x" * 1024)


def test_a_header_of_absurd_size_is_not_read(place: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, HEADER_LIMIT + 1
    with pytest.raises(NotAllowed, match="has a header of 65537 bytes; at most 65536 are read"):
        walk(place, info.tobuf(tarfile.GNU_FORMAT) + b"x" * (HEADER_LIMIT + 1024))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no tar archive, or an empty one"),
        (b"\0" * 10240, "is no tar archive, or an empty one"),
        (b"PK" * 1000, "is no tar archive"),
        (pack(member("a", b"1"))[:1024] + b"PK" * 1000, "is damaged at byte 1024"),
    ],
)
def test_what_is_no_archive_is_told(place: Path, data: bytes, said: str) -> None:
    with pytest.raises(AnswerMalformed, match=said):
        walk(place, data)


def test_a_compressed_archive_is_refused_with_what_to_do(place: Path) -> None:
    with pytest.raises(ManifestUnsupported, match=r"is compressed.*; unpack it once with gunzip"):
        walk(place, gzip.compress(pack(member("a", b"1"))))


ARCHIVE = pack(
    member("a", b"1" * 600), link("b", "a"), member("n" * 200, b"2"), form=tarfile.PAX_FORMAT
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=6))
def test_a_damaged_archive_ends_in_a_typed_error_or_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(ARCHIVE)
    for at, value in changes:
        data[at] = value
    place = tmp_path_factory.getbasetemp() / "damaged.tar"
    try:
        found = walk(place, bytes(data))
    except PushError as error:
        assert "\n" not in error.message
        return
    for where in found.files.values():
        assert 0 <= where.start <= where.start + where.size <= len(data)
