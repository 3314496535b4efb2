"""Submitting: one producer, and nobody who takes what it submits."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Final

from benchmarks.bare import make_app
from benchmarks.fleet import REDIS, Fleet
from benchmarks.measure import OURS, Case, Kind, Limit, Side, Wanted
from benchmarks.servers import Ground
from tests.support.servers.redis import RedisServer
from transship import Client, Push

APPLY_ASYNC: Final = "apply_async"
_URI: Final = "registry.example.com/bench"
#: Jobs before the clock runs: connections are open then.
_WARM: Final = 10


class _Submit(Case):
    """Each round with a fresh Redis. A worker without an engine tells of its component, only."""

    unit = "jobs/s"
    programs = ("redis-server",)
    #: Usually, and where it is tiny.
    counts = (2000, 20)

    @abstractmethod
    def submit(self, client: Client, names: list[str]) -> None:
        """Enqueue a push of each."""

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - each round makes its own
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Nothing stands between rounds."""
        count = ground.choose(*self.counts)

        def ours(_: int) -> float:
            component = {"flavor": "default", "uri": _URI}
            with Fleet({"bench": component}) as fleet:
                return _rate(lambda names: self.submit(fleet.client, names), count)

        def bare(_: int) -> float:
            with ExitStack() as stack:
                redis = stack.enter_context(RedisServer(arguments=REDIS))
                app = make_app(redis.url)
                stack.callback(app.close)
                return _rate(lambda names: _loop(app.tasks["nothing"], names), count)

        yield [
            *([Side(OURS, ours)] if wanted.ours else []),
            *([Side(APPLY_ASYNC, bare)] if wanted.peers else []),
        ]


class Submit(_Submit):
    """One call a job."""

    name = "submit"
    title = "submitting 2,000 jobs one by one"
    limits = MappingProxyType({APPLY_ASYNC: Limit(0.5, Kind.AT_LEAST)})

    def submit(self, client: Client, names: list[str]) -> None:
        """One by one."""
        for name in names:
            client.push(name)


class SubmitBulk(_Submit):
    """One call for all."""

    name = "submit-bulk"
    title = "submitting 10,000 jobs in bulk, beside a loop of apply_async"
    limits = MappingProxyType({APPLY_ASYNC: Limit(2.2, Kind.AT_LEAST)})
    counts = (10_000, 50)

    def submit(self, client: Client, names: list[str]) -> None:
        """At once."""
        client.push_many([Push(name) for name in names])


def _loop(task: Any, names: list[str]) -> None:
    for name in names:
        task.apply_async((name,))


def _rate(submit: Callable[[list[str]], None], count: int) -> float:
    submit([f"{_URI}/app:warm{number}" for number in range(_WARM)])
    names = [f"{_URI}/app:v{number}" for number in range(count)]
    begin = time.perf_counter()
    submit(names)
    return count / (time.perf_counter() - begin)
