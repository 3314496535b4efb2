"""Planning very many tags when there is nothing to do: manifests are asked for, and no layers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Final

from benchmarks import peers, processes
from benchmarks.cases.migration import spec_of
from benchmarks.fleet import Fleet
from benchmarks.measure import OURS, Case, Figure, Kind, Limit, Side, Wanted
from benchmarks.servers import Ground, Place
from tests.support.images.corpus import MIB, Corpus, many_tags

#: Repositories that the tags are in.
REPOSITORIES: Final = 10
#: The most that a worker took.
PEAK: Final = "worker's peak MiB"


class PlanTags(Case):
    """Tags a second, as the peer has a tenth of them."""

    name = "plan-10k"
    title = "planning 10,000 tags of 10 repositories when there is nothing to do"
    unit = "tags/s"
    limits = MappingProxyType({peers.SKOPEO_SYNC: Limit(10, Kind.AT_LEAST)})
    rounds = 3
    programs = (*Case.programs, "skopeo")

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - nothing is changed
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Source and target hold the same, each side's own."""
        count = ground.choose(10_000, 200)
        with ExitStack() as stack:
            sides = []
            if wanted.ours:
                corpus = tags(count)
                source, target = both(stack, ground, corpus)

                def ours(_: int) -> Figure:
                    took, peak = planned(corpus, source, target)
                    return Figure(count / took, {PEAK: peak / MIB})

                sides.append(Side(OURS, ours))
            if wanted.peers:
                sides.append(_peer(stack, ground, count // 10))
            yield sides


def planned(corpus: Corpus, source: Place, target: Place) -> tuple[float, int]:
    """Plan all by a worker of its own; how long it took, and the worker's peak. Units: s, bytes."""
    with Fleet({"source": source, "target": target}) as fleet:
        begin = time.perf_counter()
        plan = fleet.client.plan(spec_of(corpus, "source", "target"))
        rows = sum(1 for _ in plan.rows())
        took = time.perf_counter() - begin
        peak = processes.peak(fleet.worker.pid)
        summary = plan.record().summary
    assert summary is not None
    assert rows == summary.rows == summary.skip_rows == len(corpus.images), summary
    return took, peak


def tags(count: int) -> Corpus:
    """So many tags, each an image of its own: one that several tags share is asked for once."""
    return many_tags(count, count, repositories=REPOSITORIES)


def both(stack: ExitStack, ground: Ground, corpus: Corpus) -> tuple[Place, Place]:
    """Two registries that hold the same."""
    one = stack.enter_context(ground.registry(corpus))
    return one, stack.enter_context(ground.registry(like=one))


def _peer(stack: ExitStack, ground: Ground, count: int) -> Side:
    corpus = tags(count)
    source = stack.enter_context(ground.registry(corpus))
    target = stack.enter_context(ground.registry())
    peers.skopeo_sync(source, corpus, target)

    def run(_: int) -> float:
        took = peers.skopeo_sync(source, corpus, target)
        target.check(corpus, peers.SYNCED)
        return count / took

    return Side(peers.SKOPEO_SYNC, run)
