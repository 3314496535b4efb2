"""Notifies workers of jobs, for a client; its broker connection opens with the first one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from transship.forks import loading
from transship.ledger.connection import plain
from transship.model.jobs import JobId
from transship_config.settings import Settings

if TYPE_CHECKING:
    from transship.ledger.notifications import Bell, Doorbell
    from transship.model.requests import Request

logger = logging.getLogger("transship")


class Notifier:
    """Safe to share between threads: one notifies at a time."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings = settings
        self._url = url
        self._doorbell: Doorbell | None = None
        #: Held while workers are notified.
        self.lock = threading.Lock()

    def notify(
        self, jobs: Sequence[tuple[JobId, Request]], *, again: bool = False
    ) -> tuple[str, ...]:
        """Notify of jobs; a broker that fails costs only time, because the reaper notifies again.

        Returns warnings for those who submitted them.
        """
        # Celery and kombu are loaded with the first notification, not on import.
        with loading():
            from kombu.exceptions import OperationalError
            from redis.exceptions import RedisError

            from transship.ledger.notifications import Bell, Doorbell

        bells: list[Bell] = [Bell.of(job, request, again=again) for job, request in jobs]
        with self.lock:
            if self._doorbell is None:
                self._doorbell = Doorbell(self._settings, self._url)
            try:
                self._doorbell.ring(bells)
            except (OperationalError, RedisError, OSError) as error:
                self._doorbell.close()
                logger.warning("the bell did not ring: %s", plain(error))
                return ("the job is written, but no worker could be told; one looks within 10 s",)
            except BaseException:
                # Ctrl-C: an answer may still be on its way.
                self._doorbell.close()
                raise
        return ()

    def again(self, jobs: Sequence[tuple[JobId, Request]]) -> tuple[str, ...]:
        """The same for jobs of which workers were notified before."""
        return self.notify(jobs, again=True)

    def again_of(self, job: JobId, request: Request) -> None:
        """The same for one job."""
        self.notify([(job, request)], again=True)

    def close(self) -> None:
        """Close the connection; the next notification opens another."""
        with self.lock:
            if self._doorbell is not None:
                self._doorbell.close()
                self._doorbell = None

    def after_fork(self) -> None:
        """Leave lock and connection to the parent."""
        self.lock = threading.Lock()
        self._doorbell = None
