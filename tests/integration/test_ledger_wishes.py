"""The ledger: what producers ask for later, cancel and retry; on a real Redis."""

from __future__ import annotations

import pytest

from tests.support.ledger.bench import BROKEN, Bench, push_request
from transship.errors import NotYours
from transship.model.jobs import State
from transship.model.records import ErrorInfo
from transship_worker.jobs.claim_results import Answer

pytestmark = pytest.mark.redis


def test_a_job_cancelled_before_a_claim_is_cancelled_at_once(bench: Bench) -> None:
    job = bench.submit(push_request())

    bench.ledger.cancel(job)

    assert bench.record(job).state is State.CANCELLED
    assert [r.id for r in bench.ledger.newest(State.CANCELLED, lambda _: True, 10)] == [job]
    assert bench.ledger.newest(State.QUEUED, lambda _: True, 10) == []
    assert bench.claim(job).answer is Answer.CANCELLED
    assert bench.record(job).state is State.CANCELLED


def test_a_withdrawn_job_holds_up_nobody(bench: Bench) -> None:
    first = bench.submit(push_request(labels={"n": "1"}))
    second = bench.submit(push_request(labels={"n": "2"}))

    bench.ledger.cancel(first)

    assert bench.claim(second).answer is Answer.CLAIMED


def test_a_running_job_hears_of_the_wish_to_cancel(bench: Bench) -> None:
    job = bench.submit(push_request())
    claim = bench.claimed(job)

    bench.ledger.cancel(job)

    assert bench.record(job).state is State.RUNNING
    assert bench.claims.report(claim) == (True, True)
    assert bench.claims.cancelled(claim).state is State.CANCELLED
    assert bench.error_of(job)["code"] == "cancelled"


def test_a_waiting_retry_is_cancelled_at_once(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.claims.try_later(bench.claimed(job), BROKEN, 60)

    bench.ledger.cancel(job)

    assert bench.record(job).state is State.CANCELLED
    assert bench.claim(job).answer is Answer.CANCELLED


def test_retrying_by_hand_keeps_the_id_and_the_history_and_counts_anew(bench: Bench) -> None:
    job = bench.submit(push_request())
    denied = ErrorInfo(code="denied", message="no", retryable=False)
    bench.claims.fail(bench.claimed(job), denied)
    failed = bench.record(job)
    before = bench.ledger.events(job, "0", 1)

    bench.ledger.retry(job)

    assert failed.state is State.FAILED
    assert failed.error == denied
    assert bench.record(job).state is State.QUEUED
    assert bench.claimed(job).attempt == 1
    after = bench.ledger.events(job, "0", 1)
    assert after[: len(before)] == before
    assert [e.state for e in after] == ["running", "failed", "queued", "running"]


def test_an_expired_job_never_retried_by_hand_can_be(bench: Bench) -> None:
    job = bench.submit(push_request(expires_s=1))
    bench.redis.zadd(bench.keys.account("default") + "expiry", {job: 1})
    bench.claims.sweep()
    assert bench.error_of(job)["code"] == "expired"

    bench.ledger.retry(job)

    assert bench.claim(job).answer is Answer.CLAIMED


def test_an_account_cancels_and_retries_only_its_own(bench: Bench) -> None:
    job = bench.submit(push_request(), account="ci")
    other = bench.producer("ml")

    with pytest.raises(NotYours, match="submitted by account 'ci'"):
        other.cancel(job)
    with pytest.raises(NotYours):
        other.retry(job)
    assert other.record(job).submitted_by == "ci"
