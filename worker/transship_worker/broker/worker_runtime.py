"""What Celery's objects need of the worker process, which they find at ``app.transship``."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from transship_config.settings import Settings
from transship_worker.broker.channels import Rest
from transship_worker.broker.slots import Lane, Slots
from transship_worker.concurrency.waker import Waker
from transship_worker.jobs.heartbeat import Heart
from transship_worker.jobs.runner import Runner


class WorkerRuntime(Protocol):
    """The parts of a worker process; implemented by ``transship_worker.process.runtime``."""

    @property
    def settings(self) -> Settings:
        """The settings of the worker."""

    @property
    def runner(self) -> Runner:
        """Runs the job that a message names."""

    @property
    def slots(self) -> Slots:
        """The slots of each lane."""

    @property
    def queues(self) -> Mapping[Lane, Sequence[str]]:
        """The queues of each lane."""

    @property
    def rest(self) -> Rest:
        """Stops the channels while Redis is full."""

    @property
    def waker(self) -> Waker:
        """Wakes the event loop of Celery's worker."""

    @property
    def heart(self) -> Heart:
        """The heartbeat of the running jobs."""

    @property
    def draining(self) -> threading.Event:
        """Set when the worker was told to stop."""

    def refused(self, reason: str) -> None:
        """Count a message that was rejected."""

    def drain(self) -> None:
        """Give running jobs their grace, then hand them back."""


def attach(app: Any, runtime: WorkerRuntime) -> None:
    """Let an application's objects find their worker process."""
    app.transship = runtime


def runtime_of(app: Any) -> WorkerRuntime:
    """The worker process that runs an application.

    Flower's application has none, and runs nothing that asks for it.
    """
    return cast("WorkerRuntime", app.transship)
