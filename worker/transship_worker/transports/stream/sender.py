"""From a job's thread to the background loop: requests, and the pieces of one blob at a time."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar

from transship.errors import HandedBack
from transship_worker.concurrency.loop import BackgroundLoop, Running
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import Descriptor
from transship_worker.oci.tagging import Leased
from transship_worker.oci.waiting import telling
from transship_worker.transports.port import JobControl
from transship_worker.transports.stream import upload
from transship_worker.transports.stream.choice import Fallback

T = TypeVar("T")


class StreamControl(JobControl, Leased, Protocol):
    """What a streamed push asks of its job."""


class Sender:
    """Sends to one repository for one job; used from the job's thread."""

    def __init__(
        self, loop: BackgroundLoop, repository: Repository, control: StreamControl
    ) -> None:
        self._loop = loop
        self._repository = repository
        self._control = control

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in the background loop; a job that is stopped ends it."""
        running = self._start(work)
        with self._control.closing(running.cancel):
            return self._result(running)

    def send(self, pieces: Iterable[Future[bytes] | bytes]) -> Descriptor:
        """Send what the pieces are as one blob.

        Raises:
            Fallback: the registry took the blob for whole before it was.
            PushError: it refuses, or does not answer; the job must stop.
        """
        conveyor = self.run(upload.make_conveyor())
        running = self._start(upload.send_layer(self._repository, conveyor))

        def waiting() -> None:
            self._control.checkpoint()
            if running.done:
                # It ended before all was sent: this raises why.
                running.result()
                raise Fallback("the registry took a layer for whole before it was")

        try:
            with self._control.closing(running.cancel):
                for piece in pieces:
                    conveyor.put(piece, waiting)
                conveyor.end()
                return self._result(running)
        finally:
            running.cancel()

    def _start(self, work: Coroutine[Any, Any, T]) -> Running[T]:
        """Start something there; a request that waits for the registry's rate is no stall."""
        return self._loop.start(telling(self._control.alive, work))

    def _result(self, running: Running[T]) -> T:
        try:
            return running.result()
        except CancelledError:
            self._control.checkpoint()
            raise HandedBack("the worker's event loop stopped") from None
