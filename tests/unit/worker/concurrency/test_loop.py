"""One event loop in a thread of its own, for all of a worker's jobs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from tests.support.processes import eventually
from transship_worker.concurrency.loop import BackgroundLoop


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    with BackgroundLoop() as made:
        yield made


async def thread_name() -> str:
    return threading.current_thread().name


def test_coroutines_of_several_threads_run_in_one(loop: BackgroundLoop) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        names = set(threads.map(lambda _: loop.run(thread_name()), range(8)))
    assert names == {"transship-loop"}


def test_an_error_reaches_the_thread_that_waits(loop: BackgroundLoop) -> None:
    async def fail() -> None:
        raise ValueError("so it is")

    with pytest.raises(ValueError, match="so it is"):
        loop.run(fail())


def test_what_takes_too_long_is_cancelled(loop: BackgroundLoop) -> None:
    ended = threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        loop.run(wait_for_ever(), timeout_s=0.01)
    assert ended.wait(10)


def test_another_thread_cancels_what_was_started(loop: BackgroundLoop) -> None:
    started = threading.Event()

    async def wait_for_ever() -> None:
        started.set()
        await asyncio.Event().wait()

    future = loop.submit(wait_for_ever())
    assert started.wait(10)
    future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)


def test_closing_ends_what_runs_and_refuses_what_comes() -> None:
    loop = BackgroundLoop()
    ended = threading.Event()
    started = threading.Event()

    async def wait_for_ever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    loop.submit(wait_for_ever())
    assert started.wait(10)
    loop.close()

    assert ended.is_set()
    assert eventually(lambda: "transship-loop" not in {t.name for t in threading.enumerate()})
    with pytest.raises(RuntimeError, match="closed"):
        loop.run(thread_name())


def test_the_loop_does_not_wait_for_itself(loop: BackgroundLoop) -> None:
    async def nested() -> None:
        loop.run(thread_name())

    with pytest.raises(RuntimeError, match="await instead"):
        loop.run(nested())
