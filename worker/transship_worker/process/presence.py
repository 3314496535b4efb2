"""What a worker publishes of itself, for producers to see."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import redis

from transship.ledger.connection import plain
from transship.ledger.functions import Functions
from transship.ledger.keys import Keys
from transship.model.components import WorkerView
from transship_worker.process.published_rights import PublishedRights

logger = logging.getLogger("transship.worker")

#: How often the view is written, and how long it outlives its worker. Units: s.
EVERY_S, LIVES_S = 3.0, 12
#: How often it is looked at whether something changed that producers wait for. Unit: s.
LOOK_S = 0.2


class Presence:
    """A thread that keeps this worker's public view in Redis."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        view: Callable[[], WorkerView],
        what_counts: Callable[[], object],
        *,
        queues: Sequence[str] = (),
        functions: Functions | None = None,
        rights: PublishedRights | None = None,
    ) -> None:
        """``what_counts``: a value whose change is published at once; cheap to ask for.

        ``queues``: what it listens to; others look after them while it lives. ``functions``: what
        producers call in Redis, kept there by this worker. ``rights``: those of accounts.
        """
        self._redis = client
        self._keys = keys
        self._view = view
        self._what_counts = what_counts
        self._queues = queues
        self._functions = functions
        self._rights = rights
        self._ended = threading.Event()
        self._now = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._name = ""

    def start(self) -> None:
        """Publish now, and go on publishing."""
        self._thread.start()

    def refresh(self) -> None:
        """Publish soon: something changed."""
        self._now.set()

    def close(self) -> None:
        """Stop, and take the view away."""
        self._ended.set()
        self._now.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._redis.delete(self._keys.worker(self._name))
            self._redis.zrem(self._keys.workers, self._name)
        except redis.RedisError:
            # It expires by itself.
            return

    def publish(self) -> None:
        """Write the view once; what producers call is there before they see a worker."""
        if self._functions is not None:
            self._functions.ensure()
        view = self._view()
        self._name = view.name
        seconds, micros = self._redis.time()
        now = int(seconds) * 1000 + int(micros) // 1000
        pipe = self._redis.pipeline()
        pipe.set(self._keys.worker(view.name), view.model_dump_json(), ex=LIVES_S)
        pipe.zadd(self._keys.workers, {view.name: now + LIVES_S * 1000})
        pipe.zremrangebyscore(self._keys.workers, "-inf", now)
        pipe.zremrangebyscore(self._keys.listening, "-inf", now)
        if self._queues:
            pipe.zadd(self._keys.listening, dict.fromkeys(self._queues, now + LIVES_S * 1000))
        if self._functions is not None:
            pipe.zadd(self._keys.functions, {self._functions.library: now})
        if self._rights is not None:
            self._rights.write(pipe)
        try:
            pipe.execute()
        except redis.RedisError:
            if self._rights is not None:
                self._rights.again()
            raise

    def _run(self) -> None:
        quiet = False
        while not self._ended.is_set():
            try:
                self.publish()
                quiet = False
            except redis.RedisError as error:
                if not quiet:
                    logger.warning("this worker cannot be published: %s", plain(error))
                quiet = True
            self._wait()

    def _wait(self) -> None:
        """Until it is time to publish again, or something changed."""
        before = self._what_counts()
        end = time.monotonic() + EVERY_S
        while time.monotonic() < end and self._what_counts() == before:
            if self._now.wait(LOOK_S):
                self._now.clear()
                return
