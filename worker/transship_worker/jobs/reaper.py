"""The reaper: what no bell brings about.

It runs in every worker; one at a time leads. It puts jobs of lost workers back, ends those
that waited too long, rings again for jobs whose bell was lost, and forgets old ones.
"""

from __future__ import annotations

import logging
import threading

import redis
from kombu.exceptions import OperationalError

from transship.ledger.connection import plain
from transship.ledger.keys import Keys
from transship.ledger.notifications import Bell, Doorbell
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.sweep import Due

logger = logging.getLogger("transship.worker")


class Reaper:
    """A thread that sweeps every ``period_s`` seconds while it leads."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        claims: Claims,
        doorbell: Doorbell,
        *,
        name: str,
        period_s: float,
    ) -> None:
        self._redis = client
        self._keys = keys
        self._claims = claims
        self._doorbell = doorbell
        self._name = name
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and let another lead."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            if self._redis.get(self._keys.reaper) == self._name:
                self._redis.delete(self._keys.reaper)
        except redis.RedisError:
            # The lock expires by itself.
            return

    def sweep(self) -> None:
        """Sweep once, as the leader."""
        swept = self._claims.sweep()
        if swept.lost:
            logger.warning("%d running job(s) of silent workers taken back", swept.lost)
        if swept.expired:
            logger.info("%d job(s) expired before a worker started them", swept.expired)
        self._doorbell.ring(self._bell(due) for due in swept.ring)

    def _bell(self, due: Due) -> Bell:
        # The request is not looked at: whoever wrote it must not stop the one that all rely on.
        queue, display = due.queue, due.display or str(due.job)
        if not queue:
            queue, display = self._claims.queue_of(due.job)
        return Bell(due.job, queue, display, due.attempt, again=True)

    def _leads(self) -> bool:
        # Two sweeps at once do no harm; the lock only saves the work.
        milliseconds = int(self._period_s * 3000)
        if self._redis.set(self._keys.reaper, self._name, nx=True, px=milliseconds):
            return True
        if self._redis.get(self._keys.reaper) == self._name:
            self._redis.pexpire(self._keys.reaper, milliseconds)
            return True
        return False

    def _run(self) -> None:
        quiet = False
        while not self._ended.wait(self._period_s):
            try:
                if self._leads():
                    self.sweep()
                quiet = False
            except (redis.RedisError, OperationalError, OSError) as error:
                self._doorbell.close()
                if not quiet:
                    logger.warning("the reaper cannot sweep: %s", plain(error))
                quiet = True
