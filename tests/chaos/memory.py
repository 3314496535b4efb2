"""How fast the memory of workers grows: least squares, and whether a run is long enough to tell."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: What counts as growth. Units: MiB per 10 minutes, MiB per 1,000 lost connections to Redis.
MOST_BY_TIME: Final = 1.0
MOST_BY_CONNECTIONS: Final = 0.5
#: A worker loads libraries and fills its caches at first; that is no growth. Of a short run it is
#: this part. Units: s, 1.
WARM_UP_S: Final = 900.0
WARM_UP_PART: Final = 0.5
#: A slope over less than this, or after a shorter warm-up, is noise: a fresh worker fills its
#: arenas. Units: s, connections.
LEAST_S: Final = 600.0
LEAST_CONNECTIONS: Final = 1_000
#: What even that noise does not reach; fitted growth over the samples. Unit: MiB.
MOST_NOISE: Final = 48.0
TOO_SHORT: Final = "too short to tell"
#: Between two samples. Unit: s.
PERIOD_S: Final = 2.0

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process."""

    #: Since its first sample. Unit: s.
    at_s: float
    #: Resident memory. Unit: MiB.
    memory: float
    #: Connections to Redis that it had lost until then.
    lost: int


@dataclass(frozen=True, slots=True)
class Slope:
    """A line through samples, per unit of the limit, and how far off it may be."""

    value: float
    #: Standard error; samples that follow each other are alike, which is counted in.
    error: float
    limit: float
    #: Whether the samples reach over enough of a time, or enough connections, to tell.
    enough: bool
    #: What the line grows by over all samples. Unit: MiB.
    growth: float

    @property
    def verdict(self) -> str:
        """``steady``, ``grows``, or ``too short to tell``."""
        if not self.enough:
            return "grows" if self.growth - 2 * self.error_growth > MOST_NOISE else TOO_SHORT
        if self.value - 2 * self.error > self.limit:
            return "grows"
        if 2 * self.error > self.limit:
            return TOO_SHORT
        return "grows" if self.value > self.limit else "steady"

    @property
    def error_growth(self) -> float:
        """The standard error of ``growth``. Unit: MiB."""
        return self.error * abs(self.growth / self.value) if self.value else 0.0


@dataclass(frozen=True, slots=True)
class Growth:
    """How the memory of one process grew after its warm-up."""

    process: str
    seconds: float
    lost: int
    #: At the end. Unit: MiB.
    memory: float
    by_time: Slope
    by_connections: Slope

    @property
    def grows(self) -> bool:
        """Whether it grows too fast."""
        return "grows" in {self.by_time.verdict, self.by_connections.verdict}

    def __str__(self) -> str:
        time, lost = self.by_time, self.by_connections
        return (
            f"{self.process}: {self.memory:.1f} MiB; over {self.seconds:.0f} s {time.value:+.2f} ± "
            f"{time.error:.2f} MiB per 10 min ({time.verdict}), over {self.lost} lost connections "
            f"{lost.value:+.2f} ± {lost.error:.2f} MiB per 1,000 ({lost.verdict})"
        )


def growth_of(process: str, samples: Sequence[Sample], warm_up_s: float) -> Growth | None:
    """What the samples of a process come to; ``None``: it did not outlive its warm-up."""
    warm = [sample for sample in samples if sample.at_s >= warm_up_s]
    if len(warm) < 10:
        return None
    memory = [sample.memory for sample in warm]
    times = [sample.at_s for sample in warm]
    lost = [float(sample.lost) for sample in warm]
    seconds, connections = times[-1] - times[0], int(lost[-1] - lost[0])
    long = warm_up_s >= WARM_UP_S and seconds >= LEAST_S
    return Growth(
        process,
        seconds,
        connections,
        memory[-1],
        _slope(times, memory, 600.0, MOST_BY_TIME, enough=long),
        _slope(
            lost,
            memory,
            1000.0,
            MOST_BY_CONNECTIONS,
            enough=long and connections >= LEAST_CONNECTIONS,
        ),
    )


def _slope(
    along: Sequence[float], memory: Sequence[float], unit: float, limit: float, *, enough: bool
) -> Slope:
    middle = statistics.fmean(along)
    spread = sum((x - middle) ** 2 for x in along)
    if not spread:
        return Slope(0.0, 0.0, limit, False, 0.0)
    line = statistics.linear_regression(along, memory)
    rest = [y - line.slope * x - line.intercept for x, y in zip(along, memory, strict=True)]
    noise = sum(one * one for one in rest)
    error = math.sqrt(noise / (len(rest) - 2) / spread)
    if noise:
        # As of an autoregressive process: neighbours that are alike are not two observations.
        alike = sum(a * b for a, b in itertools.pairwise(rest)) / noise
        alike = min(0.99, max(0.0, alike))
        error *= math.sqrt((1 + alike) / (1 - alike))
    growth = line.slope * (along[-1] - along[0])
    return Slope(line.slope * unit, error * unit, limit, enough, growth)


@dataclass(slots=True)
class _Process:
    began: float
    samples: list[Sample]
    lost: int = 0


class Sampler:
    """A thread that looks at the memory of all worker processes while a run lasts."""

    def __init__(
        self, running: Callable[[], Sequence[tuple[str, int]]], clock: Callable[[], float]
    ) -> None:
        """``running``: the names and process ids of workers that run now. ``clock`` gives s."""
        self._running = running
        self._clock = clock
        self._processes: dict[str, _Process] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def lose(self, connections: Callable[[int], int]) -> None:
        """Count connections that are cut now: ``connections`` of each process id."""
        for name, pid in self._running():
            lost = connections(pid)
            with self._lock:
                if name in self._processes:
                    self._processes[name].lost += lost

    def growth(self, seconds: float) -> list[Growth]:
        """Of all processes that lived long enough in a run of so many seconds."""
        warm_up = min(WARM_UP_S, seconds * WARM_UP_PART)
        with self._lock:
            found = [
                growth_of(name, process.samples, warm_up)
                for name, process in self._processes.items()
            ]
        return [one for one in found if one is not None]

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            for name, pid in self._running():
                self._look(name, pid)

    def _look(self, name: str, pid: int) -> None:
        memory = resident(pid)
        now = self._clock()
        if not memory:
            return
        with self._lock:
            process = self._processes.setdefault(name, _Process(now, []))
            process.samples.append(Sample(now - process.began, memory, process.lost))


def resident(pid: int) -> float:
    """Resident memory of a process; 0: it is gone. Unit: MiB."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * _PAGE / 2**20
