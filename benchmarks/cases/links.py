"""Workers whose own links are the limit: more of them are to move as much more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Final

from benchmarks.cases.migration import spec_of
from benchmarks.fleet import Fleet
from benchmarks.measure import Case, Figure, Kind, Limit, Pair, Side, Wanted
from benchmarks.servers import Ground, Place
from tests.support.images.corpus import KIB, MIB, Corpus, shared_layers
from tests.support.proxies.delay import DelayProxy

#: What one worker's link carries in each direction, over all its connections. Unit: B/s.
LINK: Final = 10_000_000


def migrate(corpus: Corpus, source: Place, target: Place, workers: int) -> float:
    """Move all by so many workers, each with a link of its own to both registries. Unit: s."""
    with ExitStack() as stack:
        endpoints = [
            {
                "source": stack.enter_context(_link(source)).base,
                "target": stack.enter_context(_link(target)).base,
            }
            for _ in range(workers)
        ]
        components = {"source": source, "target": target}
        fleet = stack.enter_context(Fleet(components, endpoints=endpoints))
        begin = time.perf_counter()
        fleet.client.migrate(spec_of(corpus, "source", "target")).wait()
        took = time.perf_counter() - begin
    target.check(corpus)
    return took


def corpus_of(ground: Ground) -> Corpus:
    """256 images of 32 repositories: four layers of 8 MiB that all share, and 4 MiB of its own."""
    if ground.tiny:
        return shared_layers(2, 4, shared=1, shared_size=64 * KIB, own_size=128 * KIB, seed="links")
    return shared_layers(32, 8, shared=4, shared_size=8 * MIB, own_size=4 * MIB, seed="links")


def _link(place: Place) -> DelayProxy:
    return DelayProxy(place.registry.port, round_trip_s=0, rate=LINK)


def name_of(workers: int) -> str:
    """Of the side with so many workers."""
    return "one worker" if workers == 1 else f"{workers} workers"


class Links(Case):
    """The peer of several workers is one of them."""

    name = "links"
    title = "1 GiB into an empty registry, each worker's own link held to 10 MB/s each way"
    unit = "MB/s"
    rounds = 3
    limits = MappingProxyType(
        {
            name_of(2): Limit(1.9, Kind.AT_LEAST),
            name_of(4): Limit(3.3, Kind.AT_LEAST),
        }
    )

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        """Each side has its own target for each round."""
        corpus = corpus_of(ground)
        size = sum(corpus.blobs.values())
        with ExitStack() as stack:
            source = stack.enter_context(ground.registry(corpus))

            def side(workers: int) -> Side:
                targets = [stack.enter_context(ground.registry()) for _ in range(rounds)]

                def run(number: int) -> float:
                    took = migrate(corpus, source, targets[number], workers)
                    targets[number].discard()
                    return size / 1e6 / took

                return Side(name_of(workers), run)

            yield [
                *([side(2), side(4)] if wanted.ours else []),
                *([side(1)] if wanted.peers else []),
            ]

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """Several workers beside one."""
        one = name_of(1)
        return [
            Pair(one, limit, ours)
            for ours, limit in self.limits.items()
            if {one, ours} <= set(names)
        ]


class ScaleWorkers(Case):
    """The same with more workers, and what one of them spends on it."""

    name = "scale-workers"
    title = "the same for 1 to 8 workers: time that each spends on a GiB of the whole"
    unit = "worker s/GiB"
    rounds = 1
    scale = True

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - each run makes its own target
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Only our own."""
        corpus = corpus_of(ground)
        size = sum(corpus.blobs.values())
        with ExitStack() as stack:
            source = stack.enter_context(ground.registry(corpus))

            def side(workers: int) -> Side:
                def run(_: int) -> Figure:
                    with ground.registry() as target:
                        took = migrate(corpus, source, target, workers)
                    rate = size / 1e6 / took
                    return Figure(took * workers / (size / 2**30), {"together MB/s": rate})

                return Side(name_of(workers), run, at=workers)

            numbers = ground.choose((1, 2, 4, 8), (1, 2))
            yield [side(workers) for workers in numbers] if wanted.ours else []

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """The most beside one."""
        return [Pair(names[0], ours=names[-1])] if len(names) > 1 else []
