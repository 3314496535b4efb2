"""One image with large layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType

from benchmarks import peers
from benchmarks.fleet import Fleet
from benchmarks.measure import OURS, Case, Limit, Side, Wanted
from benchmarks.servers import Ground, Place
from tests.support.images.corpus import MIB, Corpus, Image, Layer, large_layers

#: What a worker moves before the clock runs.
_WARM = Corpus("warm", (Image("warm/app", "v1", (Layer("warm", 2**16),)),))


class _Large(Case):
    """One image into an empty registry, each round."""

    #: How many layers, of how many MiB each.
    shape = (1, 1)
    programs = (*Case.programs, "skopeo")

    def __init__(self) -> None:
        self.tools: dict[str, Callable[[Place, Image, Place], float]] = {
            peers.SKOPEO_COPY: peers.skopeo_copy
        }

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        """Each side has its own target for each round."""
        count, size = self.shape
        self.corpus = large_layers(count, ground.choose(size, 1) * MIB)
        with ExitStack() as stack:
            source = stack.enter_context(ground.registry(self.corpus))
            sides: list[Side] = []
            if wanted.ours:
                sides += self._ours(stack, ground, source, rounds)
            if wanted.peers:
                sides += [self._peer(stack, ground, source, name, rounds) for name in self.tools]
            yield sides

    def _peer(
        self, stack: ExitStack, ground: Ground, source: Place, name: str, rounds: int
    ) -> Side:
        targets = [stack.enter_context(ground.registry()) for _ in range(rounds)]
        (image,) = self.corpus.images

        def run(number: int) -> float:
            took = self.tools[name](source, image, targets[number])
            if name == peers.CURL:
                # It moves the layer only.
                targets[number].check_blob(image.repository, image.layers[0])
            else:
                targets[number].check(self.corpus)
            targets[number].discard()
            return took

        return Side(name, run)

    def _ours(self, stack: ExitStack, ground: Ground, source: Place, rounds: int) -> Sequence[Side]:
        warm = stack.enter_context(ground.registry(_WARM))
        targets = [stack.enter_context(ground.registry()) for _ in range(2 * rounds)]
        components = {"source": source, "warm": warm}
        components |= {f"target{number}": target for number, target in enumerate(targets)}
        fleet = stack.enter_context(Fleet(components))
        (image,) = self.corpus.images
        name = f"{warm.address}/warm/app"
        fleet.client.copy(f"{name}:v1", f"{name}:v2").wait()

        def submitted(number: int) -> float:
            target = targets[number]
            names = [f"{place.address}/{image.name}" for place in (source, target)]
            begin = time.perf_counter()
            fleet.client.copy(*names).wait()
            took = time.perf_counter() - begin
            target.check(self.corpus)
            target.discard()
            return took

        def process(number: int) -> float:
            target = targets[number + rounds]
            names = [f"{place.address}/{image.name}" for place in (source, target)]
            took = fleet.command("copy", *names, "--wait")
            target.check(self.corpus)
            target.discard()
            return took

        return [Side(OURS, submitted), Side(f"{OURS}, whole process", process)]


class OneLayer(_Large):
    """One layer of 512 MiB."""

    name = "one-layer"
    title = "one image with one layer of 512 MiB"
    shape = (1, 512)
    programs = (*_Large.programs, "curl")

    def __init__(self) -> None:
        super().__init__()
        self.limits = {peers.SKOPEO_COPY: Limit(0.62), peers.CURL: Limit(1.15)}
        self.tools[peers.CURL] = peers.curl_to_curl


class EightLayers(_Large):
    """Eight layers of 64 MiB."""

    name = "eight-layers"
    title = "one image with eight layers of 64 MiB"
    shape = (8, 64)
    limits = MappingProxyType({peers.SKOPEO_COPY: Limit(0.55)})
