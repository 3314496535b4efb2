"""Which messages are bells: all others are dropped before Celery makes anything of them.

Any producer may put bytes into a queue. Celery would hold a message that names a time until then,
send on what a message says is to follow it, and lose a slot over some that lack a part. Of a bell
only its id, its job and its line for people are taken over.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import redis
from celery.worker.consumer import Consumer

from transship_config.celery_settings import PUSH_TASK
from transship_worker.broker.worker_runtime import runtime_of

logger = logging.getLogger("transship.worker")

#: The longest bell: an id and a line for people. Unit: bytes.
LONGEST_BELL: Final = 16_384
#: Between two connections to a Redis that refuses what Celery needs; it may be full. Unit: s.
REFUSED_PAUSE_S: Final = 2.0
#: How long what Celery tells Flower of tasks is gathered before it is sent. Unit: s.
GATHER_S: Final = 0.1
#: The longest id of a task and name of a sender. Unit: characters.
_LONGEST_NAME: Final = 255


def oddity(message: Any) -> str | None:
    """Why a message is no bell, as a word to count it under; ``None``: it is one."""
    headers = message.headers
    if not isinstance(headers, dict) or not isinstance(headers.get("task"), str):
        return "no_bell"
    if headers["task"] != PUSH_TASK:
        return "unknown_task"
    if message.content_type != "application/json" or message.content_encoding != "utf-8":
        return "content_type"
    body = message.body
    if not isinstance(body, str | bytes) or len(body) > LONGEST_BELL:
        return "too_long"
    named = all(_is_name(headers.get(key)) for key in ("id", "origin"))
    place = message.delivery_info
    whole = (
        isinstance(place, dict) and "exchange" in place and isinstance(message.delivery_tag, str)
    )
    # Celery puts a message that names a time aside until then, in the worker's memory.
    waits = headers.get("eta") is not None or headers.get("expires") is not None
    return None if named and whole and not waits and _is_body(body) else "no_bell"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _is_body(body: str | bytes) -> bool:
    """Whether it has two texts for arguments, and nothing that is to follow."""
    try:
        args, kwargs, embed = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        return False
    return (
        isinstance(args, list)
        and [type(one) for one in args] == [str, str]
        and kwargs == {}
        and isinstance(embed, dict)
        and not any(embed.values())
    )


def cleared(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers of a bell, of which only the names are the sender's."""
    shown = headers.get("argsrepr")
    return {
        "lang": "py",
        "task": PUSH_TASK,
        "id": headers["id"],
        "root_id": headers["id"],
        "parent_id": None,
        "origin": headers["origin"],
        "argsrepr": shown[:_LONGEST_NAME] if isinstance(shown, str) else "",
        "kwargsrepr": "{}",
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "ignore_result": True,
    }


class BellConsumer(Consumer):
    """Celery's consumer, which hears of bells alone."""

    #: When what was gathered is to be sent, at the latest; monotonic. Unit: s.
    _flush_by = 0.0

    def on_send_event_buffered(self) -> None:
        """Something was gathered for Flower; called from any thread.

        Celery would send it with the next turn of its loop: a message for each state of each task.
        """
        now = time.monotonic()
        # A timer can be lost with its connection; then the next event sets another.
        if self.hub is None or now < self._flush_by + GATHER_S:
            return
        self._flush_by = now + GATHER_S
        self.hub.call_soon(self.hub.call_later, GATHER_S, self._flush_gathered)

    def _flush_gathered(self) -> None:
        self._flush_by = 0.0
        self._flush_events()

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """What is called with each message."""
        handle = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            odd = oddity(message)
            if odd is None:
                message.headers = cleared(message.headers)
                handle(message)
                return
            logger.warning("a message that is no bell was dropped: %s", odd)
            message.ack_log_error(logger, self.connection_errors)
            runtime_of(self.app).refused(odd)

        return on_message

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Say so."""
        super().on_connection_error_before_connected(exc)
        self._pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Say so, and let go of the connection."""
        super().on_connection_error_after_connected(exc)
        self._pause(exc)

    def _pause(self, error: Exception) -> None:
        # What Redis refuses now it would refuse again at once.
        if isinstance(error, redis.ResponseError):
            runtime_of(self.app).draining.wait(REFUSED_PAUSE_S)
