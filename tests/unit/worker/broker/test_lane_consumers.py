"""What Celery's requests and steps do here beyond what Celery has them do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.app.trace import ExceptionInfo
from celery.worker.request import create_request_cls
from kombu.asynchronous import Hub
from kombu.message import Message

from transship_config.celery_settings import PUSH_TASK
from transship_config.settings import Settings
from transship_worker.broker.application import create_app
from transship_worker.broker.lane_consumers import BellRequest, SlotsStep
from transship_worker.broker.messages import BellConsumer
from transship_worker.concurrency.waker import Waker
from transship_worker.jobs.runner import JobFailure

HEADERS = {"id": "a.1", "task": PUSH_TASK, "timelimit": [None, None]}


def made(waker: Waker, acknowledged: list[int] | None = None) -> Any:
    """A request of the class that Celery makes for the task."""
    app = create_app(Settings.from_environment({"TRANSSHIP_URL": "redis://127.0.0.1/0"}))
    app.transship = SimpleNamespace(waker=waker)
    task = app.tasks[PUSH_TASK]
    pool = SimpleNamespace(apply_async=lambda *_: None)
    message = Message(
        body=b'[["a", "a"], {}, {}]',
        headers=HEADERS,
        content_type="application/json",
        content_encoding="utf-8",
    )
    return create_request_cls(BellRequest, task, pool, "here", None, app=app)(
        message,
        app=app,
        task=task,
        on_ack=lambda *_: (acknowledged if acknowledged is not None else []).append(1),
    )


class Woken(Waker):
    """A waker that counts how often it woke the event loop."""

    wake_ups = 0

    def _drain(self) -> None:
        self.wake_ups += 1
        super()._drain()


def failed() -> ExceptionInfo:
    try:
        raise JobFailure("denied: no")
    except JobFailure:
        return ExceptionInfo()


@pytest.mark.parametrize(
    "end",
    [
        lambda request: request.on_success((False, "done", 0.1)),
        lambda request: request.on_failure(failed()),
    ],
    ids=["success", "failure"],
)
def test_the_end_of_a_task_wakes_the_event_loop(end: Callable[[Any], object]) -> None:
    waker, hub = Woken(), Hub()
    waker.listen(hub)
    request = made(waker)

    thread = threading.Thread(target=end, args=(request,))
    thread.start()
    thread.join()
    hub.run_once()

    assert waker.wake_ups == 1
    hub.close()


def test_a_request_acknowledges_nothing() -> None:
    acknowledged: list[int] = []
    request = made(Waker(), acknowledged)

    request.acknowledge()

    assert request.acknowledged
    assert acknowledged == []


class Loop:
    """A hub that runs nothing by itself."""

    def __init__(self) -> None:
        self.soon: list[tuple[Any, ...]] = []

    def call_soon(self, *call: Any) -> None:
        self.soon.append(call)

    def call_later(self, delay_s: float, call: Any) -> None: ...


def test_events_of_a_moment_are_sent_together() -> None:
    consumer = BellConsumer.__new__(BellConsumer)
    consumer.hub = loop = Loop()
    sent: list[int] = []
    consumer._flush_events = lambda: sent.append(1)

    for _ in range(3):
        consumer.on_send_event_buffered()

    ((call_later, _delay_s, flush),) = loop.soon
    assert call_later == loop.call_later
    flush()
    assert sent == [1]


def test_the_last_events_are_sent_before_the_end() -> None:
    flushed: list[int] = []
    parent = SimpleNamespace(event_dispatcher=SimpleNamespace(flush=lambda: flushed.append(1)))

    SlotsStep(SimpleNamespace()).shutdown(parent)

    assert flushed == [1]
