"""The ledger: what the reaper expires, forgets and rings for; on a real Redis."""

from __future__ import annotations

import pytest

from tests.support.ledger.bench import BROKEN, Bench, push_request
from tests.support.workers.command_line import publish
from transship.model.jobs import State
from transship_config.lanes import queue_name
from transship_worker.jobs.claim_results import Answer

pytestmark = pytest.mark.redis


def test_a_job_that_no_worker_starts_in_time_is_shown_and_ended_as_failed(bench: Bench) -> None:
    job = bench.submit(push_request(expires_s=1))
    for index in ("queued", "expiry"):
        bench.redis.zadd(bench.keys.account("default") + index, {job: 1})

    shown = bench.record(job)
    swept = bench.claims.sweep()

    assert shown.state is State.FAILED
    assert shown.error is not None
    assert shown.error.code == "expired"
    assert swept.expired == 1
    assert bench.error_of(job)["code"] == "expired"
    assert bench.claim(job).answer is Answer.FINAL


def test_a_job_that_no_worker_takes_up_again_expires_and_lets_the_next_one_run(
    bench: Bench,
) -> None:
    job = bench.submit(push_request(expires_s=60))
    bench.claimed(job)
    bench.let_lease_end(job)
    newer = bench.submit(push_request())
    bench.claims.sweep()
    assert bench.record(job).state is State.QUEUED
    bench.redis.zadd(bench.keys.expiry, {job: 1})

    swept = bench.claims.sweep()

    assert bench.error_of(job)["code"] == "expired"
    assert newer in [due.job for due in swept.ring]
    assert bench.claim(newer).answer is Answer.CLAIMED


def test_retention_deletes_every_key_of_a_job(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.succeed(bench.claimed(job))
    bench.redis.zadd(bench.keys.retention, {job: 1})

    assert bench.claims.sweep().forgotten == 1

    left = [key for key in bench.redis.scan_iter(f"{bench.namespace}:*") if job in str(key)]
    assert left == []
    assert bench.ledger.read([job]) == [None]
    for index in bench.redis.scan_iter(f"{bench.namespace}:*", _type="zset"):
        assert bench.redis.zscore(index, job) is None, index


def test_the_reaper_rings_for_what_has_no_bell_and_not_again_for_what_waits(bench: Bench) -> None:
    jobs = [bench.submit(push_request(str(n))) for n in range(5)]
    due = bench.keys.due("default", "push.*")
    bench.redis.zadd(due, dict.fromkeys(jobs, 1))
    queue = bench.keys.queue("push.*")
    bench.redis.lpush(queue, "bell", "bell", "bell")

    two_missing = bench.claims.sweep()
    bench.redis.zadd(due, dict.fromkeys(jobs, 1))
    bench.redis.lpush(queue, "bell", "bell")
    none_missing = bench.claims.sweep()

    assert len(two_missing.ring) == 2
    assert none_missing.ring == []


def test_a_rung_job_is_not_rung_again_at_the_next_sweep(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})

    assert [due.job for due in bench.claims.sweep().ring] == [job]
    assert bench.claims.sweep().ring == []


def test_a_due_retry_is_rung(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.claims.try_later(bench.claimed(job), BROKEN, 60)
    bench.redis.zadd(bench.keys.waiting("push.*"), {job: 1})

    ring = bench.claims.sweep().ring

    assert [(due.job, due.queue, due.attempt) for due in ring] == [(job, "push.*", 2)]


def test_the_queue_of_an_engine_is_looked_after_while_a_worker_listens(bench: Bench) -> None:
    queue = queue_name(bulk=False, engine="build-7")
    job = bench.submit(push_request(engine="build-7"))
    bench.redis.zadd(bench.keys.due("default", queue), {job: 1})
    assert bench.claims.sweep().ring == []

    publish(bench, queues=[queue])

    assert [due.job for due in bench.claims.sweep().ring] == [job]
    # A worker that died listens no more.
    bench.redis.zadd(bench.keys.listening, {queue: 1})
    bench.redis.zadd(bench.keys.due("default", queue), {job: 1})
    assert bench.claims.sweep().ring == []
