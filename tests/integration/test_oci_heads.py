"""What a server sends around its answers is bounded in bytes and in number, not in time alone."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, client
from tests.support.processes import soon
from tests.support.scripted_servers.raw import RawServer
from transship.errors import AnswerMalformed, RegistryUnavailable
from transship_worker.oci import blobs
from transship_worker.oci.client import Repository
from transship_worker.oci.pool import ClientPool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Shorter than the clock of each phase. Unit: s.
SOON_S = 20


def fields(count: int) -> bytes:
    """Header fields of 8,000 bytes each."""
    return b"".join(b"X-%d: %s\r\n" % (number, b"y" * 7_993) for number in range(count))


async def fetched(repository: Repository) -> bytes:
    async with asyncio.timeout(SOON_S):
        return await blobs.fetch(repository, EMPTY_DIGEST, limit=100)


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((CONTINUE,), "informational"),
        ((HINTS,), "informational"),
        ((b"HTTP/1.1 103 Early Hints\r\n" + fields(5) + b"\r\n",), "a head of more than 64 KiB"),
        ((OK + fields(100) + b"\r\n" + EMPTY,), "a head of more than 64 KiB"),
        ((OK, fields(1)), "a head of more than 64 KiB"),
    ],
)
async def test_heads_without_end_end_long_before_a_clock(
    pieces: tuple[bytes, ...], reason: str
) -> None:
    with RawServer(*pieces, pause_s=0) as server:
        async with ClientPool({}) as pool:
            asked = client(pool, server.address, None, endpoint=server.base)
            with pytest.raises(AnswerMalformed, match=reason):
                await fetched(asked.repository("acme/app"))
            await soon(lambda: _is(server.left == 1), what="a closed connection")


@pytest.mark.parametrize(
    "pieces", [(b"2\r\n{}\r\n0\r\n", fields(1)), (b"2;", b"x=yyyyyyyy;" * 1_000), (b"0" * 1_000,)]
)
async def test_chunk_extensions_and_trailers_without_end_end_long_before_a_clock(
    pieces: tuple[bytes, ...],
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with RawServer(head, *pieces, pause_s=0) as server:
        async with ClientPool({}) as pool:
            asked = client(pool, server.address, None, endpoint=server.base)
            with pytest.raises(RegistryUnavailable, match="chunk extensions or trailers"):
                await fetched(asked.repository("acme/app"))
            await soon(lambda: _is(server.left == 1), what="a closed connection")


async def test_a_body_in_the_smallest_chunks_is_read_to_its_end() -> None:
    digest, size = "sha256:" + hashlib.sha256(b"x" * 200_000).hexdigest(), 200_000
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"1;name=value\r\nx\r\n" * size + b"0\r\nX-Trailer: y\r\n\r\n"
    with RawServer(head + body, b"") as server:
        async with ClientPool({}) as pool:
            asked = client(pool, server.address, None, endpoint=server.base)
            found = await blobs.fetch(asked.repository("acme/app"), digest, limit=size)
            assert len(found) == size


@pytest.mark.parametrize("head", [OK + fields(7), HINTS * 10 + CONTINUE * 10 + OK])
async def test_heads_within_the_bounds_are_read(head: bytes) -> None:
    with RawServer(head + b"\r\n" + EMPTY, b"") as server:
        async with ClientPool({}) as pool:
            asked = client(pool, server.address, None, endpoint=server.base)
            assert await fetched(asked.repository("acme/app")) == EMPTY


async def test_answers_that_nobody_asked_for_close_the_connection() -> None:
    answer = OK + b"\r\n" + EMPTY
    with RawServer(answer, answer * 1_000, pause_s=0.01) as server:
        async with ClientPool({}) as pool:
            asked = client(pool, server.address, None, endpoint=server.base)
            assert await fetched(asked.repository("acme/app")) == EMPTY
            await soon(lambda: _is(server.left == 1), what="a closed connection")


async def _is(true: bool) -> bool:
    return true
