"""The timeline of a slow recovery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.chaos import timeline
from tests.chaos.history import Story
from tests.chaos.plan import Fault, Kind
from tests.chaos.report import Report
from tests.chaos.strike import Struck
from tests.unit.support.test_chaos import JOB, story
from transship import State
from transship.model.records import JobEvent

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> float:
    return START.timestamp() + seconds


def line(seconds: float, text: str) -> str:
    moment = START + timedelta(seconds=seconds)
    return f"{moment.isoformat(timespec='milliseconds').replace('+00:00', 'Z')} {text}"


def struck(kind: Kind, seconds: float, lasts: float = 0.0, cut: int = 0) -> Struck:
    return Struck(Fault(seconds, kind, seconds + lasts), at(seconds), cut=cut)


def finished(*seconds: float) -> Story:
    """A job that ended at a time."""
    known = story(State.RUNNING, State.SUCCEEDED)
    ends = [
        JobEvent(kind="state", at=START + timedelta(seconds=one), state=State.SUCCEEDED)
        for one in seconds
    ]
    return Story(known.record, tuple(ends), known.ask)


def test_the_slowest_recovery_is_told_from_its_fault_to_the_next_finish_of_any_job() -> None:
    faults = [
        struck(Kind.HANG, 1, lasts=30),
        struck(Kind.REDIS, 20, lasts=1),
        struck(Kind.CUT, 25, cut=7),
        struck(Kind.ENGINE, 70, lasts=1),
    ]
    logs = {
        "worker 0": "\n".join(
            [
                line(19, "INFO before"),
                line(20.5, "WARNING Redis is away"),
                "  a traceback",
                line(21, f"INFO [{JOB}] claimed 1"),
                line(22, f"INFO [{JOB}] claimed 2"),
                line(59, "INFO after"),
            ]
        ),
        "worker 1": "",
    }

    found = timeline.of_slowest(faults[1], at(58), faults, {JOB: finished(5, 58)}, logs)

    assert found == [
        "  -19.0 s  fault: hangs (hangs), for 30.0 s",
        "   +0.0 s  fault: redis killed (redis), for 1.0 s",
        "   +0.5 s  worker 0: WARNING Redis is away",
        "   +1.0 s  fault: redis killed (redis) ends",
        f"   +1.0 s  worker 0: INFO [{JOB}] claimed 1 (× 2)",
        "   +5.0 s  fault: connections cut (connections), 7 cut, for 0.0 s",
        "  +11.0 s  fault: hangs (hangs) ends",
        f"  +38.0 s  ledger: job {JOB} succeeded, the next finish of any job",
    ]


def test_a_long_timeline_is_cut_in_the_middle_of_each_worker() -> None:
    words = ("one", "two")
    log = "\n".join(line(1 + n / 100, f"INFO {words[n % 2]}") for n in range(1000))

    found = timeline.of_slowest(struck(Kind.CUT, 0), at(60), [], {}, {"worker 0": log})

    assert len(found) == 31
    assert found[15].endswith("worker 0: … 970 more lines")


def test_the_report_has_the_slowest_recovery() -> None:
    report = Report(1, 60.0)
    faults = [struck(Kind.CUT, 1), struck(Kind.CUT, 10), struck(Kind.CUT, 50)]

    report.count_faults(faults, {JOB: finished(2, 40, 51)}, {"worker 0": line(30, "INFO busy")})

    assert report.next_finish.worst == 30.0
    assert "   +0.0 s  fault: connections cut (connections), for 0.0 s" in report.timeline
    assert "  +20.0 s  worker 0: INFO busy" in report.timeline
    assert "slowest recovery:" in report.to_text()
