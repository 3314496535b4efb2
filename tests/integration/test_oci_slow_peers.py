"""A registry that always sends something, and never what was asked for, ends by a clock."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, asking, stream
from tests.support.scripted_servers.raw import RawServer
from transship.errors import AnswerMalformed, PushError, RegistryUnavailable
from transship_worker.oci import blobs, bodies, exchange, uploads
from transship_worker.oci.client import Repository

OK = b"HTTP/1.1 200 OK\r\nLocation: /up\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
#: What never ends, by what it is: pieces, the last of which comes again and again.
ENDLESS = {
    "chunk extensions": (CHUNKED, b"2;", b"x=yyyyyyyy;"),
    "chunk extensions of a later chunk": (CHUNKED, b"1\r\n{\r\n", b"1;", b"x=yyyyyyyy;"),
    "a chunk's size": (CHUNKED, b"0"),
    "trailers": (CHUNKED, b"2\r\n{}\r\n0\r\n", b"X-A: b\r\n"),
    "one trailer": (CHUNKED, b"2\r\n{}\r\n0\r\nX-A: ", b"b"),
    "100 Continue": (b"HTTP/1.1 100 Continue\r\n\r\n",),
    "103 Early Hints": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",),
    "headers": (OK, b"X-A: b\r\n"),
    "one header": (OK + b"X-A: ", b"b"),
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "nothing after the head": (OK + b"Content-Length: 2\r\n\r\n", b""),
}


@pytest.fixture(autouse=True)
def short_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of all phases, far from their real length. Unit: s."""
    for module, name in (
        (bodies, "SILENCE_S"),
        (uploads, "CLOSING_S"),
        (exchange, "EXCHANGE_S"),
        (exchange, "CONNECT_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, 0.4)


async def fetched(repository: Repository) -> object:
    return await blobs.fetch(repository, EMPTY_DIGEST, limit=100)


async def opened(repository: Repository) -> object:
    return await uploads.start(repository)


async def sent(repository: Repository) -> None:
    base = await repository.client.base()
    upload = uploads.Upload(repository, base / "up")
    await upload.finish(EMPTY_DIGEST, lambda: stream(EMPTY), length=2)


async def sent_at_once(repository: Repository) -> object:
    base = await repository.client.base()
    return await uploads.Upload(repository, base / "up").patch(bytes(200_000))


#: What is asked, and the status that it expects.
WORKS = [(fetched, b"200 "), (opened, b"202 "), (sent, b"201 "), (sent_at_once, b"202 ")]


@pytest.mark.parametrize(("work", "status"), WORKS)
@pytest.mark.parametrize("what", ENDLESS)
async def test_an_answer_that_never_comes_ends_by_its_phases_clock(
    what: str, work: Callable[[Repository], Awaitable[object]], status: bytes
) -> None:
    pieces = [piece.replace(b"200 ", status) for piece in ENDLESS[what]]
    with (
        RawServer(*pieces) as server,
        pytest.raises((RegistryUnavailable, AnswerMalformed)),
    ):
        await asking(server.address, work, endpoint=server.base)


@pytest.mark.parametrize("what", ENDLESS)
async def test_an_answer_that_never_comes_takes_no_memory(what: str) -> None:
    *first, last = ENDLESS[what]
    with RawServer(*first, last * 20_000, pause_s=0) as server:
        tracemalloc.start()
        try:
            with pytest.raises(PushError):
                await asking(server.address, fetched, endpoint=server.base)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 32 * 2**20, f"{peak / 2**20:.0f} MiB"
