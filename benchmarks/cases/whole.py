"""Whole processes: commands from start to end, and what a worker takes while it waits."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks import peers, processes
from benchmarks.bare import BareWorker
from benchmarks.fleet import REDIS, Fleet
from benchmarks.measure import OURS, Case, Limit, Pair, Side, Wanted
from benchmarks.servers import Ground
from tests.support.images.corpus import MIB
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer

CELERY_HELP: Final = "celery --help"
SCRIPT: Final = "five-line script"
CELERY_WORKER: Final = "celery worker"
_URI: Final = "registry.example.com/bench"

#: What a pipeline would write that knows Celery only.
_SCRIPT: Final = """\
from celery import Celery
app = Celery("pipeline", broker="{broker}")
@app.task
def push(image): pass
push.apply_async(("registry.example.com/bench/app:v1",))
"""


def _installed(name: str) -> str:
    """A program beside this interpreter."""
    return str(Path(sys.executable).parent / name)


class _Commands(Case):
    """A figure is the median of several runs, as one is soon over."""

    programs: Sequence[str] = ()

    def repeated(self, ground: Ground, run: Callable[[], float]) -> Callable[[int], float]:
        """Once before all, so that every file was read and compiled before."""
        run()
        times = ground.choose(10, 1)
        return lambda _: statistics.median(run() for _ in range(times))


class Help(_Commands):
    """What each use of the command line waits for first."""

    name = "cli-help"
    title = "`transship --help` as a whole process, the median of 10"
    limits = MappingProxyType({CELERY_HELP: Limit(1.0)})

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - nothing is used up
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Both as they are installed here."""

        def side(name: str, program: str) -> Side:
            words = [_installed(program), "--help"]
            return Side(name, self.repeated(ground, lambda: peers.timed(words)))

        yield [
            *([side(OURS, "transship")] if wanted.ours else []),
            *([side(CELERY_HELP, "celery")] if wanted.peers else []),
        ]


class CliPush(_Commands):
    """From a shell to the queue."""

    name = "cli-push"
    title = "`transship push` without waiting, as a whole process, the median of 10"
    limits = MappingProxyType({SCRIPT: Limit(1.6)})
    programs = ("redis-server",)

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - nothing is used up
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Into the queue of a fleet, and of a bare Redis; nobody takes the jobs."""
        numbers = iter(range(1_000_000))
        with ExitStack() as stack:
            sides = []
            if wanted.ours:
                component = {"flavor": "default", "uri": _URI}
                fleet = stack.enter_context(Fleet({"bench": component}))
                environment = fleet.site.environment

                def push() -> float:
                    # Another image each time: an equal push that is queued would be found.
                    words = [_installed("transship"), "push", f"{_URI}/app:v{next(numbers)}"]
                    return peers.timed(words, environment)

                sides.append(Side(OURS, self.repeated(ground, push)))
            if wanted.peers:
                redis = stack.enter_context(RedisServer(arguments=REDIS))
                script = redis.folder / "script.py"
                script.write_text(_SCRIPT.format(broker=redis.url))

                def send() -> float:
                    return peers.timed([sys.executable, str(script)])

                sides.append(Side(SCRIPT, self.repeated(ground, send)))
            yield sides


class Idle(Case):
    """What is resident; pages that processes share are counted in each."""

    name = "idle"
    title = "memory of a worker that waits, and of processes that only import"
    unit = "MiB"
    rounds = 1
    programs = ("redis-server", "dockerd")
    root = True

    @contextmanager
    def sides(
        self,
        ground: Ground,  # noqa: ARG002 - no registry is needed
        rounds: int,  # noqa: ARG002 - each makes its own
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """A fresh process each."""
        ours = [
            Side(OURS, lambda _: _worker(with_engine=True)),
            Side(f"{OURS}, without an engine", lambda _: _worker(with_engine=False)),
            Side(f"{OURS}, import transship", lambda _: _importing("transship")),
            Side(f"{OURS}, a Client", lambda _: _importing("transship.client")),
        ]
        peer = [
            Side(CELERY_WORKER, lambda _: _celery_worker()),
            Side("import celery", lambda _: _importing("celery.app.base")),
            Side("bare Python", lambda _: _importing("sys")),
        ]
        yield [*(ours if wanted.ours else []), *(peer if wanted.peers else [])]

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """A worker beside a worker."""
        return [Pair(CELERY_WORKER)] if {OURS, CELERY_WORKER} <= set(names) else []


def _worker(*, with_engine: bool) -> float:
    component = {"flavor": "default", "uri": _URI}
    with ExitStack() as stack:
        engine = stack.enter_context(DockerDaemon()) if with_engine else None
        fleet = stack.enter_context(Fleet({"bench": component}, engine=engine))
        return processes.resident(fleet.worker.pid) / MIB


def _celery_worker() -> float:
    with RedisServer(arguments=REDIS) as redis, BareWorker(redis.url, 4) as worker:
        return processes.resident(worker.pid) / MIB


def _importing(module: str) -> float:
    """A process that imports a module and waits. Unit: MiB."""
    code = f"import {module}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n", f"import {module} failed"
        found = processes.resident(process.pid)
        process.communicate("\n")
    return found / MIB
