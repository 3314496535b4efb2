"""Transship's producer: enqueue image pushes, and see them arrive.

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
    from transship.job import Job
    from transship.migrations import Migration
    from transship.pushes import Push
    from transship_config.errors import (
        JobFailed,
        RedisUnreachable,
        TransshipError,
        UsageError,
        WaitTimeout,
    )
    from transship_config.job import ErrorInfo, JobEvent, JobRecord, Progress, State, Step
    from transship_config.migration.plan import PlanRow
    from transship_config.migration.record import MigrationRecord
    from transship_config.migration.spec import Spec

_HOMES = {
    "Client": "transship.client",
    "Push": "transship.pushes",
    "Job": "transship.job",
    "Migration": "transship.migrations",
    "JobFailed": "transship_config.errors",
    "TransshipError": "transship_config.errors",
    "RedisUnreachable": "transship_config.errors",
    "UsageError": "transship_config.errors",
    "WaitTimeout": "transship_config.errors",
    "ErrorInfo": "transship_config.job",
    "JobEvent": "transship_config.job",
    "JobRecord": "transship_config.job",
    "Progress": "transship_config.job",
    "State": "transship_config.job",
    "Step": "transship_config.job",
    "PlanRow": "transship_config.migration.plan",
    "MigrationRecord": "transship_config.migration.record",
    "Spec": "transship_config.migration.spec",
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
    "PlanRow",
    "Progress",
    "Push",
    "RedisUnreachable",
    "Spec",
    "State",
    "Step",
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
