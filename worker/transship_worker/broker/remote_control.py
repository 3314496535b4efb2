"""Celery's remote control, held to questions.

Whoever may publish in Redis on the channel of Celery's remote control (Flower does, whenever it
begins to listen) could otherwise stop a worker, have it forget a bell, or have it consume other
queues.
"""

from __future__ import annotations

from typing import Any, Final

from celery.worker.control import Panel

#: What a worker answers: what Flower and ``celery inspect`` show, and signs of life. Events are
#: on from the start, so that turning them on changes nothing.
ANSWERED: Final = frozenset(
    {
        *("ping", "heartbeat", "enable_events", "clock"),
        *("stats", "conf", "registered", "active_queues"),
        *("active", "reserved", "scheduled", "revoked", "query_task"),
    }
)


def only_questions() -> None:
    """Forget all orders, in this process. A worker logs one that comes all the same."""
    handlers: dict[str, Any] = Panel.data
    for name in handlers.keys() - ANSWERED:
        del handlers[name]
