"""Slots: interactive pushes have their own, and bulk work has its own.

Celery gives a worker one consumer for all its queues. Here each class of queues has a
consumer on a channel of its own, and each channel takes a message only while its class has a
free slot. So a hundred thousand bulk jobs wait in their queue, in Redis, while an
interactive push starts at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import MethodType
from typing import Any

from celery import bootsteps
from celery.worker import state
from celery.worker.request import Request

from longshore.connection import plain
from longshore_config.celery_settings import queue

logger = logging.getLogger("longshore.worker")


class Slots:
    """How many bells of each class a worker may hold. Used by the worker's main thread only."""

    def __init__(self, *, interactive: int, bulk: int) -> None:
        self.interactive = interactive
        self.bulk = bulk
        self._bulk_ids: set[str] = set()

    def took_bulk(self, task_id: str) -> None:
        """A bulk bell was taken from the broker."""
        if task_id in state.requests:
            self._bulk_ids.add(task_id)

    def bulk_free(self) -> bool:
        """Whether another bulk bell may be taken."""
        return self._bulk_taken() < self.bulk

    def interactive_free(self) -> bool:
        """Whether another interactive bell may be taken."""
        return len(state.reserved_requests) - self._bulk_taken() < self.interactive

    def _bulk_taken(self) -> int:
        # Celery drops a request from its table when the task ended, whatever way.
        self._bulk_ids = {task for task in self._bulk_ids if task in state.requests}
        return len(self._bulk_ids)


class Waker:
    """Wakes the worker's event loop from another thread or a signal handler."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def wake(self) -> None:
        """Make the loop turn once more, soon."""
        try:
            os.write(self._write, b".")
        except BlockingIOError:
            # The pipe is full of wake-ups that the loop has yet to see.
            return

    def listen(self, hub: Any) -> None:
        """Let a loop be woken by this."""
        hub.add_reader(self._read, self._drain)

    def _drain(self) -> None:
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return


class BellRequest(Request):
    """A request that wakes the loop when it ends, so that its slot is filled at once.

    Without that the loop sees the free slot only when its next timer fires.
    """

    def on_success(self, *args: Any, **kwargs: Any) -> Any:
        """The bell was answered."""
        try:
            return super().on_success(*args, **kwargs)
        finally:
            self._app.longshore.waker.wake()

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        """The bell was answered by an error, or by a postponement."""
        try:
            return super().on_failure(*args, **kwargs)
        finally:
            self._app.longshore.waker.wake()


def gate(channel: Any, free: Callable[[], bool]) -> None:
    """Let a channel take messages only while there is a free slot.

    This is what Celery's ``worker_disable_prefetch`` does for its one consumer: the transport
    asks its ``qos`` before each blocking pop.
    """
    original = channel.qos.can_consume

    def can_consume(_: Any) -> bool:
        return free() and bool(original())

    channel.qos.can_consume = MethodType(can_consume, channel.qos)


def survive(channel: Any) -> None:
    """Let a channel drop a message that cannot be read, instead of ending the worker.

    Any producer may put bytes into a queue. kombu decodes them in the worker's event loop,
    where an error is the end of the process; the message is gone from Redis by then.
    """
    original = channel.handlers["BRPOP"]

    def read(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            logger.warning("a message that is no bell was dropped: %s", plain(error))
            return None

    channel.handlers["BRPOP"] = read


class SlotsStep(bootsteps.StartStopStep):
    """Worker step: gate the interactive queues, and consume the bulk queues beside them."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._consumer: Any = None

    def start(self, parent: Any) -> None:
        """Open the bulk channel; called again after each reconnection."""
        runtime = parent.app.longshore
        slots = runtime.slots
        gate(parent.task_consumer.channel, slots.interactive_free)
        survive(parent.task_consumer.channel)
        if parent.hub is not None:
            runtime.waker.listen(parent.hub)
        if not slots.bulk:
            return
        channel = parent.connection.channel()
        self._consumer = parent.app.amqp.TaskConsumer(
            channel, queues=[queue(name) for name in runtime.bulk_queues]
        )
        gate(channel, slots.bulk_free)
        survive(channel)
        handle = parent.create_task_handler()

        def on_message(message: Any) -> None:
            handle(message)
            if isinstance(message.headers, dict):
                slots.took_bulk(str(message.headers.get("id")))

        self._consumer.on_message = on_message
        self._consumer.consume()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's hook
        """Take no more bulk bells, and close the channel."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            consumer.cancel()
        finally:
            # Also of a connection that broke, else its socket stays: each gets a new channel.
            consumer.channel.close()

    def shutdown(self, parent: Any) -> None:
        """The same, at the worker's end."""
        self.stop(parent)
