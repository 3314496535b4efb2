"""Longshore's producer: enqueue image pushes, and see them arrive.

>>> from longshore import Client
>>> with Client() as client:
...     job = client.push("registry.example.com/ml/train:42", registry="prod")
...     print(job.wait(timeout=1800).digest)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore_config import __version__

if TYPE_CHECKING:
    from longshore.client import Client
    from longshore.job import Job
    from longshore.migrations import Migration
    from longshore.pushes import Push
    from longshore_config.errors import (
        JobFailed,
        LongshoreError,
        RedisUnreachable,
        UsageError,
        WaitTimeout,
    )
    from longshore_config.job import ErrorInfo, JobEvent, JobRecord, Progress, State, Step
    from longshore_config.migration.plan import PlanRow
    from longshore_config.migration.record import MigrationRecord
    from longshore_config.migration.spec import Spec

_HOMES = {
    "Client": "longshore.client",
    "Push": "longshore.pushes",
    "Job": "longshore.job",
    "Migration": "longshore.migrations",
    "JobFailed": "longshore_config.errors",
    "LongshoreError": "longshore_config.errors",
    "RedisUnreachable": "longshore_config.errors",
    "UsageError": "longshore_config.errors",
    "WaitTimeout": "longshore_config.errors",
    "ErrorInfo": "longshore_config.job",
    "JobEvent": "longshore_config.job",
    "JobRecord": "longshore_config.job",
    "Progress": "longshore_config.job",
    "State": "longshore_config.job",
    "Step": "longshore_config.job",
    "PlanRow": "longshore_config.migration.plan",
    "MigrationRecord": "longshore_config.migration.record",
    "Spec": "longshore_config.migration.spec",
}

__all__ = [
    "Client",
    "ErrorInfo",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobRecord",
    "LongshoreError",
    "Migration",
    "MigrationRecord",
    "PlanRow",
    "Progress",
    "Push",
    "RedisUnreachable",
    "Spec",
    "State",
    "Step",
    "UsageError",
    "WaitTimeout",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `longshore --help` needs none of it, and must be quick.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
