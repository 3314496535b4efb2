"""Worker processes that start in a moment, altered where a test says so.

One process has imported all that a worker needs, and forks a child for each worker. Before the
child becomes ``transship worker`` it may call a function that replaces parts of the product, so
that nothing in the product itself knows of tests.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Self

from tests.support.processes import POLL_S
from tests.support.repository import ROOT
from tests.support.workers.process import Site, WorkerProcess

#: All that a worker imports, but the application: that reads the settings.
_IMPORTED = (
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.concurrency.thread",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "kombu.transport.redis",
    "transship.cli",
    "transship_worker.process.background",
    "transship_worker.cli.worker",
    "transship_worker.flavors.default",
    "transship_worker.process.runtime",
)


class Nursery:
    """The process that forks; use it as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            start_new_session=True,
        )

    def fork(self, words: Sequence[str], environment: Mapping[str, str], log: str) -> int:
        """Start ``transship WORDS`` and return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"words": list(words), "environment": dict(environment), "log": log}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


class Forked:
    """A forked process, as far as tests use those of ``subprocess``; its status is not known."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """``None`` while it lives."""
        if self.returncode is None:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                self.returncode = 0
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        end = time.monotonic() + timeout if timeout is not None else None
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("transship", timeout or 0)
            time.sleep(POLL_S)
        return 0


class NurseryWorker(WorkerProcess):
    """``transship worker``, forked; ``change`` (``module:function``) is called in it first."""

    def __init__(
        self,
        nursery: Nursery,
        site: Site,
        arguments: Sequence[str] = (),
        *,
        change: str = "",
        **environment: str,
    ) -> None:
        super().__init__(site, arguments, {"TEST_CHANGE": change, **environment})
        self._nursery = nursery
        site.workers.append(self)

    def launch(self) -> None:
        """Start it and do not wait until it is seen: it may be dead by then."""
        with self.log.open("ab") as log:
            self._process = self.spawn(log)

    def spawn(self, log: IO[bytes]) -> Any:
        words = ["worker", *self._arguments]
        return Forked(self._nursery.fork(words, self.environment(), log.name))


def _serve() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    # Nobody waits for the children: the system buries them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(order: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for end, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(end, number)
    os.environ.clear()
    os.environ.update(order["environment"])
    try:
        if change := os.environ.get("TEST_CHANGE"):
            module, _, name = change.partition(":")
            getattr(importlib.import_module(module), name)()
        from transship.cli import main

        status = main(order["words"])
    except SystemExit as end:
        status = int(end.code or 0)
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
