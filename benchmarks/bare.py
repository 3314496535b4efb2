"""A Celery application with nothing of Transship in it: what a queue costs by itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from celery import Celery

from benchmarks.marks import Marks
from tests.support.processes import Server

#: How the application of a worker's process learns where its broker and its marks are.
BROKER, MARKS = "BENCH_BROKER", "BENCH_MARKS"
#: The task that a worker answers when it is ready.
READY: Final = "ready"


def make_app(broker: str) -> Any:
    """An application as a tutorial has it, which keeps no results."""
    made = Celery("bare", broker=broker, set_as_current=False)
    made.conf.task_ignore_result = True
    made.conf.broker_connection_retry_on_startup = True
    made.task(_nothing, name="nothing", shared=False)
    return made


def _nothing(name: str) -> None:
    """Do nothing, and note when."""
    if path := os.environ.get(MARKS):
        Marks(Path(path)).add(name)


app = make_app(os.environ.get(BROKER, "redis://"))


class BareWorker(Server):
    """``celery worker`` with the application above, threads and so many slots."""

    title = "celery worker"

    def __init__(self, broker: str, slots: int) -> None:
        super().__init__()
        self.marks = Marks(self.folder / "marks")
        self.nothing = make_app(broker).tasks["nothing"]
        self._broker = broker
        self._slots = slots
        self._rung = False

    def command(self) -> Sequence[str]:
        """As its own documents start one for a thread pool."""
        words = [sys.executable, "-m", "celery", "-A", "benchmarks.bare", "worker"]
        words += ["--pool", "threads", "--concurrency", str(self._slots), "--loglevel", "WARNING"]
        return [*words, "--without-mingle", "--without-gossip"]

    def environment(self) -> Mapping[str, str]:
        """Where things are."""
        own = {BROKER: self._broker, MARKS: str(self.marks.path)}
        return {**os.environ, **own, "PYTHONPATH": str(Path(__file__).parents[1])}

    def answers(self) -> bool:
        """Whether it ran its first task."""
        if not self._rung:
            self._rung = True
            self.nothing.apply_async((READY,))
        return READY in self.marks.read()
