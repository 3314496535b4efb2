"""The content of gzip files by offset: right from everywhere, and in bounds."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from transship.errors import AnswerMalformed, NotAllowed
from transship_worker.layouts import byte_source
from transship_worker.layouts.byte_source import GzipFile, Marks, PlainFile

CONTENT = random.Random(1).randbytes(700_000) + b"0" * 400_000


@contextmanager
def file_of(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("data")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def packed(*members: bytes) -> bytes:
    return b"".join(gzip.compress(one, compresslevel=1, mtime=0) for one in members)


def marks(every: int = 20_000) -> Marks:
    return Marks(_every=every)


@pytest.mark.parametrize(
    "data",
    [
        packed(CONTENT),
        packed(CONTENT[:300_001], b"", CONTENT[300_001:]),
        # As tar fills the last block of a tape.
        packed(CONTENT) + bytes(10_240),
    ],
)
def test_any_part_is_that_of_the_content(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_source, "MARKS_MOST", 8)
    shared, dice = marks(), random.Random(2)
    with file_of(data) as fd:
        files = [GzipFile(fd, "a.tar.gz", shared) for _ in range(3)]
        for _ in range(200):
            offset, size = dice.randrange(len(CONTENT)), dice.randrange(1, 60_000)
            file = dice.choice(files)
            assert file.read_at(size, offset) == CONTENT[offset : offset + size]
        for file in files:
            assert file.reaches(len(CONTENT))
            assert not file.reaches(len(CONTENT) + 1)
            assert file.read_at(10, len(CONTENT)) == b""
            assert file.read_at(10, len(CONTENT) + 5) == b""
            assert file.read_at(10, 0) == CONTENT[:10]
    assert 1 < len(shared._marks) <= 8


def test_a_later_reading_begins_at_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = marks(100_000)
    with file_of(packed(CONTENT)) as fd:
        GzipFile(fd, "a.tar.gz", shared).reaches(len(CONTENT))
        places: list[int] = []
        read = os.pread

        def pread(fd: int, size: int, offset: int) -> bytes:
            places.append(offset)
            return read(fd, size, offset)

        monkeypatch.setattr(os, "pread", pread)
        assert GzipFile(fd, "a.tar.gz", shared).read_at(5, 650_000) == CONTENT[650_000:650_005]
    assert min(places) > 550_000


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (packed(CONTENT)[:-100_000], "cut off"),
        (packed(CONTENT)[:-3], "cut off"),
        (packed(CONTENT)[:1_000] + b"x" * 1_000 + packed(CONTENT)[2_000:], "damaged"),
        (packed(CONTENT)[:-8] + bytes(8), "damaged"),
        (b"\x1f\x8b" + b"x" * 100, "damaged"),
    ],
)
def test_what_is_damaged_is_named(data: bytes, says: str) -> None:
    with file_of(data) as fd, pytest.raises(AnswerMalformed, match=f"a.tar.gz is {says}"):
        GzipFile(fd, "a.tar.gz", Marks()).reaches(len(CONTENT) + 1)


def test_a_file_that_holds_too_much_is_refused_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_source, "RATIO_FROM", 10 * 1024**2)
    bomb = packed(bytes(64 * 1024**2))
    with file_of(bomb) as fd, pytest.raises(NotAllowed, match="more than 200 times"):
        GzipFile(fd, "a.tar.gz", Marks()).reaches(64 * 1024**2)
    monkeypatch.setattr(byte_source, "UNPACKED_MOST", 1_000_000)
    with file_of(packed(CONTENT)) as fd, pytest.raises(NotAllowed, match="unpack it once"):
        GzipFile(fd, "a.tar.gz", Marks()).reaches(len(CONTENT))


def test_a_plain_file_is_read_as_it_is() -> None:
    with file_of(CONTENT) as fd:
        file = PlainFile(fd)
        assert file.read_at(10, 5) == CONTENT[5:15]
        assert file.reaches(len(CONTENT))
        assert not file.reaches(len(CONTENT) + 1)
