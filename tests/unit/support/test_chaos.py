"""The plan of a chaos run, its judgement of jobs and its proxy, without a fleet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.acceptance.test_chaos import SECONDS, SEED, SENTINEL_SEED
from tests.chaos import checks
from tests.chaos.crew import NO_PEER, Held
from tests.chaos.history import Story
from tests.chaos.leftovers import MOST_SOCKETS, MOST_TO_REDIS, has_too_many_sockets
from tests.chaos.load import Ask, Asked
from tests.chaos.plan import OF_ONE_REDIS, Fault, Kind, planned
from transship import JobRecord, State
from transship.model.jobs import JobId
from transship.model.records import ErrorInfo, JobEvent

ASK = Ask("copied/app:v1", "sha256:1", "app@sha256:1")
JOB = JobId("01m85p3zz6as0jgppt9g")


def faults(seed: int, seconds: float = 600) -> tuple[Fault, ...]:
    return planned(seed, seconds, workers=4, lease_s=5)


def story(*states: State, **record: Any) -> Story:
    """A job that went through these states."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    events = [
        JobEvent(kind="state", at=at.replace(second=second), state=state, worker="one")
        for second, state in enumerate(states)
    ]
    values = {
        "id": JOB,
        "state": states[-1],
        "image": "registry.example.com/copied/app:v1",
        "registry": "new",
        "submitted_by": "default",
        "created_at": at,
    }
    return Story(JobRecord(**(values | record)), tuple(events), ASK)


def judged(*states: State, **record: Any) -> list[str]:
    """What is broken of one job that was asked for."""
    return checks.of_jobs({JOB: story(*states, **record)}, Asked(jobs={JOB: ASK}))


def test_a_seed_always_chooses_the_same_faults() -> None:
    assert faults(1) == faults(1)
    assert faults(1) != faults(2)


def test_the_run_of_ci_has_a_fault_of_each_kind() -> None:
    assert {fault.kind for fault in faults(SEED, SECONDS)} == set(OF_ONE_REDIS)


def test_the_run_of_ci_with_sentinels_kills_and_pauses_a_primary_past_a_failover() -> None:
    found = planned(SENTINEL_SEED, SECONDS, workers=4, lease_s=5, sentinel=True)
    long = {fault.kind for fault in found if fault.until_s - fault.at_s > 5}
    assert {Kind.REDIS, Kind.PAUSE} <= long


@pytest.mark.parametrize("seed", range(20))
def test_all_faults_are_taken_away_within_the_time(seed: int) -> None:
    for fault in faults(seed):
        assert 0 < fault.at_s <= fault.until_s < 600


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_struck_twice_at_once(seed: int) -> None:
    until: dict[str, float] = {}
    for fault in faults(seed):
        assert until.get(fault.whom, 0) <= fault.at_s
        until[fault.whom] = fault.until_s


@pytest.mark.parametrize("seed", range(20))
def test_the_first_worker_is_frozen_at_most(seed: int) -> None:
    assert {fault.kind for fault in faults(seed) if fault.worker == 0} == {Kind.FREEZE}


def test_a_job_that_succeeded_once_is_well() -> None:
    assert judged(State.QUEUED, State.RUNNING, State.QUEUED, State.RUNNING, State.SUCCEEDED) == []


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([State.RUNNING], "is still running"),
        ([State.RUNNING, State.SUCCEEDED, State.SUCCEEDED], "has 2 accepted finishes"),
        ([State.RUNNING, State.FAILED], "failed for good although nothing is wrong with it"),
    ],
)
def test_a_job_that_is_not_well_is_told_of(states: list[State], said: str) -> None:
    broken = judged(*states)

    assert len(broken) == 1
    assert broken[0].startswith(f"job {JOB} {said}\n")


def test_a_job_whose_attempts_were_used_up_is_no_defect() -> None:
    error = ErrorInfo(code="stalled", message="given up after 40 attempts; …", retryable=False)

    assert judged(State.RUNNING, State.FAILED, error=error) == []


def test_a_job_that_is_gone_is_told_of() -> None:
    assert checks.of_jobs({}, Asked(jobs={JOB: ASK})) == [f"job {JOB} was acknowledged and is gone"]


def test_a_job_that_nobody_asked_for_is_told_of() -> None:
    known = story(State.RUNNING, State.SUCCEEDED)
    unknown = Story(known.record, known.events, None)

    assert checks.of_jobs({JOB: unknown}, Asked())[0].startswith(f"job {JOB} was not asked for")


def test_a_job_is_broken_off_by_the_end_of_its_worker_while_it_runs_there() -> None:
    found = story(State.QUEUED, State.RUNNING, State.QUEUED)
    start = found.record.created_at.timestamp()

    assert found.broken_off("one", start + 1.5)
    assert not found.broken_off("another", start + 1.5)
    assert not found.broken_off("one", start + 2.5)


@pytest.mark.parametrize(
    ("counts", "too_many"),
    [
        # After a Redis died: its connections lie in the pool, without a peer.
        ({"port 6379": 20, NO_PEER: MOST_TO_REDIS - 20}, False),
        ({"port 6379": 20, NO_PEER: MOST_TO_REDIS - 19}, True),
        ({"port 5000": MOST_SOCKETS}, False),
        ({"port 5000": MOST_SOCKETS + 1}, True),
        ({"pipe": 1_000}, False),
    ],
)
def test_sockets_without_a_peer_count_as_connections_to_redis(
    counts: dict[str, int], too_many: bool
) -> None:
    files = tuple(name for name, count in counts.items() for _ in range(count))
    held = Held(0, files, frozenset({"port 6379", "port 5000", NO_PEER}))
    assert has_too_many_sockets(held, {"port 6379"}) is too_many
