"""One consumer for each lane, which takes a message only while its lane has a free slot.

Celery gives a worker one consumer for all its queues. Here each class of queues has a
consumer on a channel of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

from celery import bootsteps
from celery.worker.request import Request

from transship_config.celery_settings import queue
from transship_worker.broker.channels import close, gate, survive, take_for_good
from transship_worker.broker.slots import Lane
from transship_worker.broker.worker_runtime import WorkerRuntime, runtime_of

logger = logging.getLogger("transship.worker")


class BellRequest(Request):
    """A request that wakes the loop when it ends, so that its slot is filled at once.

    Without that the loop sees the free slot only when its next timer fires.
    """

    def acknowledge(self) -> None:
        """Its message was taken for good: the loop is not woken for nothing."""
        self.acknowledged = True

    def __init_subclass__(cls) -> None:
        """Celery makes a class of its own for each task, with other ends than this one's."""
        super().__init_subclass__()
        ends: Any = cls
        ends.on_success, ends.on_failure = _waking(ends.on_success), _waking(ends.on_failure)


def _waking(end: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(end)
    def end_and_wake(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return end(self, *args, **kwargs)
        finally:
            runtime_of(self._app).waker.wake()

    return end_and_wake


class SlotsStep(bootsteps.StartStopStep):
    """Worker step: gate the interactive queues, and consume the other lanes beside them."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._consumers: list[Any] = []

    def start(self, parent: Any) -> None:
        """Open the channels; called again after each reconnection."""
        runtime = runtime_of(parent.app)
        slots = runtime.slots
        gate(parent.task_consumer.channel, partial(slots.free, Lane.PUSH), runtime.rest)
        survive(parent.task_consumer.channel, runtime.refused)
        take_for_good(parent.task_consumer)
        if parent.hub is not None:
            runtime.waker.listen(parent.hub)
        for lane, queues in runtime.queues.items():
            if slots.limits[lane] and lane is not Lane.PUSH:
                self._consumers.append(self._consume(parent, runtime, lane, queues))

    def _consume(
        self, parent: Any, runtime: WorkerRuntime, lane: Lane, queues: Sequence[str]
    ) -> Any:
        slots = runtime.slots
        channel = parent.connection.channel()
        consumer = parent.app.amqp.TaskConsumer(channel, queues=[queue(name) for name in queues])
        gate(channel, partial(slots.free, lane), runtime.rest)
        survive(channel, runtime.refused)
        take_for_good(consumer)
        handle = parent.create_task_handler()

        def on_message(message: Any) -> None:
            handle(message)
            if isinstance(message.headers, dict):
                slots.took(lane, str(message.headers.get("id")))

        consumer.on_message = on_message
        consumer.consume()
        return consumer

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's hook
        """Take no more bells of these lanes, and close the channels."""
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            # Also of a connection that broke, and after one that cannot be cancelled, else sockets
            # stay: each gets a new channel.
            for end in (consumer.cancel, partial(close, consumer.channel)):
                try:
                    end()
                except Exception as error:  # noqa: BLE001 - kombu, on what is broken already
                    logger.debug("a lane's channel did not end in order: %r", error)

    def shutdown(self, parent: Any) -> None:
        """The same, at the worker's end; what was gathered for Flower by then is sent."""
        if parent.event_dispatcher is not None:
            try:
                parent.event_dispatcher.flush()
            except Exception as error:  # noqa: BLE001 - kombu, where Redis went away meanwhile
                logger.debug("Flower does not hear of the last jobs: %r", error)
        self.stop(parent)
