"""How cost grows: each figure is a cost for a unit of work, so that an even line is a good one."""

from __future__ import annotations

import statistics
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import docker
import redis

from benchmarks import images, processes
from benchmarks.cases.migration import spec_of
from benchmarks.cases.plan import PEAK, both, planned, tags
from benchmarks.fleet import REDIS, Fleet
from benchmarks.images import MadeTar
from benchmarks.measure import OURS, Case, Figure, Pair, Side, Wanted
from benchmarks.servers import Ground
from tests.support.images.corpus import MIB, Layer, large_layers
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from transship import Client, Push
from transship.ledger.keys import Keys
from transship.model.jobs import JobId
from transship.model.requests import parse_request
from transship_config.settings import Settings
from transship_worker.jobs.claim_results import Answer
from transship_worker.jobs.claims import Claims

if TYPE_CHECKING:
    from transship.model.requests import Request

_URI = "registry.example.com/bench"
#: Jobs enqueued in one call.
_AT_ONCE = 10_000


class _Scale(Case):
    """The same work at several sizes; the smallest is what the others are compared with."""

    rounds = 1
    scale = True

    @abstractmethod
    def sizes(self, ground: Ground) -> Sequence[int]:
        """How much work."""

    @abstractmethod
    def cost(self, ground: Ground, size: int) -> float | Figure:
        """Do so much of it; what a unit of it cost."""

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - each size makes its own
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """A side for each size; nothing stands between them."""

        def side(size: int) -> Side:
            return Side(f"{OURS}, {size:,}", lambda _: self.cost(ground, size), at=size)

        yield [side(size) for size in self.sizes(ground)] if wanted.ours else []

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """The largest beside the smallest."""
        return [Pair(names[0], ours=names[-1])] if len(names) > 1 else []


class ScaleLedger(_Scale):
    """Jobs that wait, and what one more costs."""

    name = "scale-ledger"
    title = "jobs that wait in the ledger: submitting one more"
    unit = "ms/job"
    programs = ("redis-server",)

    def sizes(self, ground: Ground) -> Sequence[int]:
        """Jobs in the ledger."""
        return ground.choose((1_000, 10_000, 100_000), (20, 100))

    def cost(self, ground: Ground, size: int) -> Figure:
        """Fill a ledger, then submit, list and claim some more."""
        some = ground.choose(200, 5)
        with RedisServer(arguments=REDIS) as server:
            given = {"TRANSSHIP_URL": server.url, "TRANSSHIP_NAMESPACE": "bench"}
            settings = Settings.from_environment(given)
            with server.client() as plain, Client(settings=settings) as client:
                before = _used(plain)
                for start in range(0, size, _AT_ONCE):
                    client.push_many([_push(n) for n in range(start, min(size, start + _AT_ONCE))])
                memory = (_used(plain) - before) / size
                more = [f"{_URI}/app:more{number}" for number in range(some)]
                # Each call's own time, and the middle one. No worker is there to take any.
                submit = _each(more, lambda name: client.push(name, registry="bench"))
                listing = _each(range(10), lambda _: client.jobs(limit=50))
                claims = Claims(plain, Keys(settings.namespace), settings, "bench")
                newest = [JobId(record.id) for record in client.jobs(limit=some)]
                claim = _each([_asked(claims, job) for job in newest], _claiming(claims))
                sweep = _each(range(3), lambda _: claims.sweep())
        beside = {"claim ms": claim, "list of 50 ms": listing, "sweep ms": sweep}
        return Figure(submit, beside | {"memory KiB/job": memory / 1024})


def _asked(claims: Claims, job: JobId) -> tuple[JobId, Request]:
    """A job, and what a worker reads of it before it claims."""
    return job, parse_request(claims.read(job).text)


def _claiming(claims: Claims) -> Callable[[tuple[JobId, Request]], None]:
    """Claim as a worker does."""

    def claim(asked: tuple[JobId, Request]) -> None:
        result = claims.claim(*asked, engine="bench", flavor="default")
        assert result.answer is Answer.CLAIMED, result

    return claim


class ScaleTags(_Scale):
    """Tags of a migration."""

    name = "scale-tags"
    title = "tags of a migration: planning each when there is nothing to do"
    unit = "ms/tag"

    def sizes(self, ground: Ground) -> Sequence[int]:
        """Tags."""
        return ground.choose((100, 1_000, 10_000), (20, 50))

    def cost(self, ground: Ground, size: int) -> Figure:
        """Plan them, then copy them all into an empty registry."""
        corpus = tags(size)
        with ExitStack() as stack:
            one, other = both(stack, ground, corpus)
            plan, peak = planned(corpus, one, other)
            target = stack.enter_context(ground.registry())
            fleet = stack.enter_context(Fleet({"source": one, "target": target}))
            begin = time.perf_counter()
            fleet.client.migrate(spec_of(corpus, "source", "target")).wait()
            run = time.perf_counter() - begin
            whole = processes.peak(fleet.worker.pid)
        beside = {"copying all ms/tag": run / size * 1e3, f"planning {PEAK}": peak / MIB}
        return Figure(plan / size * 1e3, beside | {f"copying {PEAK}": whole / MIB})


class _ScaleSize(_Scale):
    """Images of one incompressible layer; the largest only where it is asked for."""

    unit = "s/GiB"

    def sizes(self, ground: Ground) -> Sequence[int]:
        """MiB."""
        if ground.tiny:
            return (1, 2)
        return (1, 16, 128, 1024, *([8192] if ground.long else []))


class ScaleCopy(_ScaleSize):
    """From registry to registry."""

    name = "scale-copy"
    title = "size of an image's only layer, MiB: copying it from registry to registry, on disk"

    def cost(self, ground: Ground, size: int) -> Figure:
        """Copy it by a worker of its own, so that its peak is known."""
        corpus = large_layers(1, size * MIB)
        (image,) = corpus.images
        ground = ground.on_disk()
        with ground.registry(corpus) as source, ground.registry() as target:
            with Fleet({"source": source, "target": target}) as fleet:
                names = [f"{place.address}/{image.name}" for place in (source, target)]
                begin = time.perf_counter()
                fleet.client.copy(*names).wait()
                took = time.perf_counter() - begin
                peak = processes.peak(fleet.worker.pid)
            target.check(corpus)
        return Figure(took / size * 1024, {PEAK: peak / MIB, "in all s": took})


class ScalePush(_ScaleSize):
    """From the Docker Engine."""

    name = "scale-push"
    title = "size of an image's only layer, MiB: pushing it from the Docker Engine, on disk"
    programs = (*Case.programs, "dockerd")
    root = True

    def cost(self, ground: Ground, size: int) -> Figure:
        """Push it by a worker of its own."""
        with ExitStack() as stack:
            engine = stack.enter_context(DockerDaemon())
            client: docker.DockerClient = images.patient(engine.client())
            stack.callback(client.close)
            image = images.load(client, [MadeTar(Layer(f"scale/{size}", size * MIB))], "scale")
            target = stack.enter_context(ground.on_disk().registry())
            client.api.tag(image, f"{target.address}/bench/app", "v1")
            fleet = stack.enter_context(Fleet({"target": target}, engine=engine))
            begin = time.perf_counter()
            fleet.client.push(f"{target.address}/bench/app:v1").wait()
            took = time.perf_counter() - begin
            peak = processes.peak(fleet.worker.pid)
            manifest = target.registry.manifest("bench/app", "v1")
            assert manifest["config"]["digest"] == image, manifest
        return Figure(took / size * 1024, {PEAK: peak / MIB, "in all s": took})


def _push(number: int) -> Push:
    return Push(f"{_URI}/app:v{number}", registry="bench")


def _used(client: redis.Redis) -> int:
    """Unit: bytes."""
    return int(client.info("memory")["used_memory"])


def _each(things: Any, do: Callable[[Any], object]) -> float:
    """The middle one of their times. Unit: ms."""
    found = []
    for thing in things:
        begin = time.perf_counter()
        do(thing)
        found.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(found)
