"""A registry that refuses a body while it is sent, and resets: the refusal counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_servers.early_refusal import EarlyRefusal
from tests.support.servers.certificates import Authority
from transship.errors import BodyTooLarge
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.credentials.access import Access
from transship_worker.oci import uploads
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool


async def upload(endpoint: Endpoint, server: EarlyRefusal, piece: bytes) -> None:
    async with ClientPool({}) as pool:
        opened = await uploads.start(pool.client(endpoint).repository("a/b", writing=True))

        async def body() -> AsyncIterator[bytes]:
            yield piece
            # The loop stands still, so that nothing is read until answer and reset are there.
            assert server.reset.wait(30)
            while True:
                yield piece

        await opened.patch(body)


def in_asyncio(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def in_the_workers_loop(work: Coroutine[Any, Any, None]) -> None:
    with BackgroundLoop() as loop:
        loop.run(work)


@pytest.mark.parametrize("run", [in_asyncio, in_the_workers_loop])
@pytest.mark.parametrize("size", [1024, 64 * 1024, 1024 * 1024])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_413_is_read_before_the_reset_that_follows_it(
    tmp_path: Path, scheme: str, size: int, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    authority = Authority(tmp_path)
    tls = authority.issue("127.0.0.1") if scheme == "https" else None
    with EarlyRefusal(tls=tls) as server:
        host = f"127.0.0.1:{server.port}"
        access = Access(ca=authority.ca) if tls else Access(insecure=True)
        endpoint = Endpoint(host, access, endpoint=f"{scheme}://{host}")
        with pytest.raises(BodyTooLarge, match="set max_body") as caught:
            run(upload(endpoint, server, b"x" * size))
        assert not caught.value.retryable
