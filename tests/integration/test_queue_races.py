"""The queue when things happen twice, at once or in the wrong order.

redis-py sends a command again when the connection broke before its answer came, so each
script may run twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ledger.bench import BROKEN, Bench, push_request, sweep
from transship.model.jobs import JobId, State
from transship.model.records import ErrorInfo
from transship_config.errors import UsageError
from transship_worker.jobs.claim_results import Answer
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.retry import Backoff

pytestmark = pytest.mark.redis

DENIED = ErrorInfo(code="denied", message="no", retryable=False)


def said_twice(script: Callable[..., Any]) -> Callable[..., Any]:
    """A script whose first answer is lost, so that the client sends it again."""

    def twice(*args: Any, **kwargs: Any) -> Any:
        script(*args, **kwargs)
        return script(*args, **kwargs)

    return twice


def hearing_twice(bench: Bench) -> Claims:
    """A worker whose every first answer is lost."""
    claims = bench.worker("worker-1")
    claims._scripts = {name: said_twice(script) for name, script in claims._scripts.items()}  # type: ignore[misc]
    return claims


# Answers that were lost.


def test_a_claim_whose_answer_was_lost_is_the_same_claim_when_said_again(bench: Bench) -> None:
    job = bench.submit(push_request())

    result = bench.claim(job, hearing_twice(bench))

    assert result.answer is Answer.CLAIMED
    assert result.claim is not None
    assert result.claim.attempt == 1
    assert bench.succeed(result.claim).accepted


def test_a_submit_whose_answer_was_lost_is_no_duplicate_of_itself(bench: Bench) -> None:
    args = bench.ledger._submit_args(push_request(), JobId.new())
    bench.ledger._functions.call([("submit", args)])

    (again,) = bench.ledger._functions.call([("submit", args)])

    assert again[:2] == [args[2], 0]


def test_a_submit_said_again_after_its_claim_leaves_nothing_behind(bench: Bench) -> None:
    args = bench.ledger._submit_args(push_request(), JobId.new())
    job = JobId(args[2])
    bench.ledger._functions.call([("submit", args)])
    claim = bench.claimed(job)

    (again,) = bench.ledger._functions.call([("submit", args)])
    bench.succeed(claim)

    assert again[:2] == [job, 0]
    for index in ("queued", "expiry", "due:push.*", "target:registry.example.com/ml/train:1"):
        assert bench.redis.zscore(bench.keys.account("default") + index, job) is None, index


def test_a_finish_whose_answer_was_lost_still_names_the_next_job(bench: Bench) -> None:
    claim = bench.claimed(bench.submit(push_request()))
    following = bench.submit(push_request())

    finished = hearing_twice(bench).fail(claim, DENIED)

    assert (finished.accepted, finished.ring) == (True, following)


def test_a_job_handed_back_by_a_finish_said_twice_is_rung_for(bench: Bench) -> None:
    job = bench.submit(push_request())

    assert hearing_twice(bench).release(bench.claimed(job), "it stops").ring == job


def test_a_retry_by_hand_said_again_after_its_claim_is_no_second_retry(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.claims.fail(bench.claimed(job), DENIED)
    bench.ledger.retry(job)
    claim = bench.claimed(job)

    bench.ledger.retry(job)
    bench.succeed(claim)

    assert bench.record(job).state is State.SUCCEEDED
    assert bench.redis.exists(bench.keys.retry(job)) == 0


# Wishes that cross.


def test_a_withdrawn_job_retried_before_any_worker_heard_of_it_ends_as_it_ended(
    bench: Bench,
) -> None:
    job = bench.submit(push_request())
    bench.ledger.cancel(job)

    bench.ledger.retry(job)
    listed = bench.ledger.newest(State.QUEUED, lambda _: True, 10)
    bench.succeed(bench.claimed(job))

    assert [record.id for record in listed] == [job]
    assert bench.record(job).state is State.SUCCEEDED


def test_a_waiting_job_cancelled_and_retried_before_any_worker_heard_runs_at_once(
    bench: Bench,
) -> None:
    job = bench.submit(push_request())
    bench.claims.try_later(bench.claimed(job), BROKEN, 3600)
    bench.ledger.cancel(job)

    bench.ledger.retry(job)
    claim = bench.claimed(job)
    bench.succeed(claim)

    assert claim.attempt == 1
    assert bench.record(job).state is State.SUCCEEDED


def test_an_expired_job_retried_before_the_reaper_saw_it_is_not_lost(bench: Bench) -> None:
    job = bench.submit(push_request(expires_s=1))
    for index in ("queued", "expiry"):
        bench.redis.zadd(bench.keys.account("default") + index, {job: 1})
    assert bench.record(job).state is State.FAILED

    bench.ledger.retry(job)
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})

    assert bench.record(job).state is State.QUEUED
    assert sweep(bench) == [job]
    assert bench.claim(job).answer is Answer.CLAIMED


def test_a_job_retried_by_hand_is_not_forgotten_while_it_waits(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.claims.fail(bench.claimed(job), DENIED)
    bench.ledger.retry(job)
    bench.redis.zadd(bench.keys.retention, {job: 1})

    bench.claims.sweep()

    assert bench.claim(job).answer is Answer.CLAIMED


# The next one's turn.


def test_the_next_job_is_rung_for_when_the_first_is_given_up_with_its_worker(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"attempts": 1})
    first = bench.submit(push_request(labels={"n": "1"}))
    bench.claimed(first, bench.worker("lost"))
    following = bench.submit(push_request(labels={"n": "2"}))
    bench.let_lease_end(first)
    bench.claims = bench.worker("worker-1")

    assert sweep(bench) == [following]


def test_the_next_job_is_rung_for_when_the_first_expired(bench: Bench) -> None:
    first = bench.submit(push_request(labels={"n": "1"}))
    following = bench.submit(push_request(labels={"n": "2"}))
    bench.redis.zadd(bench.keys.account("default") + "expiry", {first: 1})

    assert sweep(bench) == [following]


def test_a_lost_bell_of_an_old_job_is_missed_soon_after_it_came_due(bench: Bench) -> None:
    job = bench.submit(push_request())
    claim = bench.claimed(job)
    bench.redis.hset(bench.keys.job(job), "created", "1")
    bench.claims.release(claim, "it stops")
    bench.redis.zadd(bench.keys.waiting("push.*"), {job: 1})
    seconds, _ = bench.redis.time()

    bench.claims.sweep()

    due = bench.redis.zscore(bench.keys.waiting("push.*"), job)
    assert due is not None
    assert due / 1000 - seconds < 30


def test_the_last_submit_for_a_target_is_the_last_to_run(bench: Bench) -> None:
    bench.submit(push_request(source="a:1"))
    bench.submit(push_request(source="b:1"))

    (again,) = bench.ledger.submit([push_request(source="a:1")])

    assert not again.deduplicated


def test_a_job_with_an_unreadable_request_is_not_retried_but_says_why(bench: Bench) -> None:
    job = JobId.new()
    bench.redis.set(bench.keys.request(job), "not json")

    with pytest.raises(UsageError, match="cannot be read"):
        bench.ledger.retry(job)


@pytest.mark.parametrize("asked", [1e12, 1e300, float("inf")])
def test_a_registry_that_asks_for_years_gets_a_day(bench: Bench, asked: float) -> None:
    job = bench.submit(push_request())
    delay_s = Backoff.of(bench.settings).delay_s(1, asked)

    bench.claims.try_later(bench.claimed(job), BROKEN, delay_s)

    record = bench.record(job)
    assert record.next_attempt_at is not None
    assert 86_000 < (record.next_attempt_at - record.created_at).total_seconds() < 87_000
