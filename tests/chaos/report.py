"""What a run came to, for people and as JSON."""

from __future__ import annotations

import bisect
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from tests.chaos import timeline
from tests.chaos.history import Story
from tests.chaos.memory import Growth
from tests.chaos.plan import Kind
from tests.chaos.strike import Struck
from transship import State


@dataclass(frozen=True)
class Times:
    """Unit: s."""

    count: int = 0
    median: float = 0.0
    worst: float = 0.0

    @classmethod
    def of(cls, found: Sequence[float]) -> Times:
        """The figures of these."""
        if not found:
            return cls()
        return cls(len(found), round(statistics.median(found), 2), round(max(found), 2))


@dataclass
class Report:
    """The figures of a run."""

    seed: int
    fault_seconds: float
    seconds: float = 0.0
    drain_seconds: float = 0.0
    jobs: dict[str, int] = field(default_factory=dict)
    migrations: int = 0
    #: Succeeded, of those.
    migrations_succeeded: int = 0
    #: Errors of jobs that did not succeed.
    errors: dict[str, int] = field(default_factory=dict)
    #: Attempts beyond the first of each job.
    further_attempts: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    #: Requests to registries in all, and those that met a fault, by its kind.
    requests: int = 0
    requests_struck: dict[str, int] = field(default_factory=dict)
    connections_cut: int = 0
    submits_failed: int = 0
    workers_started: int = 0
    workers_not_begun: int = 0
    #: From a fault to the next accepted finish of any job.
    next_finish: Times = Times()
    #: From the end of a worker, or its freezing, to the finish of each job that it ran.
    broken_off: Times = Times()
    finishes_refused: int = 0
    attempts_given_up: int = 0
    bells_unacknowledged: int = 0
    dead_leads: int = 0
    files: dict[str, int] = field(default_factory=dict)
    memory_mib: dict[str, int] = field(default_factory=dict)
    #: The first worker on the way: when (s), memory (MiB), open files.
    samples: list[tuple[int, int, int]] = field(default_factory=list)
    #: How the memory of each worker grew that lived long enough.
    memory_growth: list[str] = field(default_factory=list)
    #: What happened from the fault with the slowest recovery to the next finish of any job.
    timeline: list[str] = field(default_factory=list)
    #: Whether Redis was a primary and a replica under sentinels.
    sentinel: bool = False
    #: What took longest to recover.
    slowest: list[str] = field(default_factory=list)
    tags: int = 0
    broken: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def to_text(self) -> str:
        """For people."""
        rows = {
            f"seed {self.seed}": f"{self.fault_seconds:.0f} s of faults, {self.seconds:.0f} in all",
            "drained in": f"{self.drain_seconds:.1f} s",
            "jobs": _counted(self.jobs),
            "migrations": f"{self.migrations}, succeeded {self.migrations_succeeded}",
            "tags at the target": str(self.tags),
            "attempts beyond the first": str(self.further_attempts),
            "errors that stayed": _counted(self.errors) or "none",
            "faults": _counted(self.faults),
            "requests to registries": str(self.requests),
            "of them struck": _counted(self.requests_struck),
            "connections cut": str(self.connections_cut),
            "submits repeated": str(self.submits_failed),
            "workers started": f"{self.workers_started}; ended at their start, without Redis or "
            f"engine, {self.workers_not_begun}",
            "fault to next finish": _times(self.next_finish),
            "worker struck to its jobs' finishes": _times(self.broken_off),
            "duplicates refused": f"finishes {self.finishes_refused}; attempts that gave up by "
            f"themselves {self.attempts_given_up}",
            "ends in a day": f"bells not acknowledged {self.bells_unacknowledged}, leads of dead "
            f"copies {self.dead_leads}",
            "open files": _counted(self.files),
            "memory, MiB": _counted(self.memory_mib),
            "first worker, MiB and files": ", ".join(
                f"{memory} and {files} at {at} s" for at, memory, files in self.samples
            ),
            "slowest": "; ".join(self.slowest),
        }
        lines = [f"{name}: {value}" for name, value in rows.items()]
        lines += [f"memory of {one}" for one in self.memory_growth]
        lines += ["slowest recovery:", *(f"    {one}" for one in self.timeline)]
        lines += [f"BROKEN: {one}" for one in self.broken]
        lines.append(
            f"{len(self.broken)} broken; again with: ./dev chaos --seed {self.seed} --seconds "
            f"{self.fault_seconds:.0f}{' --sentinel' if self.sentinel else ''}"
            if self.broken
            else "nothing is broken"
        )
        return "\n".join(lines)

    def count_jobs(self, found: Mapping[str, Story]) -> None:
        """Fill in what the ledger says."""
        records = [story.record for story in found.values()]
        self.jobs = {"all": len(records)}
        self.jobs |= Counter(f"{one.kind}" for one in records)
        self.jobs |= Counter(f"{one.state}" for one in records)
        self.errors = dict(
            Counter(
                one.error.code
                for one in records
                if one.error is not None and one.state is not State.SUCCEEDED
            )
        )
        self.further_attempts = sum(max(0, one.attempts - 1) for one in records)

    def count_memory(self, found: Sequence[Growth]) -> None:
        """Fill in how memory grew; what grows too fast is broken."""
        self.memory_growth = [str(one) for one in found]
        self.broken += [f"the memory of {one}" for one in found if one.grows]

    def count_faults(
        self, struck: Sequence[Struck], found: Mapping[str, Story], logs: Mapping[str, str]
    ) -> None:
        """Fill in what was struck, and how long it took until work went on.

        ``logs``: what each worker wrote.
        """
        real = [one for one in struck if one.fault.worker < 0 or one.worker]
        self.faults = dict(Counter(str(one.fault.kind) for one in real))
        self.connections_cut = sum(one.cut for one in real)
        ends = sorted(e.at.timestamp() for story in found.values() for e in story.finishes)
        after = [(end - one.at, _what(one)) for one in real if (end := _next(ends, one.at))]
        self.next_finish = Times.of([took for took, _ in after])
        slowest = max(
            ((end - one.at, one.at, one) for one in real if (end := _next(ends, one.at))),
            key=lambda found: found[:2],
            default=None,
        )
        if slowest is not None:
            took, at, one = slowest
            self.timeline = timeline.of_slowest(one, at + took, real, found, logs)
        taken = [
            (story.finishes[-1].at.timestamp() - one.at, f"{_what(one)}, job {job}")
            for one in real
            if one.fault.kind in {Kind.KILL, Kind.FREEZE}
            for job, story in found.items()
            if story.finishes and story.broken_off(one.worker, one.at)
        ]
        self.broken_off = Times.of([took for took, _ in taken])
        self.slowest = [
            f"{took:.1f} s after {what}"
            for kind in (after, taken)
            for took, what in sorted(kind, reverse=True)[:3]
        ]


def _next(ends: Sequence[float], at: float) -> float | None:
    place = bisect.bisect_right(ends, at)
    return ends[place] if place < len(ends) else None


def _what(struck: Struck) -> str:
    return f"{struck.fault.kind} ({struck.fault.whom}) at {struck.fault.at_s:.1f} s"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _times(times: Times) -> str:
    return f"median {times.median:.1f} s, worst {times.worst:.1f} s ({times.count})"
