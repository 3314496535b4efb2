"""The thread that keeps the leases of the running jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from transship.errors import (
    HandedBack,
)
from transship.ledger.connection import plain
from transship_worker.jobs.control import TICK_S, Control

logger = logging.getLogger("transship.worker")


class Heart:
    """One thread that beats for all running jobs of this worker process."""

    def __init__(self) -> None:
        self._controls: set[Control] = set()
        #: Those whose renewal Redis refused; each is told of once.
        self._refused: set[Control] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._watch = threading.Thread(target=self._watch_all, name="watch", daemon=True)
        self._quiet = False

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()
        self._watch.start()

    def close(self) -> None:
        """Stop beating; jobs that still run will lose their lease."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
            self._watch.join()

    @property
    def running(self) -> int:
        """Jobs that run now."""
        return len(self._controls)

    @contextmanager
    def beating(self, control: Control) -> Iterator[None]:
        """Beat for a job while the block runs."""
        with self._lock:
            self._controls.add(control)
        try:
            yield
        finally:
            with self._lock:
                self._controls.discard(control)
                self._refused.discard(control)

    def hand_back(self, why: str) -> None:
        """Stop every running job so that it goes back to the queue."""
        for control in self._snapshot():
            control.stop(HandedBack(why))

    def _snapshot(self) -> list[Control]:
        with self._lock:
            return list(self._controls)

    def _watch_all(self) -> None:
        # Apart from the writes: a Redis that hangs must not keep a deadline from being seen.
        while not self._ended.wait(TICK_S):
            for control in self._snapshot():
                control.watch()

    def _run(self) -> None:
        while not self._ended.wait(TICK_S):
            for control in self._snapshot():
                try:
                    control.beat()
                except redis.ResponseError as error:
                    # Redis answers, and refuses this one; the others must keep their leases.
                    if control not in self._refused:
                        self._refused.add(control)
                        job = {"job": control.claim.job}
                        logger.warning("Redis refuses the renewal: %s", plain(error), extra=job)
                except redis.RedisError as error:
                    self._complain(error)
                    break
                self._quiet = False

    def _complain(self, error: redis.RedisError) -> None:
        if not self._quiet:
            logger.warning("Redis does not answer; running pushes go on: %s", plain(error))
            self._quiet = True
