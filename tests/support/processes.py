"""Child processes that serve: start, stop, kill, start again on the same port and data."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import pytest

#: Seconds that a server may take to answer, or to end; ``TEST_PATIENCE`` changes it on a busy
#: machine. Unit: s.
PATIENCE_S = float(os.environ.get("TEST_PATIENCE", "30"))
#: Pause between two looks at a condition. Unit: s.
POLL_S = 0.02

T = TypeVar("T")


def in_ci() -> bool:
    """Whether a missing part is a failure and not a reason to skip."""
    return os.environ.get("CI", "").lower() == "true"


def missing(what: str) -> None:
    """Skip the test that needs ``what``; in CI, fail it."""
    if in_ci():
        pytest.fail(f"{what}; CI=true, so nothing may be missing", pytrace=False)
    pytest.skip(what)


def program(*names: str) -> str:
    """Path of the first of these programs that is installed; skips (in CI: fails) without one."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for name in names:
        found = shutil.which(name, path=folders)
        if found:
            return found
    missing(f"{' or '.join(names)} is not installed")
    raise AssertionError("missing() returned")


def _ports() -> Iterator[int]:
    """Ports to try, by chance, over and over.

    They lie below those that kernels give to connections (from 32,768 on), so that none of these
    takes one between its choice and the server's start. Processes that run tests side by side
    have 2,000 each.
    """
    process = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    first = 12_000 + 2_000 * (int(process) % 10)
    while True:
        yield from random.sample(range(first, first + 2_000), 2_000)


_PORTS = _ports()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    for port in _PORTS:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports have no end")


def eventually(
    look: Callable[[], T], *, within: float = PATIENCE_S, what: str = "the condition"
) -> T:
    """Look again and again until the answer is true, and return it; fail after ``within`` s."""
    deadline = time.monotonic() + within
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {within:.0f} s; last seen: {answer!r}")
        time.sleep(POLL_S)


async def soon(
    look: Callable[[], Awaitable[T | None]],
    *,
    within: float = PATIENCE_S,
    what: str = "the condition",
) -> T:
    """Like ``eventually``, for coroutines: other tasks run between two looks."""
    deadline = time.monotonic() + within
    while not (answer := await look()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {within:.0f} s; last seen: {answer!r}")
        await asyncio.sleep(POLL_S)
    return answer


class Server(ABC):
    """One child process with a folder of its own; start() and stop() may alternate.

    As a context manager it is started and, at the end, closed: stopped, its folder deleted.
    """

    #: What it is called in failures.
    title = "server"

    def __init__(self) -> None:
        # Directly under /tmp: the path of a unix socket may have 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        # A test may stop it from a timer's thread and start it from its own.
        self._turn = threading.RLock()

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What is run; the process stays in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it can be used by now; ``False`` or an ``OSError`` means not yet."""

    def environment(self) -> Mapping[str, str]:
        """The child's environment."""
        return os.environ

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, f"{self.title} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and return once it answers."""
        with self._turn:
            return self._start()

    def spawn(self, log: IO[bytes]) -> Any:
        """Start the process; returns a ``subprocess.Popen`` or what can be used like one."""
        return subprocess.Popen(
            list(self.command()),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.folder,
            env=dict(self.environment()),
            start_new_session=True,
        )

    def _start(self) -> Self:
        assert not self.running, f"{self.title} runs already"
        with self.log.open("ab") as log:
            self._process = self.spawn(log)
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None:
                self._fail(f"ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                self.kill9()
                self._fail(f"did not answer within {PATIENCE_S:.0f} s")
            time.sleep(POLL_S)
        return self

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """SIGKILL, and wait for the end: what a crash or the memory killer does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: what was frozen goes on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> Self:
        """Stop it, if it runs, and start it again on the same port with the same data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> Self:
        if not self.running:
            try:
                self.start()
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        with self._turn:
            self._end_now(number)

    def _end_now(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            # A frozen process would keep SIGTERM pending.
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(PATIENCE_S)
        self._process = None

    def _fail(self, what: str) -> None:
        pytest.fail(f"{self.title} {what}; its log ends:\n{self.log_text()[-2000:]}", pytrace=False)
