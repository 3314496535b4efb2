"""A run from its start to its report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.chaos import checks, leftovers
from tests.chaos.crew import Crew, Hand, Held
from tests.chaos.ground import LEASE_S, Ground
from tests.chaos.history import Story, stories
from tests.chaos.load import Load
from tests.chaos.memory import Sampler
from tests.chaos.plan import planned
from tests.chaos.report import Report
from tests.chaos.strike import Striker
from tests.support.processes import eventually
from transship_config.errors import TransshipError

#: How long the fleet may take to finish everything once nothing is wrong any more. Unit: s.
DRAIN_S: Final = 180.0
#: Workers.
CREW: Final = 4
#: Lines of a worker's log that are shown for a job.
_LINES: Final = 30


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for."""

    seed: int
    #: How long faults strike. Unit: s.
    seconds: float
    drain_s: float = DRAIN_S
    #: Folder for the logs of all that ran, and when each fault struck; ``None``: they are lost.
    keep: Path | None = None
    #: Whether Redis is a primary and a replica under sentinels.
    sentinel: bool = False


def run(options: Options, tell: Callable[[str], None] = lambda _: None) -> Report:
    """Run a fleet under faults; what is broken stands in the report."""
    began = time.monotonic()
    report = Report(options.seed, options.seconds, sentinel=options.sentinel)
    faults = planned(
        options.seed,
        options.seconds,
        workers=CREW,
        lease_s=LEASE_S,
        sentinel=options.sentinel,
    )
    with (
        tempfile.TemporaryDirectory(prefix="transship-chaos-") as folder,
        Ground(Path(folder), sentinel=options.sentinel) as ground,
        Crew(ground.site, CREW, tell) as crew,
        # Also of a run that is broken off.
        ExitStack() as kept,
    ):
        load = Load(ground, options.seed)
        load.start()
        # Each has everything loaded by then, and can be compared with later.
        eventually(lambda: load.waves > 1 or load.error, within=60, what="a first wave")
        warm = Held.of(crew.hands[0].pid)
        memory = Sampler(crew.running, time.monotonic)
        memory.start()
        kept.callback(memory.stop)
        striker = Striker(ground, crew, memory, tell)
        if options.keep is not None:
            kept.callback(_keep, options.keep, ground, crew, striker)
        striker.run(faults)
        # While it drains there is less to do, and memory stays as it is.
        memory.stop()
        tell("no more faults")
        load.stop()
        report.drain_seconds = round(_drain(load, crew, report, options.drain_s), 1)
        tell(f"drained in {report.drain_seconds} s")
        found = stories(ground.site.client, load.asked)
        _judge(report, ground, load, found, crew)
        tell("looked at jobs, tags and Redis")
        _hold(report, ground, crew, warm)
        report.count_memory(memory.growth(options.seconds))
        _count(report, ground, load, found, striker, crew)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _keep(folder: Path, ground: Ground, crew: Crew, striker: Striker) -> None:
    """Write what was said, and when what was struck."""
    folder.mkdir(parents=True, exist_ok=True)
    logs = {**ground.redis_logs, "engine": ground.engine.log_text()}
    logs |= {side: registry.log_text() for side, registry in ground.registries.items()}
    logs |= {f"worker-{number}": hand.log_text() for number, hand in enumerate(crew.hands)}
    for name, text in logs.items():
        (folder / f"{name}.log").write_text(text)
    lines = [
        f"{datetime.fromtimestamp(one.at, UTC).isoformat(timespec='milliseconds')} {one.fault} "
        f"{one.worker}\n"
        for one in striker.struck
    ]
    (folder / "faults.log").write_text("".join(lines))


def _drain(load: Load, crew: Crew, report: Report, within: float) -> float:
    """Wait until all is final and all workers stand; how long it took. Unit: s."""
    start = time.monotonic()
    while time.monotonic() < start + within:
        with suppress(TransshipError):
            if not load.unfinished() and crew.complete():
                break
        time.sleep(0.1)
    else:
        left = [*load.unfinished(), *([] if crew.complete() else ["a worker that is not seen"])]
        report.broken.append(f"not drained within {within:.0f} s: {', '.join(left)}")
    crew.rest()
    return time.monotonic() - start


def _judge(report: Report, ground: Ground, load: Load, found: dict[str, Story], crew: Crew) -> None:
    target = checks.Target(ground.target)
    report.tags = len(target.tags)
    broken = [
        *checks.of_jobs(found, load.asked),
        *checks.of_migrations(ground.site.client, load.asked),
        *checks.of_tags(target, found, load.asked),
    ]
    report.broken += [_with_log(one, crew) for one in broken]
    report.broken += crew.broken
    report.broken += leftovers.in_redis(ground.site.keys, ground.redis.url)
    report.broken += leftovers.busy(ground.site.client)


def _with_log(broken: str, crew: Crew) -> str:
    """What is broken of a job, with what all workers said of it."""
    if not broken.startswith("job "):
        return broken
    job = broken.split()[1]
    said = [
        f"    worker {number}: {line}"
        for number, hand in enumerate(crew.hands)
        for line in hand.log_text().splitlines()
        if job in line
    ]
    return "\n".join([broken, *said[-_LINES:]])


def _hold(report: Report, ground: Ground, crew: Crew, warm: Held) -> None:
    """Look at what the workers hold, and tell what a fresh one does."""
    fresh = Hand(ground.site)
    try:
        fresh.begin()
        seen = ground.site.client.fleet
        eventually(lambda: any(w.name == fresh.name for w in seen().workers), what="a worker")
        of_fresh = Held.of(fresh.pid)
    finally:
        fresh.kill9()
        fresh.close()
    report.broken += leftovers.in_workers(crew, warm, ground.redis_ports)
    held = {"fresh": of_fresh, "first after its first jobs": warm}
    held |= {f"worker {n}": Held.of(hand.pid) for n, hand in enumerate(crew.hands)}
    report.files = {name: len(one.files) for name, one in held.items()}
    report.memory_mib = {name: one.memory // 2**20 for name, one in held.items()}


def _count(
    report: Report,
    ground: Ground,
    load: Load,
    found: dict[str, Story],
    striker: Striker,
    crew: Crew,
) -> None:
    report.count_jobs(found)
    logs = {f"worker {number}": hand.log_text() for number, hand in enumerate(crew.hands)}
    report.count_faults(striker.struck, found, logs)
    report.samples = striker.samples
    report.migrations = len(load.asked.migrations)
    for name in load.asked.migrations:
        record = ground.site.client.migration(name).record()
        report.migrations_succeeded += record.state == "succeeded"
    for way in ground.ways.values():
        report.requests += way.requests
        for kind, count in way.met.items():
            report.requests_struck[kind] = report.requests_struck.get(kind, 0) + count
    report.submits_failed = load.asked.submits_failed
    report.workers_started = sum(len(hand.names) for hand in crew.hands)
    report.workers_not_begun = crew.not_begun
    report.finishes_refused = sum(log.count("outcome refused") for log in logs.values())
    report.attempts_given_up = sum(log.count("given up: ") for log in logs.values())
    report.dead_leads = leftovers.dead_leads(ground.site.keys, ground.redis.url)
    report.bells_unacknowledged = leftovers.unacknowledged(ground.site.keys, ground.redis.url)
