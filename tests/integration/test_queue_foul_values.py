"""What a producer writes under its own prefix may be anything, and harms nobody else."""

from __future__ import annotations

import pytest

from tests.support.ledger.bench import Bench, push_request, sweep
from transship.model.jobs import JobId
from transship_worker.jobs.claim_results import Answer, Found

pytestmark = pytest.mark.redis


def test_a_request_that_is_not_text_stops_neither_reaper_nor_lists(bench: Bench) -> None:
    foul, good = JobId.new(), bench.submit(push_request("2"))
    base = bench.keys.account("default")
    bench.redis.set(bench.keys.request(foul), b'{"image":"\xff\xfe"}')
    bench.redis.zadd(base + "queued", {foul: 1})
    bench.redis.zadd(base + "due:push.*", {foul: 1, good: 2})

    assert set(sweep(bench)) == {foul, good}
    assert bench.claims.read(foul).found is Found.READ
    assert {r.id for r in bench.ledger.newest(None, lambda _: True, 10)} == {foul, good}


def test_a_request_of_another_type_stops_neither_reaper_nor_lists(bench: Bench) -> None:
    foul, good = JobId.new(), bench.submit(push_request("2"))
    base = bench.keys.account("default")
    bench.redis.hset(bench.keys.request(foul), "a", "b")
    bench.redis.zadd(base + "queued", {foul: 1})
    bench.redis.zadd(base + "due:push.*", {foul: 1, good: 2})

    assert good in sweep(bench)
    assert good in {r.id for r in bench.ledger.newest(None, lambda _: True, 10)}


@pytest.mark.parametrize(
    "key",
    [
        "queued",
        "expiry",
        "withdrawn",
        "queues",
        "due:push.*",
        "target:registry.example.com/ml/train:1",
    ],
)
def test_a_key_of_another_type_harms_only_its_own_account(bench: Bench, key: str) -> None:
    job = bench.submit(push_request())
    bench.submit(push_request("2"), account="evil")
    foul = bench.keys.account("evil") + key
    bench.redis.delete(foul)
    bench.redis.set(foul, "x")
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})

    assert job in sweep(bench)
    assert job in {r.id for r in bench.ledger.newest(None, lambda _: True, 10)}
    assert bench.claim(job).answer is Answer.CLAIMED


def test_a_queue_name_that_is_another_key_of_celerys_stops_no_sweep(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.submit(push_request("2"), account="evil")
    bench.redis.sadd(bench.keys.account("evil") + "queues", "unacked")
    bench.redis.hset(bench.keys.queue("unacked"), "a", "b")
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})

    assert job in sweep(bench)


@pytest.mark.parametrize("score", ["inf", "-inf", "1e300"])
def test_a_time_that_cannot_be_harms_no_list(bench: Bench, score: str) -> None:
    job = bench.submit(push_request())
    bench.redis.zadd(bench.keys.queued("default"), {job: score})

    before = {r.id for r in bench.ledger.newest(None, lambda _: True, 10)}
    bench.claim(job)
    after = {r.id for r in bench.ledger.newest(None, lambda _: True, 10)}

    assert before == after == {job}


def test_a_wish_that_is_no_time_harms_no_list(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.redis.set(bench.keys.cancel(job), "soon")

    assert {r.id for r in bench.ledger.newest(None, lambda _: True, 10)} == {job}


@pytest.mark.parametrize("member", ["nonsense", "00000000000000000000-default"])
def test_a_name_that_is_no_job_of_the_account_blocks_no_target(bench: Bench, member: str) -> None:
    job = bench.submit(push_request())
    other = bench.submit(push_request("2"))
    bench.submit(push_request("3"), account="evil")
    target = bench.keys.account("evil") + "target:registry.example.com/ml/train:1"
    bench.redis.zadd(target, {member: 1, other: 2})

    assert bench.claim(job).answer is Answer.CLAIMED
