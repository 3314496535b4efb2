"""The producer: queue pushes, copies and migrations of images, and follow them.

>>> from transship import Client
>>> with Client() as client:
...     job = client.push("registry.example.com/ml/train:42", registry="prod")
...     print(job.wait(timeout=1800).digest)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transship_config import __version__

if TYPE_CHECKING:
    from transship.client import Client
    from transship.errors import (
        JobFailed,
        NotReplicated,
        RedisUnreachable,
        SubmitInterrupted,
        WaitTimeout,
    )
    from transship.jobs import Job
    from transship.migrations import Migration
    from transship.model.jobs import State, Step
    from transship.model.migration.plan import PlanRow
    from transship.model.migration.record import MigrationRecord
    from transship.model.migration.specification import Spec
    from transship.model.records import ErrorInfo, JobEvent, JobRecord, Progress
    from transship.pushes import Push
    from transship_config.errors import TransshipError, UsageError

_HOMES = {
    "Client": "transship.client",
    "Push": "transship.pushes",
    "Job": "transship.jobs",
    "Migration": "transship.migrations",
    "JobFailed": "transship.errors",
    "TransshipError": "transship_config.errors",
    "NotReplicated": "transship.errors",
    "RedisUnreachable": "transship.errors",
    "SubmitInterrupted": "transship.errors",
    "UsageError": "transship_config.errors",
    "WaitTimeout": "transship.errors",
    "ErrorInfo": "transship.model.records",
    "JobEvent": "transship.model.records",
    "JobRecord": "transship.model.records",
    "Progress": "transship.model.records",
    "State": "transship.model.jobs",
    "Step": "transship.model.jobs",
    "PlanRow": "transship.model.migration.plan",
    "MigrationRecord": "transship.model.migration.record",
    "Spec": "transship.model.migration.specification",
}

__all__ = [
    "Client",
    "ErrorInfo",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobRecord",
    "Migration",
    "MigrationRecord",
    "NotReplicated",
    "PlanRow",
    "Progress",
    "Push",
    "RedisUnreachable",
    "Spec",
    "State",
    "Step",
    "SubmitInterrupted",
    "TransshipError",
    "UsageError",
    "WaitTimeout",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `transship --help` needs none of it, and must be quick.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
