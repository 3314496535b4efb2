"""What a case works on: an engine, registries, a fleet with one worker, and its pushes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import docker

from tests.matrix.engines.checks import expect
from tests.matrix.engines.start import Engine
from tests.support.engines.kinds import EngineKind
from tests.support.processes import eventually
from tests.support.proxies.delay import DelayProxy
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from transship import JobRecord, State

USER: Final = "pusher"
PASSWORD: Final = "correct horse battery staple"
WRONG: Final = "hunter2-is-wrong"
#: What the worker knows; a catalog names the variables.
PASSWORDS: Final = {"LAB_PASSWORD": PASSWORD, "LAB_WRONG": WRONG}
#: No push may take longer. Unit: s.
PUSH_S: Final = 600
#: No other command may take longer. Unit: s.
COMMAND_S: Final = 120
#: A lease that a busy machine does not lose: no attempt more than the case needs. Unit: s.
_CALM: Final = {"TRANSSHIP_LEASE": "30"}
_numbers = itertools.count()


class Skipped(Exception):
    """The case cannot be run on this engine; the message says why."""


@contextmanager
def fleet(engine: Engine, redis_url: str, folder: Path) -> Iterator[Site]:
    """A fleet with one worker on an engine."""
    site = Site(folder, redis_url, engine.url, **_CALM)
    try:
        site.start_worker(**PASSWORDS)
        yield site
    finally:
        site.close()


class Ground:
    """One case's own registries, on an engine and a fleet that all cases of the engine share."""

    def __init__(self, kind: EngineKind, engine: Engine, site: Site) -> None:
        self.kind = kind
        self.engine = engine
        #: The fleet, which has one worker.
        self.site = site
        #: Where the case's component is.
        self.uri = ""
        #: A remark for the log of a case that passed, such as which outcome was seen.
        self.notes: list[str] = []
        self._component = ""
        self._stack = ExitStack()
        self.client: docker.DockerClient = docker.DockerClient(
            base_url=engine.url, version="auto", timeout=300
        )
        self._stack.callback(self.client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def registry(self, *, users: Mapping[str, str] | None = None) -> Registry:
        """A registry of its own."""
        return self._stack.enter_context(Registry(users=users))

    def slow(self, registry: Registry, bytes_per_second: float) -> DelayProxy:
        """A slow connection to a registry."""
        proxy = DelayProxy(registry.port, round_trip_s=0.0, rate=bytes_per_second)
        return self._stack.enter_context(proxy)

    def publish(self, uri: str, *, password: str = "") -> str:
        """Let the worker's only component be at ``uri``, with this login; the component's name."""
        self._component, self.uri = f"lab{next(_numbers)}", uri
        component: dict[str, Any] = {"flavor": "default", "uri": uri}
        if password:
            variable = next(name for name, value in PASSWORDS.items() if value == password)
            component |= {"username": USER, "password": {"env": variable}}
        self.site.write_catalog({self._component: component})
        if not self.site.workers[-1].running:
            self.site.start_worker(**PASSWORDS)
        eventually(
            lambda: self._component in [c.name for c in self.site.client.fleet().components],
            what=f"component {self._component}",
        )
        return self._component

    def push(self, name: str, *options: str) -> JobRecord:
        """``transship push --wait``; the job's record, whether it succeeded or failed."""
        words = ["push", name, "--registry", self._component, "--wait", "--json", *options]
        done = self.site.run(*words, timeout=PUSH_S)
        lines = done.stdout.splitlines()
        expect(lines, f"transship push: status {done.returncode}: {done.stderr.strip()[-300:]}")
        record = JobRecord.model_validate_json(lines[-1])
        expect(
            done.returncode == (0 if record.state is State.SUCCEEDED else 1),
            f"transship push --wait ended with status {done.returncode}, the job {record.state}",
        )
        return record

    def submit(self, name: str, *options: str) -> str:
        """``transship push`` without a wait; the job's ID."""
        words = ["push", name, "--registry", self._component, "-q", *options]
        done = self.site.run(*words, timeout=COMMAND_S)
        expect(done.returncode == 0, f"transship push: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    def record(self, job_id: str) -> JobRecord:
        """The job's record now."""
        return self.site.client.job(job_id).record()

    def ended(self, job_id: str) -> JobRecord:
        """The job's record at its end."""

        def look() -> JobRecord | None:
            record = self.record(job_id)
            return record if record.state.final else None

        found = eventually(look, within=PUSH_S, what=f"the end of {self.record(job_id)}")
        assert found is not None
        return found

    def uploading(self, registry: Registry, repository: str) -> None:
        """Wait until a part of a layer has arrived at a registry."""
        uploads = registry.data / "docker/registry/v2/repositories" / repository / "_uploads"

        def look() -> bool:
            return any(_size(data) > 0 for data in uploads.glob("*/data"))

        eventually(look, within=COMMAND_S, what=f"an upload to {repository}")

    def log(self) -> str:
        """The ends of the logs of the worker and of the engine."""
        texts = [worker.log_text()[-6000:] for worker in self.site.workers[-1:]]
        return "\n".join([*self.notes, *texts, "--- engine", self.engine.log_text()[-6000:]])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # The registry moves an upload away when it is complete.
        return 0
