"""A registry that refuses all but a few requests a second: how many of these few are used."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import requests

from benchmarks.fleet import Fleet
from benchmarks.measure import Case, Figure, Kind, Limit, Pair, Side, Wanted
from benchmarks.servers import Ground, Place
from tests.support.images.corpus import KIB, MANIFEST_TYPE, Corpus, shared_layers
from tests.support.proxies.limiting import LimitingProxy
from transship.jobs import Job

#: What the registry serves. Unit: 1/s.
RATE: Final = 8.0
#: For how long it is measured. Unit: s.
SPAN_S: Final = 60.0
#: Workers, and copies that each runs at once.
WORKERS, COPIES = 2, 8
#: More images than can be copied in the time.
IMAGES: Final = 200
#: What the registry would serve: the side that ours is compared with.
SERVED: Final = "what it serves"
#: Which part of all requests was refused. Unit: %.
REFUSED: Final = "refused %"
#: How long one index of eight manifests takes. Unit: s.
INDEX: Final = "index of 8 s"
_INDEX_TAG: Final = "index"
_LIST_TYPE: Final = "application/vnd.docker.distribution.manifest.list.v2+json"


class SlowRegistry(Case):
    """The limited registry is once the source and once the target."""

    name = "slow-registry"
    title = (
        f"requests that a registry serves in {SPAN_S:.0f} s, at {RATE:.0f} a second and 429 with "
        f"Retry-After: 1 beyond; {WORKERS} workers, {WORKERS * COPIES} copies at once"
    )
    unit = "requests"
    rounds = 1

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - each run makes its own registries
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Only our own, and what could be reached."""
        span_s = ground.choose(SPAN_S, 6.0)

        def ours(name: str) -> Side:
            def run(_: int) -> Figure:
                served, refused = _copied(ground, name, span_s)
                return Figure(served, {REFUSED: refused, INDEX: _index(ground, name)})

            return Side(f"as {name}", run)

        def reachable(_: int) -> Figure:
            return Figure(RATE * span_s, {REFUSED: 5.0, INDEX: 12.0})

        sides = [ours("source"), ours("target")] if wanted.ours else []
        yield [*sides, Side(SERVED, reachable)]

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """Each of the three figures beside its limit."""
        ours = [name for name in names if name != SERVED]
        limits = {"": Limit(0.8, Kind.AT_LEAST), REFUSED: Limit(1.0), INDEX: Limit(1.0)}
        return [Pair(SERVED, limit, name, what) for name in ours for what, limit in limits.items()]


@contextmanager
def _limited(
    ground: Ground, limited: str, corpus: Corpus
) -> Iterator[tuple[Fleet, dict[str, str], LimitingProxy]]:
    """Workers that know a filled source and an empty target, one of them behind the limit."""
    with ExitStack() as stack:
        source = stack.enter_context(ground.registry(corpus))
        places = {"source": source, "target": stack.enter_context(ground.registry())}
        _put_index(source, corpus)
        behind = places[limited].registry
        proxy = stack.enter_context(LimitingProxy(behind.port, rate=RATE))
        places[limited] = Place(behind, proxy.address)
        fleet = stack.enter_context(
            Fleet(places, endpoints=[{}] * WORKERS, TRANSSHIP_COPIES=str(COPIES))
        )
        yield fleet, {name: place.address for name, place in places.items()}, proxy


def _copied(ground: Ground, limited: str, span_s: float) -> tuple[int, float]:
    """Copy many images for a while: requests that were served, and which part was not. Unit: %."""
    corpus = shared_layers(IMAGES // 5, 5, shared=0, own_size=4 * KIB, seed="slow")
    with _limited(ground, limited, corpus) as (fleet, uris, proxy):
        jobs = [_copy(fleet, uris, image.repository, image.tag) for image in corpus.images]
        begin = proxy.seen().served[0]
        time.sleep(max(begin + span_s - time.time(), 0))
        seen = proxy.seen().within(begin, span_s)
        again = [job.id for job in jobs if job.record().attempts > 1]
        assert not again, f"{len(again)} copies needed another attempt"
    return len(seen.served), 100 * seen.refused_part


def _index(ground: Ground, limited: str) -> float:
    """How long one index with eight manifests takes, by workers that know nothing. Unit: s."""
    corpus = shared_layers(1, 8, shared=0, own_size=4 * KIB, seed="index")
    with _limited(ground, limited, corpus) as (fleet, uris, _):
        begin = time.perf_counter()
        _copy(fleet, uris, corpus.repositories[0], _INDEX_TAG).wait(timeout=120)
        return time.perf_counter() - begin


def _copy(fleet: Fleet, uris: dict[str, str], repository: str, tag: str) -> Job:
    source, target = (f"{uris[name]}/{repository}:{tag}" for name in ("source", "target"))
    return fleet.client.copy(source, target)


def _put_index(place: Place, corpus: Corpus) -> None:
    """Give the first repository a list of all its images."""
    repository = corpus.repositories[0]
    listed = [
        {
            "mediaType": MANIFEST_TYPE,
            "size": len(image.manifest),
            "digest": image.digest,
            "platform": {"os": "linux", "architecture": f"a{number}"},
        }
        for number, image in enumerate(corpus.of(repository))
    ]
    answer = requests.put(
        f"{place.registry.base}/v2/{repository}/manifests/{_INDEX_TAG}",
        data=json.dumps({"schemaVersion": 2, "mediaType": _LIST_TYPE, "manifests": listed}),
        headers={"Content-Type": _LIST_TYPE},
        timeout=10,
    )
    answer.raise_for_status()
