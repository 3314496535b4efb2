"""How much memory a worker takes while it moves much at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import processes
from benchmarks.fleet import Fleet
from benchmarks.measure import OURS, Case, Side, Wanted
from benchmarks.servers import Ground
from tests.support.images.corpus import MIB, separate_layers


class WorkerMemory(Case):
    """Sixteen layers of 512 MiB, each of an image of its own, all at once."""

    name = "memory"
    title = "peak memory of a worker that copies sixteen layers of 512 MiB at once (on disk)"
    unit = "MiB"
    limit = 250.0
    rounds = 1

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        """Only our own: the peers copy one image a process."""
        if not wanted.ours:
            yield []
            return
        corpus = separate_layers(16, ground.choose(512, 1) * MIB)
        # 16 GiB on both sides: too much for a file system in memory.
        ground = ground.on_disk()
        with ExitStack() as stack:
            source = stack.enter_context(ground.registry(corpus))
            targets = [stack.enter_context(ground.registry()) for _ in range(rounds)]

            def run(number: int) -> float:
                target = targets[number]
                # A worker of its own: the peak is that of all its life.
                with Fleet({"source": source, "target": target}) as fleet:
                    names = [image.name for image in corpus.images]
                    jobs = [
                        fleet.client.copy(f"{source.address}/{name}", f"{target.address}/{name}")
                        for name in names
                    ]
                    for job in jobs:
                        job.wait()
                    peak = processes.peak(fleet.worker.pid)
                target.check(corpus)
                target.discard()
                return peak / MIB

            yield [Side(OURS, run)]
