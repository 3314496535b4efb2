"""The parts of a streamed push: compression, the reading of exports, the choice of the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transship.errors import EngineUnavailable
from transship_worker.transports.stream import compression, export
from transship_worker.transports.stream.choice import LEAST, begins, is_possible, pays
from transship_worker.transports.stream.export import members


def squeezed(pieces: list[bytes]) -> bytes:
    with ThreadPoolExecutor(2) as pool:
        squeezer = compression.Squeezer(pool)
        parts = [squeezer.piece(piece) for piece in pieces]
        return squeezer.head() + b"".join(one.result() for one in parts) + squeezer.tail()


@pytest.mark.parametrize("fast", [True, False], ids=["isal", "zlib"])
def test_pieces_become_one_gzip_stream(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(compression, "_fast", None)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.binary(max_size=3000), max_size=8))
    def check(pieces: list[bytes]) -> None:
        whole = squeezed(pieces)
        assert gzip.decompress(whole) == b"".join(pieces)
        # One member, which readers that know no second one read to the end.
        one = gzip.zlib.decompressobj(wbits=31)  # type: ignore[attr-defined]
        assert one.decompress(whole) == b"".join(pieces)
        assert one.eof
        assert one.unused_data == b""

    check()


def test_equal_layers_become_equal_blobs() -> None:
    pieces = [os.urandom(1000), b"text " * 1000]
    assert squeezed(pieces) == squeezed(pieces)


def tar_of(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("b/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        tar.addfile(link)
    return buffer.getvalue()


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 700, 100_000])
def test_files_of_an_export_come_in_its_order_and_links_are_left_out(size: int) -> None:
    data = tar_of(("a/layer.tar", b"layer" * 300), ("config.json", b"{}"))
    found = [(one.name, one.size, one.read()) for one in members(in_pieces(data, size))]
    assert found == [("a/layer.tar", 1500, b"layer" * 300), ("config.json", 2, b"{}")]


def test_layers_are_recognised_in_both_layouts() -> None:
    layer = b"content of a layer"
    digest = hashlib.sha256(layer).hexdigest()
    data = tar_of(
        ("a/layer.tar", layer), (f"blobs/sha256/{digest}", layer), ("blobs/sha256/ab", b"{}")
    )
    found = [one.is_layer([f"sha256:{digest}"]) for one in members([data])]
    assert found == [True, True, False]


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_an_export_that_breaks_off_is_an_error_of_the_engine(keep: float) -> None:
    data = tar_of(("a/layer.tar", b"layer" * 3000))
    cut = data[: int(len(b"layer" * 3000) * keep)]
    with pytest.raises(EngineUnavailable):
        [one.read() for one in members([cut])]


def test_layers_of_podmans_exports_are_recognised_by_their_names() -> None:
    layer = b"content of a layer"
    digest = hashlib.sha256(layer).hexdigest()
    data = tar_of((f"{digest}.tar", layer), ("other.tar", layer), (f"x/{digest}.tar", layer))
    found = [one.is_layer([f"sha256:{digest}"]) for one in members([data])]
    assert found == [True, False, False]


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("blobs/sha256/" + "a" * 64, "sha256:" + "a" * 64),
        ("blobs/sha512/" + "b" * 128, "sha512:" + "b" * 128),
        ("blobs/sha256/" + "a" * 63, None),
        ("blobs/sha256/x/" + "a" * 64, None),
        ("sha256/" + "a" * 64, None),
        ("index.json", None),
    ],
)
def test_blobs_of_a_layout_are_named_by_their_digests(name: str, digest: str | None) -> None:
    assert [one.digest for one in members([tar_of((name, b"x"))])] == [digest]


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_that_says_to_be_huge_is_not_read(kind: bytes) -> None:
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        yield header(kind, 8 * 1024**3)
        while True:
            read += 1024 * 1024
            yield b"x" * 1024 * 1024

    with pytest.raises(EngineUnavailable):
        list(members(pieces()))
    assert read <= 4 * 1024 * 1024


def test_a_member_with_holes_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="holes"):
        list(members([header(tarfile.GNUTYPE_SPARSE, 0) + b"\0" * 4096]))


def test_an_export_has_so_many_members_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MEMBERS_MOST", 3)
    data = tar_of(("a", b""), ("b", b""), ("c", b""))
    with pytest.raises(EngineUnavailable, match="more than 3 members"):
        list(members([data]))


def test_small_images_are_the_engines() -> None:
    assert not is_possible(LEAST - 1)


@pytest.mark.parametrize(
    ("size", "new", "sent", "wanted"),
    [
        (300, 300, 0, True),
        (1000, 300, 0, False),
        (1000, 500, 0, True),
        # Nearly all of it went already.
        (1000, 500, 450, False),
    ],
)
def test_the_way_is_changed_where_most_is_new_and_still_to_go(
    size: int, new: int, sent: int, wanted: bool
) -> None:
    mib = 1024 * 1024
    assert pays(size * mib, new * mib, sent * mib) is wanted


def test_an_image_that_was_streamed_in_part_is_streamed_again() -> None:
    assert begins(1000, 500)
    assert not begins(1000, 100)
