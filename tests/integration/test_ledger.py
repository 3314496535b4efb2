"""The ledger: submit, claim, finish, list; on a real Redis."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.ledger.bench import BROKEN, Bench, push_request
from transship.model.jobs import JobId, State, Step
from transship.model.records import ErrorInfo, Progress
from transship_config.settings import Settings
from transship_worker.jobs.claim_results import Answer

pytestmark = pytest.mark.redis


def test_a_submitted_job_is_queued_and_carries_its_request(bench: Bench) -> None:
    job = bench.submit(push_request(labels={"run": "42"}, source="train:42"))

    record = bench.record(job)

    assert record.state is State.QUEUED
    assert record.image == "registry.example.com/ml/train:1"
    assert (record.source, record.labels, record.submitted_by) == (
        "train:42",
        {"run": "42"},
        "default",
    )
    assert record.attempts == 0
    assert record.started_at is None


def test_a_claimed_job_runs_and_a_finished_one_keeps_its_digest(bench: Bench) -> None:
    job = bench.submit(push_request())
    claim = bench.claimed(job)
    running = bench.record(job)

    finished = bench.succeed(claim)

    assert (running.state, running.step) == (State.RUNNING, Step.PREPARING)
    assert (running.worker, running.engine, running.flavor) == ("worker-1", "build-7", "default")
    assert finished.accepted
    record = bench.record(job)
    assert (record.state, record.attempts) == (State.SUCCEEDED, 1)
    assert record.pinned == "registry.example.com/ml/train@sha256:" + "a" * 64
    assert record.error is None
    assert record.finished_at is not None


def test_two_workers_racing_for_many_jobs_claim_each_once(bench: Bench) -> None:
    jobs = [bench.submit(push_request(str(number))) for number in range(150)]
    claimed: dict[str, list[JobId]] = {"a": [], "b": []}
    start = threading.Barrier(2)

    def race(name: str) -> None:
        claims = bench.worker(name)
        start.wait()
        for job in jobs:
            if bench.claim(job, claims).claim is not None:
                claimed[name].append(job)

    threads = [threading.Thread(target=race, args=(name,)) for name in claimed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(claimed["a"] + claimed["b"]) == sorted(jobs)


def test_an_equal_submit_returns_the_job_that_is_still_queued(bench: Bench) -> None:
    first = bench.submit(push_request())

    (second,) = bench.ledger.submit([push_request()])

    assert (second.job, second.deduplicated) == (first, True)


@pytest.mark.parametrize("other", [{"labels": {"a": "b"}}, {"source": "x"}, {"bulk": True}])
def test_a_submit_that_differs_is_a_job_of_its_own(bench: Bench, other: dict[str, Any]) -> None:
    first = bench.submit(push_request())

    assert bench.submit(push_request(**other)) != first


def test_a_claimed_job_absorbs_nothing_and_the_second_push_runs_after_it(bench: Bench) -> None:
    first = bench.submit(push_request())
    claim = bench.claimed(first)

    second = bench.submit(push_request())
    while_running = bench.claim(second)
    finished = bench.succeed(claim)
    after = bench.claim(second)

    assert (while_running.answer, while_running.detail) == (Answer.BEHIND, first)
    assert finished.ring == second
    assert after.answer is Answer.CLAIMED


def test_jobs_for_one_target_run_in_the_order_of_submission_across_accounts(bench: Bench) -> None:
    first = bench.submit(push_request(labels={"n": "1"}), account="ci")
    second = bench.submit(push_request(labels={"n": "2"}), account="ml")
    third = bench.submit(push_request(labels={"n": "3"}), account="ci")

    assert bench.claim(third).detail == first
    assert bench.claim(second).detail == first
    bench.succeed(bench.claimed(first))
    assert bench.claim(third).detail == second
    bench.succeed(bench.claimed(second))
    assert bench.claim(third).answer is Answer.CLAIMED


def test_jobs_for_other_targets_do_not_wait(bench: Bench) -> None:
    bench.claimed(bench.submit(push_request("1")))

    assert bench.claim(bench.submit(push_request("2"))).answer is Answer.CLAIMED


def test_a_claim_tells_how_long_ago_its_job_was_submitted(bench: Bench) -> None:
    job = bench.submit(push_request())
    queued = bench.keys.account("default") + "queued"
    bench.redis.zincrby(queued, -60_000, job)

    first = bench.claimed(job)
    assert 60 <= time.monotonic() - first.since < 90
    # Also at a later attempt.
    bench.claims.try_later(first, BROKEN, 0.0)
    bench.let_retry_come_due(job)
    assert 60 <= time.monotonic() - bench.claimed(job).since < 90


def test_only_the_current_claim_may_finish(bench: Bench) -> None:
    job = bench.submit(push_request())
    frozen = bench.claimed(job)
    bench.let_lease_end(job)
    bench.claims.sweep()
    current = bench.claimed(job, bench.worker("worker-2"))

    late = bench.succeed(frozen, digest="sha256:" + "b" * 64)
    good = bench.succeed(current)

    assert not late.accepted
    assert good.accepted
    assert bench.record(job).digest == "sha256:" + "a" * 64


def test_a_finish_whose_answer_was_lost_may_be_said_again(bench: Bench) -> None:
    claim = bench.claimed(bench.submit(push_request()))
    bench.succeed(claim)

    assert bench.succeed(claim).accepted


def test_a_claim_with_a_guessed_counter_is_refused_for_its_token(bench: Bench) -> None:
    job = bench.submit(push_request())
    claim = bench.claimed(job)
    forged = type(claim)(job, claim.fence, "0" * 32, 1, "")

    assert not bench.succeed(forged).accepted
    assert bench.claims.report(forged) == (False, False)
    assert bench.record(job).state is State.RUNNING


def test_an_ended_lease_puts_the_job_back_and_counts_an_attempt(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.claimed(job)
    bench.let_lease_end(job)

    swept = bench.claims.sweep()

    assert swept.lost == 1
    assert [due.job for due in swept.ring] == [job]
    assert bench.record(job).state is State.QUEUED
    assert bench.claimed(job).attempt == 2


def test_a_poison_job_ends_after_its_attempts_and_says_so(redis_url: str) -> None:
    bench = Bench(redis_url, Settings.from_environment({"TRANSSHIP_ATTEMPTS": "3"}))
    job = bench.submit(push_request())
    for _ in range(3):
        bench.claimed(job)
        bench.let_lease_end(job)
        bench.claims.sweep()

    error = bench.error_of(job)

    assert bench.record(job).state is State.FAILED
    assert error["code"] == "worker_lost"
    assert "given up after 3 attempts" in str(error["message"])
    assert bench.claim(job).answer is Answer.FINAL


def test_a_failure_that_may_be_retried_waits_and_is_never_shown_as_failed(bench: Bench) -> None:
    job = bench.submit(push_request())

    bench.claims.try_later(bench.claimed(job), BROKEN, 60)

    record = bench.record(job)
    assert record.state is State.RETRYING
    assert record.error == BROKEN
    assert record.next_attempt_at is not None
    assert bench.claim(job).answer is Answer.NOT_DUE
    bench.let_retry_come_due(job)
    assert bench.claimed(job).attempt == 2


def test_an_older_job_that_waits_to_be_retried_is_superseded_by_a_newer_one(bench: Bench) -> None:
    older = bench.submit(push_request())
    bench.claims.try_later(bench.claimed(older), BROKEN, 60)

    newer = bench.submit(push_request())

    assert bench.claim(newer).answer is Answer.CLAIMED
    assert bench.record(older).state is State.CANCELLED
    assert bench.error_of(older)["code"] == "superseded"


def test_a_job_that_fails_while_a_newer_one_waits_is_superseded_at_once(bench: Bench) -> None:
    older = bench.submit(push_request())
    claim = bench.claimed(older)
    newer = bench.submit(push_request())

    finished = bench.claims.try_later(claim, BROKEN, 60)

    assert finished.state is State.CANCELLED
    assert finished.ring == newer


def test_a_job_handed_back_is_queued_and_no_attempt_is_counted(bench: Bench) -> None:
    job = bench.submit(push_request())

    finished = bench.claims.release(bench.claimed(job), "the worker stops")

    assert (finished.state, finished.ring) == (State.QUEUED, job)
    assert bench.claimed(job).attempt == 1


def test_jobs_are_listed_newest_first_by_state_and_by_filter(bench: Bench) -> None:
    jobs = [bench.submit(push_request(str(n), labels={"parity": str(n % 2)})) for n in range(6)]
    bench.claimed(jobs[2])
    bench.succeed(bench.claimed(jobs[3]))

    everything = bench.ledger.newest(None, lambda _: True, 10)
    queued = bench.ledger.newest(State.QUEUED, lambda r: r.labels["parity"] == "1", 10)
    few = bench.ledger.newest(None, lambda _: True, 2)

    assert sorted(r.id for r in everything) == sorted(jobs)
    assert [r.created_at for r in everything] == sorted(
        (r.created_at for r in everything), reverse=True
    )
    assert {r.id for r in queued} == {jobs[1], jobs[5]}
    assert len(few) == 2
    assert [r.id for r in bench.ledger.newest(State.RUNNING, lambda _: True, 9)] == [jobs[2]]
    assert [r.id for r in bench.ledger.newest(State.SUCCEEDED, lambda _: True, 9)] == [jobs[3]]


def test_thousands_of_jobs_are_submitted_in_order(bench: Bench) -> None:
    requests = [push_request(str(number)) for number in range(2_000)]

    submitted = bench.ledger.submit(requests)

    records = bench.ledger.read([s.job for s in submitted])
    assert [r.image for r in records if r] == [str(r.image) for r in requests]


def test_progress_and_steps_are_written_under_the_claim(bench: Bench) -> None:
    job = bench.submit(push_request())
    claim = bench.claimed(job)
    progress = Progress(bytes_done=5, bytes_total=10, layers_done=1, layers_total=2)

    bench.claims.report(claim, step="pushing", progress=progress, warnings=["look"])

    record = bench.record(job)
    assert (record.step, record.progress) == (Step.PUSHING, progress)
    assert record.warnings == ["look"]
    assert [(e.kind, e.step) for e in bench.ledger.events(job, "0", 1)] == [
        ("state", "preparing"),
        ("step", "pushing"),
    ]


def test_a_request_that_no_worker_can_read_ends_as_failed(bench: Bench) -> None:
    job = JobId.new()
    bench.redis.set(bench.keys.request(job), "not json")
    invalid = ErrorInfo(code="invalid_request", message="not JSON", retryable=False)

    assert bench.claims.reject(job, invalid)

    assert bench.record(job).state is State.FAILED
    assert bench.error_of(job)["code"] == "invalid_request"


def test_every_key_of_the_ledger_is_in_the_documented_table(bench: Bench) -> None:
    import re

    import transship.ledger.keys as keys_module

    ci = "ci"
    jobs = [bench.submit(push_request(str(n)), account=ci) for n in range(4)]
    bench.succeed(bench.claimed(jobs[0]))
    bench.claims.try_later(bench.claimed(jobs[1]), BROKEN, 9)
    bench.claimed(jobs[2])
    bench.producer(ci).cancel(jobs[3])
    bench.claims.count_refused("test")
    table = re.findall(r"^``([^`]+)``\s+(\w+)", keys_module.__doc__ or "", re.MULTILINE)
    assert len(table) > 15
    patterns = [
        (re.compile(re.sub(r"[A-Z]{2,}|\bA\b", ".+", re.escape(name)).replace(r"\*", ".*")), kind)
        for name, kind in table
    ]

    for key in bench.redis.scan_iter(f"{bench.namespace}:*"):
        name = str(key).removeprefix(f"{bench.namespace}:")
        kinds = {kind for pattern, kind in patterns if pattern.fullmatch(name)}
        assert bench.redis.type(key) in kinds, name
