"""The ``transship`` command in tests: in this process, as a process, and on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger.bench import Bench
from tests.support.processes import eventually
from transship.cli import main
from transship.model.components import PublicComponent, WorkerView
from transship.model.jobs import JobId
from transship.model.push_request import PushRequest
from transship.model.records import ErrorInfo
from transship.model.references import ImageReference
from transship_config import __version__
from transship_worker.process.presence import Presence

COMMAND = [sys.executable, "-m", "transship"]
REPOSITORY = "registry.example.com/ml/train"
IMAGE = f"{REPOSITORY}:42"
DIGEST = "sha256:" + "a" * 64
DENIED = ErrorInfo(code="denied", message="no right to push", retryable=False)
PROD = PublicComponent(name="prod", flavor="default", uri="registry.example.com/ml")

#: Seconds that a command may take to end. Unit: s.
PATIENCE_S = 30


def publish(
    bench: Bench, name: str = "transship@host.1", *, queues: Any = (), **changes: object
) -> None:
    """A live worker, as far as producers can tell."""
    now = datetime.now(UTC)
    values: dict[str, object] = {
        "name": name,
        "engine": "build-7",
        "components": [PROD],
        "interactive_slots": 4,
        "bulk_slots": 2,
        "copy_slots": 8,
        "version": __version__,
        "started_at": now,
        "seen_at": now,
    }
    view = WorkerView.model_validate(values | changes)
    Presence(bench.redis, bench.keys, lambda: view, lambda: None, queues=queues).publish()


@dataclass
class Shell:
    """The command line in this process, on one namespace of the session's Redis."""

    bench: Bench
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of ``transship ARGUMENTS``."""
        status = main(arguments)
        out, err = self.capsys.readouterr()
        return status, out, err

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command that must succeed prints with ``--json``."""
        status, out, err = self.run(*arguments, "--json")
        assert (status, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    def publish(self, name: str = "transship@host.1", **changes: object) -> None:
        """A live worker, as far as producers can tell."""
        publish(self.bench, name, **changes)

    def submit(self, image: str = IMAGE, registry: str = "prod", **more: object) -> JobId:
        """A job that was queued just now."""
        request = PushRequest.model_validate(
            {"image": ImageReference.parse(image), "registry": registry, **more}
        )
        return self.bench.submit(request)


@dataclass
class Running:
    """One ``transship`` process whose output goes to files."""

    process: subprocess.Popen[bytes]
    out_file: Path
    err_file: Path

    @property
    def out(self) -> str:
        """What it printed so far."""
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        """What it said besides."""
        return self.err_file.read_text()

    def says(self, text: str) -> None:
        """Wait until stderr holds a text."""
        eventually(lambda: text in self.err or self.process.poll() is not None, what=text)
        assert text in self.err, self.err

    def ends(self) -> int:
        """Wait for the end; the exit status."""
        return self.process.wait(PATIENCE_S)


@dataclass
class Stage:
    """The command line as a process, and the test in the worker's place."""

    bench: Bench
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    #: Our ends of the terminals.
    leaders: list[int] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What the command sees."""
        return {
            **os.environ,
            "TRANSSHIP_URL": self.bench.url,
            "TRANSSHIP_NAMESPACE": self.bench.namespace,
            "TERM": "xterm-256color",
        }

    def start(self, *arguments: str) -> Running:
        """Start ``transship ARGUMENTS`` with piped output."""
        number = len(self.processes)
        out, err = self.folder / f"out{number}", self.folder / f"err{number}"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self.environment,
                start_new_session=True,
            )
        self.processes.append(process)
        return Running(process, out, err)

    def push(self, *tags: str, options: Sequence[str] = ()) -> Running:
        """Start a push of ``REPOSITORY:TAG`` that waits."""
        images = [f"{REPOSITORY}:{tag}" for tag in tags]
        return self.start("push", *images, "--registry", "prod", "--wait", *options)

    def job(self, tag: str) -> JobId:
        """The job for a tag, once it is queued."""

        def find() -> JobId | None:
            queued = self.bench.redis.zrange(self.bench.keys.queued("default"), 0, -1)
            for job in map(JobId, queued):
                if self.bench.record(job).image.endswith(f":{tag}"):
                    return job
            return None

        found = eventually(find, what=f"a job for {tag}")
        assert found is not None
        return found

    def succeed(self, tag: str) -> JobId:
        """Be the worker that pushes it."""
        job = self.job(tag)
        self.bench.succeed(self.bench.claimed(job), DIGEST)
        return job

    def fail(self, tag: str, error: ErrorInfo = DENIED) -> JobId:
        """Be the worker that cannot."""
        job = self.job(tag)
        self.bench.claims.fail(self.bench.claimed(job), error)
        return job


@contextmanager
def staging(url: str, folder: Path) -> Iterator[Stage]:
    """A stage on a Redis; what it started and still runs is ended with the block."""
    stage = Stage(Bench(url), folder)
    try:
        yield stage
    finally:
        for process in stage.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for leader in stage.leaders:
            os.close(leader)
        stage.bench.redis.close()


@dataclass
class Screen:
    """A process on a terminal of its own, and all that it wrote there."""

    process: subprocess.Popen[bytes]
    leader: int
    text: str = ""

    def shows(self, wanted: str) -> None:
        """Read until the terminal was sent a text."""
        eventually(lambda: self._read() or wanted in self.text, what=f"{wanted!r} on the screen")
        assert wanted in self.text, self.text

    def ends(self) -> int:
        """Read to the end; the exit status."""
        eventually(lambda: self._read() or self.process.poll() is not None, what="the end")
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bool:
        """Take what there is; ``False`` always, so that a poll goes on until its own condition."""
        ready, _, _ = select.select([self.leader], [], [], 0)
        if ready:
            try:
                self.text += os.read(self.leader, 65536).decode(errors="replace")
            except OSError:
                # The other end is closed: Linux says so with an error.
                return False
        return False


def on_terminal(
    stage: Stage,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    piped: bool = False,
) -> Screen:
    """Start ``transship`` on a terminal of 24 lines and 100 columns; ``piped``: all but stdout."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with (stage.folder / "piped").open("wb") as elsewhere:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=follower,
            stdout=elsewhere if piped else follower,
            stderr=follower,
            env={**stage.environment, **(environment or {})},
            start_new_session=True,
        )
    os.close(follower)
    stage.processes.append(process)
    stage.leaders.append(leader)
    return Screen(process, leader)
