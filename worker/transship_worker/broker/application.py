"""The Celery application: what ``transship worker`` runs and Flower looks at."""

from __future__ import annotations

from typing import Any

import redis
from billiard.einfo import ExceptionInfo
from celery import Task
from celery.exceptions import Retry

from transship.ledger.broker_connection import celery_app
from transship.ledger.connection import is_full, plain
from transship_config.celery_settings import PUSH_TASK
from transship_config.settings import Settings
from transship_worker.broker.lane_consumers import BellRequest, SlotsStep
from transship_worker.broker.worker_runtime import runtime_of
from transship_worker.jobs.runner import JobFailure, JobPostponed
from transship_worker.jobs.sweep import RING_LEAST_S


class DoorbellTask(Task):
    """A task that Celery never retries by itself: the ledger decides."""

    Request = BellRequest
    # A failed job is shown as failed, in one line: its reason stands in the ledger and the log.
    throws = (JobFailure,)
    max_retries = 0

    def on_retry(self, *given: Any) -> None:
        """Drop Celery's copy of the traceback.

        It has all code positions of each frame, 2,341 of Celery's own, and stays until the garbage
        collector comes. The events are made of its text.
        """
        details: ExceptionInfo | None = given[-1]
        if details is not None:
            details.tb = None


def create_app(settings: Settings) -> Any:
    """The application for settings whose Redis URL is settled."""
    app = celery_app(settings, settings.url.get_secret_value(), task_cls=DoorbellTask)
    app.conf.worker_consumer = "transship_worker.broker.messages:BellConsumer"
    app.steps["consumer"].add(SlotsStep)
    #: A ``WorkerRuntime``, set by ``transship worker``; Flower has none.
    app.transship = None

    @app.task(name=PUSH_TASK, bind=True, shared=False)
    def push(self: Any, job: str, display: str) -> str:  # noqa: ARG001 - shown by Flower
        """Answer one doorbell."""
        try:
            return runtime_of(self.app).runner.answer(job)
        except JobPostponed as error:
            # Shown as RETRY; nothing is republished, the ledger rings when it is due.
            raise Retry(str(error), when=error.delay_s) from None
        except redis.RedisError as error:
            if is_full(error):
                # Further bells could claim nothing either.
                runtime_of(self.app).rest.begin()
                raise Retry(f"Redis is full: {plain(error)}", when=RING_LEAST_S) from None
            # Nothing was claimed: the reaper rings again once Redis answers.
            raise Retry(f"Redis does not answer: {plain(error)}", when=RING_LEAST_S) from None

    # Celery's own (map, group, chord_unlock …) would run for whoever names them in a message.
    app.finalize(auto=True)
    for name in [name for name in app.tasks if name != PUSH_TASK]:
        app.tasks.unregister(name)
    return app
