"""What an account puts before a target that it may not write holds up and ends no job there."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tests.support.ledger.bench import BROKEN, Bench, push_request
from transship.model.jobs import JobId, State
from transship_worker.jobs.claim_results import Answer, ClaimResult

pytestmark = pytest.mark.redis

A, B = "team_a", "team_b"


def claim(bench: Bench, job: JobId, writers: Collection[str] | None) -> ClaimResult:
    return bench.claims.claim(
        job, push_request(), engine="build-7", flavor="default", writers=writers
    )


def forged(bench: Bench) -> JobId:
    """Team B's request for team A's target, which no worker takes: no engine is called so."""
    return bench.submit(push_request(engine="nowhere"), B)


@pytest.mark.parametrize(("writers", "answer"), [(None, Answer.BEHIND), ({A}, Answer.CLAIMED)])
def test_an_older_job_of_an_account_without_the_right_holds_up_nobody(
    bench: Bench, writers: set[str] | None, answer: Answer
) -> None:
    older = forged(bench)
    job = bench.submit(push_request(), A)

    assert claim(bench, job, writers).answer is answer

    # Not for the next job of the target either, whoever rings for it.
    target = f"{bench.keys.account(B)}target:{push_request().image}"
    assert bench.redis.zrange(target, 0, -1) == ([older] if writers is None else [])
    refused = bench.redis.hget(bench.keys.refused, "target_entry")
    assert refused == (None if writers is None else "1")


@pytest.mark.parametrize(("writers", "answer"), [(None, Answer.CANCELLED), (set(), Answer.CLAIMED)])
def test_a_newer_job_of_an_account_without_the_right_supersedes_nobody(
    bench: Bench, writers: set[str] | None, answer: Answer
) -> None:
    job = bench.submit(push_request(), A)
    found = claim(bench, job, writers).claim
    assert found
    bench.claims.try_later(found, BROKEN, 0)
    forged(bench)
    bench.let_retry_come_due(job)

    assert claim(bench, job, writers).answer is answer
    state = State.CANCELLED if writers is None else State.RUNNING
    assert bench.ledger.record(job).state is state


def test_jobs_of_accounts_that_may_write_keep_their_order(bench: Bench) -> None:
    first = bench.submit(push_request(), B)
    second = bench.submit(push_request(), A)

    assert claim(bench, second, {A, B}).answer is Answer.BEHIND
    assert claim(bench, first, {A, B}).answer is Answer.CLAIMED
