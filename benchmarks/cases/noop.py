"""Jobs that do nothing: what the queue, the claim and the end of a job cost.

Ours is a push by a custom flavor that sends nothing (benchmarks/noop.py): the worker claims,
asks its Docker Engine which image is meant, and ends the job in the ledger.
The peer is a bare Celery task. Both note the time in a file.
"""

from __future__ import annotations

import statistics
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks import images
from benchmarks.bare import BareWorker
from benchmarks.fleet import REDIS, Fleet
from benchmarks.images import MadeTar
from benchmarks.marks import Marks, watch
from benchmarks.measure import OURS, Case, Figure, Kind, Limit, Side, Wanted
from benchmarks.servers import Ground
from tests.support.images.corpus import KIB, Layer
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from transship import Push

CELERY_TASK: Final = "Celery task"
#: Slots of each side's worker: a worker's own default for interactive pushes.
_SLOTS: Final = 4
#: The component's URI. No registry is there, and none is asked.
_URI: Final = "registry.example.com/bench"
#: Pause before a job that comes to a worker with nothing to do. Unit: s.
_QUIET_S: Final = 0.02


class _Ours:
    """A fleet with the flavor, and an engine with one image."""

    def __init__(self, stack: ExitStack) -> None:
        engine = stack.enter_context(DockerDaemon())
        with closing(engine.client()) as client:
            self.image = images.load(client, [MadeTar(Layer("noop", 4 * KIB))], "noop")
        component = {"flavor": "bench-nothing", "uri": _URI, "marks": str(engine.folder / "marks")}
        self.marks = Marks(engine.folder / "marks")
        sections = {
            "flavor_paths": [str(Path(__file__).parents[2])],
            "flavors": ["benchmarks.noop.NothingRegistry"],
        }
        self.fleet = stack.enter_context(
            Fleet({"nothing": component}, engine=engine, sections=sections)
        )
        self.one("warm")

    def name(self, what: str) -> str:
        return f"{_URI}/app:{what}"

    def one(self, what: str) -> tuple[float, float]:
        """Submit one job to a worker that waits; until it is claimed, and at work. Unit: ms."""
        begin = time.time()
        record = self.fleet.client.push(self.name(what), source=self.image).wait()
        assert record.started_at is not None
        at_work = self.marks.read()[self.name(what)] / 1e9
        # The ledger's clock shows whole milliseconds, rounded down: on average half of one is lost.
        return (_epoch(record.started_at) - begin) * 1e3 + 0.5, (at_work - begin) * 1e3

    def many(self, round_: int, count: int) -> float:
        """Jobs a second of a worker that finds so many in its queue."""
        pushes = [Push(self.name(f"r{round_}-{n}"), source=self.image) for n in range(count)]
        self.fleet.worker.freeze()
        jobs = self.fleet.client.push_many(pushes)
        length = self.marks.size()
        begin = time.perf_counter()
        self.fleet.worker.thaw()
        lines = sum(len(f"{push.image} {time.time_ns()}\n") for push in pushes)
        watch(lambda: self.marks.size() >= length + lines, within=600)
        # The last ones are at work: from here on it may be asked closely how they end.
        watch(lambda: all(one.state.final for one in self.fleet.client.records(jobs)))
        return count / (time.perf_counter() - begin)


class _Bare:
    """A Redis and a Celery worker."""

    def __init__(self, stack: ExitStack) -> None:
        redis = stack.enter_context(RedisServer(arguments=REDIS))
        self.worker = stack.enter_context(BareWorker(redis.url, _SLOTS))

    def one(self, what: str) -> float:
        """Send one task to a worker that waits; until it is at work. Unit: ms."""
        marks, length = self.worker.marks, self.worker.marks.size()
        begin = time.time()
        self.worker.nothing.apply_async((what,))
        # Seldom: the mark has the time, and who looks takes time from the worker.
        watch(lambda: marks.size() > length, every=_QUIET_S)
        return (marks.read()[what] / 1e9 - begin) * 1e3

    def many(self, round_: int, count: int) -> float:
        """Tasks a second of a worker that finds so many in its queue."""
        names = [f"r{round_}-{n}" for n in range(count)]
        self.worker.freeze()
        for name in names:
            self.worker.nothing.apply_async((name,))
        length = self.worker.marks.size()
        begin = time.perf_counter()
        self.worker.thaw()
        lines = sum(len(f"{name} {time.time_ns()}\n") for name in names)
        watch(lambda: self.worker.marks.size() >= length + lines, within=600)
        return count / (time.perf_counter() - begin)


class _NoOp(Case):
    """Both sides' workers stand through all rounds; one waits while the other works."""

    programs = ("redis-server", "dockerd")
    root = True

    @abstractmethod
    def ours(self, ours: _Ours, round_: int, ground: Ground) -> float | Figure:
        """Our figure of one round."""

    @abstractmethod
    def bare(self, bare: _Bare, round_: int, ground: Ground) -> float | Figure:
        """The peer's."""

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - all rounds have the same workers
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Start them."""
        with ExitStack() as stack:
            sides = []
            if wanted.ours:
                ours = _Ours(stack)
                sides.append(Side(OURS, lambda number: self.ours(ours, number, ground)))
            if wanted.peers:
                bare = _Bare(stack)
                sides.append(Side(CELERY_TASK, lambda number: self.bare(bare, number, ground)))
            yield sides


class NoOpLatency(_NoOp):
    """One job at a time, each to a worker that waits for it."""

    name = "noop"
    title = "a job that does nothing, from submit to start: the median of 200"
    unit = "ms"
    limits = MappingProxyType({CELERY_TASK: Limit(1.5)})

    def ours(self, ours: _Ours, round_: int, ground: Ground) -> Figure:
        """Until the claim; the flavor's own code begins after the engine was asked."""
        claimed, at_work = [], []
        for number in range(_samples(ground)):
            time.sleep(_QUIET_S)
            found = ours.one(f"s{round_}-{number}")
            claimed.append(found[0])
            at_work.append(found[1])
        beside = {"p99 ms": _p99(claimed), "until the flavor's code ms": statistics.median(at_work)}
        return Figure(statistics.median(claimed), beside)

    def bare(self, bare: _Bare, round_: int, ground: Ground) -> Figure:
        """Until the task's code."""
        found = []
        for number in range(_samples(ground)):
            time.sleep(_QUIET_S)
            found.append(bare.one(f"s{round_}-{number}"))
        return Figure(statistics.median(found), {"p99 ms": _p99(found)})


class NoOpRate(_NoOp):
    """A worker with a full queue."""

    name = "noop-rate"
    title = "jobs that do nothing, by one worker with 4 slots that finds 2,000 in its queue"
    unit = "jobs/s"
    limits = MappingProxyType({CELERY_TASK: Limit(0.6, Kind.AT_LEAST)})

    def ours(self, ours: _Ours, round_: int, ground: Ground) -> float:
        """Until the last job is final in the ledger."""
        return ours.many(round_, ground.choose(2000, 20))

    def bare(self, bare: _Bare, round_: int, ground: Ground) -> float:
        """Until the last task's code."""
        return bare.many(round_, ground.choose(2000, 20))


def _samples(ground: Ground) -> int:
    return ground.choose(200, 5)


def _p99(figures: list[float]) -> float:
    return sorted(figures)[round(0.99 * (len(figures) - 1))]


def _epoch(moment: datetime) -> float:
    return moment.timestamp()
