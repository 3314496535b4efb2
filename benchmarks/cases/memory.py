"""How much memory a worker takes while it moves much at once."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measure import OURS, Case, Side, Wanted
from benchmarks.servers import Fleet, Ground
from tests.support.corpus import MIB, separate_layers


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
        corpus = separate_layers(16, 512 * MIB)
        # 16 GiB on both sides: too much for a file system in memory.
        ground = Ground(Path(tempfile.gettempdir()))
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
                    peak = sum(_peak(pid) for pid in _family(fleet.worker.pid))
                target.check(corpus)
                target.discard()
                return peak / MIB

            yield [Side(OURS, run)]


def _family(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def _peak(pid: int) -> int:
    """VmHWM of a process. Unit: bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None, f"process {pid} has no VmHWM"
    return int(found[1]) * 1024
