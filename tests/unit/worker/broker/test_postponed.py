"""A postponed job: what Celery makes of its error does not stay."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import _Code

from transship_config.celery_settings import PUSH_TASK
from transship_config.settings import Settings
from transship_worker.broker import application
from transship_worker.broker.application import create_app
from transship_worker.jobs.runner import JobPostponed


def postpone(job: str) -> str:
    raise JobPostponed("the registry is paused", 5.0)


def test_celerys_copy_of_a_postponed_jobs_traceback_is_dropped_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not by the garbage collector only: it holds 2,000 code positions of Celery's own frame."""
    runtime = SimpleNamespace(runner=SimpleNamespace(answer=postpone))
    monkeypatch.setattr(application, "runtime_of", lambda _: runtime)
    app = create_app(Settings.from_environment({"TRANSSHIP_URL": "redis://127.0.0.1/0"}))
    task: Any = app.tasks[PUSH_TASK]
    gc.collect()
    gc.disable()
    try:
        states = {task.apply(args=["job", "image"]).state for _ in range(3)}
        copies = sum(type(one) is _Code for one in gc.get_objects())
    finally:
        gc.enable()
    assert states == {"RETRY"}
    assert copies == 0
