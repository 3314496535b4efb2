"""Tags of many repositories: everything is to be moved, or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks import peers
from benchmarks.fleet import Fleet
from benchmarks.measure import OURS, Case, Limit, Side, Wanted
from benchmarks.servers import FAR_S, Ground, Place
from tests.support.images.corpus import KIB, Corpus, hundred_tags, shared_layers, thousand_images

#: What a worker moves before the clock runs: in use, a worker is not at its first image.
_WARM = shared_layers(1, 1, shared=1, shared_size=2**16, own_size=2**16, seed="warm")


def _tiny() -> Corpus:
    return shared_layers(3, 2, shared=2, shared_size=16 * KIB, own_size=4 * KIB, seed="tiny")


class Cold(Case):
    """Each round into an empty registry."""

    programs = (*Case.programs, "skopeo")

    def __init__(self, *, far: bool = False) -> None:
        self._far = far
        self.name = "cold-far" if far else "cold"
        way = ", 50 ms of round trip" if far else ""
        self.title = f"100 tags in 20 repositories into an empty registry{way}"
        self.limits = {peers.SKOPEO_SYNC: Limit(0.04 if far else 0.36)}

    def _corpus(self, ground: Ground) -> Corpus:
        return ground.choose(hundred_tags, _tiny)()

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        """Each side has its own target for each round."""
        ground = ground.away(FAR_S if self._far else 0.0)
        corpus = self._corpus(ground)
        with ExitStack() as stack:
            source = stack.enter_context(ground.registry(corpus))
            sides: list[Side] = []
            if wanted.ours:
                sides += _ours(stack, ground, source, corpus, rounds)
            if wanted.peers:
                targets = [stack.enter_context(ground.registry()) for _ in range(rounds)]

                def peer(number: int) -> float:
                    took = peers.skopeo_sync(source, corpus, targets[number])
                    targets[number].check(corpus, peers.SYNCED)
                    return took

                sides.append(Side(peers.SKOPEO_SYNC, peer))
            yield sides


class Thousand(Cold):
    """Very many small images: what counts is what each of them costs."""

    rounds = 3

    def __init__(self) -> None:
        super().__init__()
        self.name = "thousand"
        self.title = "1,000 images in 200 repositories, small layers, into an empty registry"
        self.limits = {peers.SKOPEO_SYNC: Limit(0.40)}

    def _corpus(self, ground: Ground) -> Corpus:
        return ground.choose(thousand_images, _tiny)()


class Nothing(Case):
    """Each round into a registry that has it all."""

    programs = (*Case.programs, "skopeo")

    def __init__(self, *, far: bool = False) -> None:
        self._far = far
        self.name = "nothing-far" if far else "nothing"
        way = ", 50 ms of round trip" if far else ""
        self.title = f"the same 100 tags when there is nothing to do{way}"
        self.limits = {peers.SKOPEO_SYNC: Limit(0.02 if far else 0.08)}

    @contextmanager
    def sides(
        self,
        ground: Ground,
        rounds: int,  # noqa: ARG002 - all rounds have the same target
        wanted: Wanted,
    ) -> Iterator[list[Side]]:
        """Each side fills a target of its own before the clock runs."""
        ground = ground.away(FAR_S if self._far else 0.0)
        corpus = ground.choose(hundred_tags, _tiny)()
        with ExitStack() as stack:
            source = stack.enter_context(ground.registry(corpus))
            sides: list[Side] = []
            if wanted.ours:
                side, process = _ours(stack, ground, source, corpus, 1)
                side.run(0)
                sides.append(Side(side.name, lambda _: side.run(0)))
                process.run(0)
                sides.append(Side(process.name, lambda _: process.run(0)))
            if wanted.peers:
                target = stack.enter_context(ground.registry())
                peers.skopeo_sync(source, corpus, target)

                def peer(_: int) -> float:
                    took = peers.skopeo_sync(source, corpus, target)
                    target.check(corpus, peers.SYNCED)
                    return took

                sides.append(Side(peers.SKOPEO_SYNC, peer))
            yield sides


def _ours(
    stack: ExitStack, ground: Ground, source: Place, corpus: Corpus, rounds: int
) -> Sequence[Side]:
    """From submitting to seeing the end, in a process that stands; and the whole process."""
    warm = stack.enter_context(ground.registry(_WARM))
    targets = [stack.enter_context(ground.registry()) for _ in range(2 * rounds)]
    components = {"source": source, "warm": warm, "warmed": stack.enter_context(ground.registry())}
    components |= {f"target{number}": target for number, target in enumerate(targets)}
    fleet = stack.enter_context(Fleet(components))
    fleet.client.migrate(spec_of(_WARM, "warm", "warmed")).wait()

    def submitted(number: int) -> float:
        spec = spec_of(corpus, "source", f"target{number}")
        begin = time.perf_counter()
        fleet.client.migrate(spec).wait()
        took = time.perf_counter() - begin
        targets[number].check(corpus)
        return took

    def process(number: int) -> float:
        number += rounds
        file = fleet.site.folder / f"spec{number}.json"
        file.write_text(json.dumps(spec_of(corpus, "source", f"target{number}")))
        took = fleet.command("migrate", "run", str(file), "--wait")
        targets[number].check(corpus)
        return took

    return [Side(OURS, submitted), Side(f"{OURS}, whole process", process)]


def spec_of(corpus: Corpus, source: str, target: str) -> dict[str, Any]:
    """A specification: all repositories of a corpus, from one component to the other."""
    rule = {
        "from": {"registry": source, "repositories": corpus.repositories},
        "to": {"registry": target, "repository": "{repository}"},
    }
    return {"version": 1, "name": "bench", "rules": [rule]}
