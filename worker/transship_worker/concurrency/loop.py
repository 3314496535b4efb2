"""The background event loop: one thread of a worker process that runs all that is asynchronous.

Jobs run in threads of their own and hand coroutines over; connections and tokens stay with
the loop, so that all jobs share them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

T = TypeVar("T")

#: How long a cancelled coroutine may take to clean up. Unit: s.
CLEAN_UP_S: Final = 5.0
#: How long ``close`` waits for cancelled work to end. Unit: s.
CLOSE_TIMEOUT_S: Final = 10.0


class BackgroundLoop:
    """An event loop in a daemon thread; it starts with the first coroutine.

    Made once a process and handed to those who need it. Safe to use from any thread but its
    own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine; ``cancel`` of what is returned cancels it in the loop."""
        try:
            loop = self._started()
        except RuntimeError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop)

    def start(self, work: Coroutine[Any, Any, T]) -> Running[T]:
        """Start a coroutine whose end is waited for even when it is cancelled."""
        ended = threading.Event()
        return Running(self.submit(_told(work, ended)), ended)

    def run(self, work: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
        """Run a coroutine and return its result; it is cancelled if this thread stops waiting.

        Raises:
            TimeoutError: it took longer than ``timeout_s``.
            concurrent.futures.CancelledError: it was cancelled.
        """
        future = self.submit(work)
        try:
            return future.result(timeout_s)
        finally:
            # Nothing once it is done; else a timeout or an interrupt ended the wait.
            future.cancel()

    def close(self) -> None:
        """Cancel all that runs, wait for it, and end the thread. Later calls are refused."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(CLOSE_TIMEOUT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError("the background loop is closed")
            if self._loop is None:
                self._loop = _factory()()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="transship-loop", daemon=True
                )
                self._thread.start()
            elif self._thread is threading.current_thread():
                raise RuntimeError("the background loop cannot wait for itself; await instead")
            return self._loop


class Running(Generic[T]):
    """A coroutine that runs in the background loop, for the thread that waits for it."""

    def __init__(self, future: concurrent.futures.Future[T], ended: threading.Event) -> None:
        self._future = future
        self._ended = ended

    def cancel(self) -> None:
        """Cancel it; ``result`` returns when it has cleaned up. From any thread."""
        self._future.cancel()

    @property
    def done(self) -> bool:
        """Whether it is over, one way or the other."""
        return self._future.done()

    def result(self) -> T:
        """Its result.

        Raises:
            concurrent.futures.CancelledError: it was cancelled, and is over.
        """
        try:
            return self._future.result()
        except concurrent.futures.CancelledError:
            # The future is cancelled at once, the coroutine may still close what it opened.
            self._ended.wait(CLEAN_UP_S)
            raise


async def _told(work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await work
    finally:
        ended.set()


def _factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S / 2)
