"""The control of a running job and the heart that keeps its lease; on a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.ledger.bench import Bench
from tests.support.processes import eventually
from transship.errors import DeadlineExceeded, HandedBack, LeaseLost, PushCancelled, Stalled
from transship.model.jobs import Step
from transship.model.push_request import PushRequest
from transship.model.records import ErrorInfo, Progress
from transship_worker.jobs.claim_results import Claim
from transship_worker.jobs.control import MOST_WARNINGS, Control
from transship_worker.jobs.heartbeat import Heart

pytestmark = pytest.mark.redis


@pytest.fixture
def claim(bench: Bench) -> Claim:
    request = PushRequest.model_validate({"image": "gcr.io/a/b:1", "registry": "prod"})
    return bench.claimed(bench.submit(request))


@pytest.fixture
def heart() -> Iterator[Heart]:
    heart = Heart()
    heart.start()
    yield heart
    heart.close()


def control_of(bench: Bench, claim: Claim, **limits: float) -> Control:
    return Control(
        bench.claims,
        claim,
        lease_s=limits.get("lease_s", 60),
        deadline_s=limits.get("deadline_s", 60),
        stall_s=limits.get("stall_s", 60),
    )


def test_what_a_job_tells_reaches_the_ledger(bench: Bench, claim: Claim, heart: Heart) -> None:
    control = control_of(bench, claim)
    progress = Progress(bytes_done=1, bytes_total=2, layers_done=0, layers_total=1)

    with heart.beating(control):
        control.step(Step.PUSHING)
        control.progress(progress)
        control.warn("the tag was moved")
        eventually(lambda: bench.record(claim.job).warnings)

    record = bench.record(claim.job)
    assert (record.step, record.progress) == (Step.PUSHING, progress)
    assert record.warnings == ["the tag was moved"]


def test_a_beating_job_keeps_its_lease(bench: Bench, claim: Claim, heart: Heart) -> None:
    control = control_of(bench, claim)
    bench.redis.zadd(bench.keys.leases, {claim.job: 1})

    with heart.beating(control):
        eventually(lambda: (bench.redis.zscore(bench.keys.leases, claim.job) or 0) > 1)


def test_a_wish_to_cancel_closes_what_the_job_waits_for(
    bench: Bench, claim: Claim, heart: Heart
) -> None:
    control = control_of(bench, claim)
    closed = threading.Event()

    with heart.beating(control), control.closing(closed.set):
        bench.ledger.cancel(claim.job)
        assert closed.wait(10)

    with pytest.raises(PushCancelled):
        control.checkpoint()


def test_a_job_that_another_worker_took_stops(bench: Bench, claim: Claim, heart: Heart) -> None:
    control = control_of(bench, claim)
    bench.redis.hset(bench.keys.job(claim.job), "token", "somebody else's")

    with heart.beating(control):
        eventually(lambda: control.stopped)

    with pytest.raises(LeaseLost):
        control.checkpoint()


def test_the_deadline_and_the_lease_stop_a_job_by_themselves(bench: Bench, claim: Claim) -> None:
    with pytest.raises(DeadlineExceeded, match="deadline of 0"):
        control_of(bench, claim, deadline_s=0).checkpoint()
    with pytest.raises(LeaseLost):
        control_of(bench, claim, lease_s=0).checkpoint()


def test_only_an_open_stream_can_stall(bench: Bench, claim: Claim) -> None:
    control = control_of(bench, claim, stall_s=0)
    closed: list[str] = []

    control.checkpoint()
    with control.closing(lambda: closed.append("yes")):
        control.watch()
        assert closed == ["yes"]

    with pytest.raises(Stalled):
        control.checkpoint()


def test_what_is_begun_when_the_job_was_stopped_is_closed(bench: Bench, claim: Claim) -> None:
    control = control_of(bench, claim)
    closed = threading.Event()
    control.stop(HandedBack("the worker stops"))

    with pytest.raises(HandedBack), control.closing(closed.set):
        pytest.fail("a job that was stopped goes on")

    assert closed.is_set()


def test_a_job_keeps_no_endless_list_of_warnings(bench: Bench, claim: Claim) -> None:
    control = control_of(bench, claim)
    for number in range(MOST_WARNINGS * 3):
        control.warn(f"warning {number}")
    assert len(control.warnings) == MOST_WARNINGS + 1
    assert control.warnings[-2:] == [
        f"warning {MOST_WARNINGS - 1}",
        f"there were more than {MOST_WARNINGS} warnings; these are the first",
    ]


def test_the_first_reason_to_stop_stays(bench: Bench, claim: Claim) -> None:
    control = control_of(bench, claim)

    control.stop(PushCancelled("cancelled on request"))
    control.stop(HandedBack("the worker stops"))

    with pytest.raises(PushCancelled), control.closing(lambda: None):
        pytest.fail("a stopped job must not open anything")


def test_all_running_jobs_are_handed_back(bench: Bench, claim: Claim, heart: Heart) -> None:
    control = control_of(bench, claim)

    with heart.beating(control):
        assert heart.running == 1
        heart.hand_back("the worker stops")

    assert isinstance(control.stopped, HandedBack)
    assert heart.running == 0


def notes_of(bench: Bench, claim: Claim) -> list[str]:
    events = bench.ledger.events(claim.job, "0", 1)
    return [event.message for event in events if event.kind == "note"]


def test_the_choice_of_the_stream_is_a_note_and_survives_the_worker(
    bench: Bench, claim: Claim, heart: Heart
) -> None:
    control = control_of(bench, claim)
    assert not control.prefers_stream
    with heart.beating(control):
        control.prefer_stream("the registry refuses the engine's push")
        eventually(lambda: notes_of(bench, claim))
    assert notes_of(bench, claim) == ["the registry refuses the engine's push"]
    # The worker is killed: nobody ends the attempt.
    bench.let_lease_end(claim.job)
    bench.claims.sweep()
    bench.let_retry_come_due(claim.job)
    assert control_of(bench, bench.claimed(claim.job)).prefers_stream


def test_an_attempt_that_fails_before_the_next_beat_keeps_the_choice_of_the_stream(
    bench: Bench, claim: Claim
) -> None:
    control = control_of(bench, claim)
    control.prefer_stream("the registry refuses the engine's push")
    error = ErrorInfo(code="rate_limited", message="429", retryable=True)
    assert bench.claims.try_later(control.claim, error, 0).accepted
    assert bench.claimed(claim.job).streams
