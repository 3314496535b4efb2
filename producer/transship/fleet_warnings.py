"""Warnings about the online workers, shown when a job is queued."""

from __future__ import annotations

from transship.model.components import Fleet

NO_WORKER = "no worker is alive; the job waits until one starts (`transship worker`)"
NO_ENGINE = "no live worker has a Docker Engine; the job waits until one does"
NO_COPIES = "no live worker takes copies (TRANSSHIP_COPIES is 0); they wait until one does"


def push_warnings(fleet: Fleet) -> tuple[str, ...]:
    """Why pushes will wait; empty when nothing is known against them."""
    if not fleet.workers:
        return (NO_WORKER,)
    return () if fleet.engines else (NO_ENGINE,)


def copy_warnings(fleet: Fleet) -> tuple[str, ...]:
    """Why copies and migrations will wait; empty when nothing is known against them."""
    if not fleet.workers:
        return (NO_WORKER,)
    return () if any(worker.copy_slots for worker in fleet.workers) else (NO_COPIES,)
