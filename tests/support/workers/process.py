"""Workers as subprocesses, and all that one test's fleet shares."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import Server, eventually
from transship import Client, Job, JobRecord, State, Step
from transship.ledger.keys import Keys
from transship_config.settings import Settings

_numbers = itertools.count()

#: Short times, so that tests see leases end and retries come. Units: s.
QUICK = {
    "TRANSSHIP_LEASE": "3",
    "TRANSSHIP_REAP": "0.3",
    "TRANSSHIP_BACKOFF": "0.5",
    "TRANSSHIP_GRACE": "1",
}


class Site:
    """One test's fleet: a namespace in a Redis, an engine, a catalogue, and its workers."""

    def __init__(self, folder: Path, redis_url: str, docker_url: str, **settings: str) -> None:
        self.folder = folder
        self.catalog = folder / "catalog.yaml"
        self.namespace = f"site{os.getpid()}-{next(_numbers)}"
        self.keys = Keys(self.namespace)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DOCKER_HOST": docker_url,
            "TRANSSHIP_URL": redis_url,
            "TRANSSHIP_NAMESPACE": self.namespace,
            "TRANSSHIP_CATALOG": str(self.catalog),
            "PYTHONUNBUFFERED": "1",
            **QUICK,
            **settings,
        }
        self.write_catalog({})
        self.client = Client(settings=Settings.from_environment(self.environment))
        self.workers: list[WorkerProcess] = []

    def write_catalog(self, registries: Mapping[str, Any], **more: Any) -> None:
        """Replace the catalogue; JSON is YAML too."""
        self.catalog.write_text(json.dumps({"registries": dict(registries), **more}, indent=2))
        self.catalog.chmod(0o600)

    def start_worker(self, *arguments: str, **environment: str) -> WorkerProcess:
        """Start a worker and return once producers see it."""
        worker = WorkerProcess(self, arguments, environment)
        self.workers.append(worker)
        worker.start()
        return worker

    def run(
        self, *arguments: str, timeout: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user of this fleet would."""
        return subprocess.run(
            [sys.executable, "-m", "transship", *arguments],
            env=self.environment | environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def close(self) -> None:
        """Stop the workers and close the client."""
        for worker in self.workers:
            worker.close()
        self.client.close()


class WorkerProcess(Server):
    """``transship worker`` as a child, with a process group of its own."""

    title = "transship worker"

    def __init__(
        self, site: Site, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._site = site
        self._arguments = arguments
        self._environment = {**site.environment, **environment}

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "transship", "worker", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def answers(self) -> bool:
        return any(w.name == self.name for w in self._site.client.fleet().workers)

    @property
    def name(self) -> str:
        """As Celery, Flower and the ledger call it."""
        import socket

        return f"transship@{socket.gethostname()}.{self.pid}"

    def end(self, number: int, *, within: float = 30) -> int:
        """Send a signal and return the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(within)


def reaches(job: Job, state: State, *, within: float = 60) -> JobRecord:
    """Wait until a job is in a state, and return its record."""

    def look() -> JobRecord | None:
        record = job.record()
        return record if record.state is state else None

    found = eventually(look, within=within, what=f"state {state}; {job.record()}")
    assert found is not None
    return found


def moves(job: Job, *, within: float = 60) -> JobRecord:
    """Wait until some bytes of a job's push are on their way."""

    def look() -> JobRecord | None:
        record = job.record()
        busy = record.step is Step.PUSHING and record.progress.bytes_done > 0
        return record if busy else None

    found = eventually(look, within=within, what="a moving push")
    assert found is not None
    return found
