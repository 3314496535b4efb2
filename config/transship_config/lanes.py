"""Lanes: the queues that jobs wait in, so that one kind of work never delays another.

``push.ENGINE`` and ``bulk.ENGINE`` hold engine pushes, ``copy.*`` copies from registry to
registry, ``copy.bulk`` those of migrations, ``plan.*`` migrations that are to be planned. ``*``
stands for any engine.
"""

from __future__ import annotations

from typing import Final

#: Stands for "any engine" in queue names; no engine may be called so.
ANY_ENGINE: Final = "*"
#: Copies that somebody asked for; every worker that copies listens to it.
COPY_QUEUE: Final = f"copy.{ANY_ENGINE}"
#: Copies of migrations, taken in turns with the others.
BULK_COPY_QUEUE: Final = "copy.bulk"
#: Migrations to be planned.
PLAN_QUEUE: Final = f"plan.{ANY_ENGINE}"


def queue_name(*, bulk: bool, engine: str | None) -> str:
    """The queue of a push: ``push.ENGINE`` or ``bulk.ENGINE``; ``*`` for any engine."""
    return f"{'bulk' if bulk else 'push'}.{engine or ANY_ENGINE}"


def worker_queues(*, bulk: bool, engine: str | None) -> list[str]:
    """The queues of pushes that a worker listens to: its engine's own, and those of any."""
    names = [queue_name(bulk=bulk, engine=None)]
    if engine is not None:
        names.insert(0, queue_name(bulk=bulk, engine=engine))
    return names


def celery_prefix(namespace: str) -> str:
    """What the names of all keys of Celery and kombu begin with."""
    return f"{namespace}:celery:"
