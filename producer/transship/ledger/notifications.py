"""Doorbells: the Celery messages that tell a worker to look at a job.

A bell carries a job's id and a line to show, nothing else. A lost or doubled bell costs
nothing: the ledger knows what is to be done, and the reaper rings again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kombu import Connection, Producer
from kombu.exceptions import BatchPublishError, OperationalError

from transship.ledger.broker_connection import celery_app
from transship.model.jobs import JobId
from transship_config.celery_settings import PUSH_TASK
from transship_config.names import DEFAULT_ACCOUNT
from transship_config.settings import Settings

if TYPE_CHECKING:
    from transship.model.requests import Request


@dataclass(frozen=True, slots=True)
class Bell:
    """One bell: which job, in which queue, and what Flower shows of it."""

    job: JobId
    queue: str
    display: str
    #: The attempt it is meant to start; a part of the Celery task's id.
    attempt: int = 1
    #: Rung before: its task id must differ, or Flower would show two tasks as one.
    again: bool = False

    @classmethod
    def of(cls, job: JobId, request: Request, attempt: int = 1, *, again: bool = False) -> Bell:
        """The bell for a request."""
        return cls(job, request.queue, shown(job, request), attempt, again)

    @property
    def task_id(self) -> str:
        """The Celery task's id: the job, the attempt, and a suffix when rung again."""
        suffix = f".{secrets.token_hex(3)}" if self.again else ""
        return f"{self.job}.{self.attempt}{suffix}"


def shown(job: JobId, request: Request) -> str:
    """``IMAGE → REGISTRY``, and who submitted it: ``… by ci-gateway for team-a/ann``.

    The account ``default`` is not named: where there is no other one, it says nothing.
    """
    other = request.on_behalf_of
    if job.account == DEFAULT_ACCOUNT and other is None:
        return request.display
    return f"{request.display} by {job.account}{f' for {other}' if other is not None else ''}"


class Doorbell:
    """Rings through Celery's broker. Safe to share between threads: one rings at a time."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._app = celery_app(settings, url)
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._lock = threading.Lock()

    def ring(self, bells: Iterable[Bell]) -> None:
        """Ring all, in as few round trips as the broker allows.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached; some may have rung.
        """
        bells = list(bells)
        if not bells:
            return
        with self._lock:
            producer = self._open()
            if len(bells) == 1:
                self._publish(producer, bells[0])
                return
            try:
                with producer.batch():
                    for bell in bells:
                        self._publish(producer, bell)
            except BatchPublishError as error:
                # Some may have rung; kombu has this apart from its other errors.
                raise OperationalError(str(error)) from error

    def _open(self) -> Producer:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._producer = Producer(self._connection, auto_declare=False)
        return self._producer

    def _publish(self, producer: Producer, bell: Bell) -> None:
        headers, properties, body, _ = self._app.amqp.as_task_v2(
            bell.task_id,
            PUSH_TASK,
            args=(bell.job, bell.display),
            # What Flower and the log show of the arguments; the id is in the task's own.
            argsrepr=bell.display,
            ignore_result=True,
        )
        # The anonymous exchange puts a message straight into the queue of that name.
        producer.publish(
            body,
            exchange="",
            routing_key=bell.queue,
            headers=headers,
            serializer="json",
            **properties,
        )

    def close(self) -> None:
        """Close the broker connection; the next ring opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.release()
            self._connection = self._producer = None
