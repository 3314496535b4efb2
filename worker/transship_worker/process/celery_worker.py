"""Celery's worker with a drain of our own, and how it is run."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from typing import Any

from celery.apps import worker as celery_worker
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.worker import state as celery_state

from transship_config.celery_settings import queue
from transship_worker.broker.channels import Unacknowledged
from transship_worker.broker.remote_control import only_questions
from transship_worker.broker.slots import Lane
from transship_worker.broker.worker_runtime import attach, runtime_of
from transship_worker.process.runtime import Runtime

logger = logging.getLogger("transship.worker")


class Worker(celery_worker.Worker):
    """Celery's worker with a drain of our own on SIGTERM and SIGINT.

    The first signal stops taking jobs and gives the running ones their grace; a second hands
    them back at once.
    """

    def install_platform_tweaks(self, worker: Any) -> None:  # noqa: ARG002 - Celery's hook
        """Called by Celery in its main thread, before it consumes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        runtime = runtime_of(self.app)
        if runtime.draining.is_set():
            runtime.heart.hand_back("the worker was told twice to stop")
            return
        runtime.draining.set()
        logger.info(
            "%s: no new jobs; %d running job(s) have %g s",
            signal.Signals(number).name,
            runtime.heart.running,
            runtime.settings.grace,
        )
        threading.Thread(target=runtime.drain, name="drain", daemon=True).start()
        celery_state.should_stop = os.EX_OK
        runtime.waker.wake()


def run(runtime: Runtime, app: Any) -> int:
    """Run a worker until it is told to stop; the exit status."""
    attach(app, runtime)
    # Celery warns of root because of pickle, which is not accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    only_questions()
    Unacknowledged.install()
    app.conf.task_queues = [queue(name) for name in runtime.queues[Lane.PUSH]]
    worker = Worker(
        app=app,
        hostname=runtime.name,
        pool_cls="threads",
        concurrency=runtime.slots.threads,
        loglevel="WARNING",
        quiet=True,
        without_mingle=True,
        without_gossip=True,
        send_events=True,
    )
    # With each lost connection Celery tells what a later version does with tasks that are
    # acknowledged late; none is. It has set filters of its own by now.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    runtime.start()
    try:
        worker.start()
    finally:
        runtime.close()
    return int(worker.exitcode or 0)
