"""How a worker reads a request: not if it is too long, and never without a trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ledger.bench import Bench, push_request, sweep
from transship.model.jobs import JobId, State
from transship.model.records import ErrorInfo
from transship.model.requests import MIGRATION_HEAD, parse_request
from transship.model.stored_text import REQUEST, SPECIFICATION
from transship_worker.jobs.claim_results import Answer, Body, Found
from transship_worker.jobs.claims import Claims

pytestmark = pytest.mark.redis

IMAGE = "registry.example.com/ml/train:1"
PROBLEM = ErrorInfo(code="invalid_request", message="it is none", retryable=False)


def write(bench: Bench, job: JobId, body: str) -> None:
    bench.redis.set(bench.keys.request(job), body)


def let_reading_end(bench: Bench, job: JobId) -> None:
    """What the passing of time does, without waiting for it."""
    bench.redis.pexpire(bench.keys.reading(job), 600_000)


def lose_reader(bench: Bench, job: JobId, reader: Claims | None = None) -> None:
    """A worker begins to read, and is never heard of again."""
    assert (reader or bench.claims).read(job).found is Found.READ
    let_reading_end(bench, job)


def test_a_push_of_more_than_64_kib_is_refused_unread(bench: Bench) -> None:
    job = bench.submit(push_request())
    body = str(bench.redis.get(bench.keys.request(job)))
    write(bench, job, body.ljust(REQUEST.longest))
    assert bench.claims.read(job).found is Found.READ
    bench.claims.unread(job)
    write(bench, job, body.ljust(REQUEST.longest + 1))
    assert bench.claims.read(job) == Body(Found.LONG, count=REQUEST.longest + 1)
    assert bench.claims.read(job, whole=True) == Body(Found.LONG, count=REQUEST.longest + 1)
    assert not bench.redis.exists(bench.keys.reading(job))


def test_a_specification_is_read_alone_up_to_1_mib(bench: Bench) -> None:
    job = bench.submit(push_request())
    write(bench, job, MIGRATION_HEAD.ljust(SPECIFICATION.longest))
    assert bench.claims.read(job).found is Found.LARGE
    assert len(bench.claims.read(job, whole=True).text) == SPECIFICATION.longest
    bench.claims.unread(job)
    write(bench, job, MIGRATION_HEAD.ljust(SPECIFICATION.longest + 1))
    for whole in (False, True):
        found = bench.claims.read(job, whole=whole).found
        assert found is (Found.LONG if whole else Found.LARGE)


def test_what_is_no_text_is_not_read(bench: Bench) -> None:
    job = bench.submit(push_request())
    write(bench, job, "")
    assert bench.claims.read(job).found is Found.UNREADABLE
    bench.redis.delete(bench.keys.request(job))
    assert bench.claims.read(job).found is Found.UNKNOWN
    bench.redis.hset(bench.keys.request(job), "a", "b")
    assert bench.claims.read(job).found is Found.UNREADABLE
    assert not bench.redis.exists(bench.keys.reading(job))


@pytest.mark.parametrize("end", ["claim", "reject", "defer", "leave", "unread"])
def test_what_comes_of_a_reading_ends_it(bench: Bench, end: str) -> None:
    job = bench.submit(push_request())
    body = bench.claims.read(job)
    assert bench.redis.pttl(bench.keys.reading(job)) > 0
    request = parse_request(body.text)
    ends: dict[str, Callable[[], object]] = {
        "claim": lambda: bench.claims.claim(job, request, engine="e", flavor="f"),
        "reject": lambda: bench.claims.reject(job, PROBLEM),
        "defer": lambda: bench.claims.defer(job, request),
        "leave": lambda: bench.claims.leave(job),
        "unread": lambda: bench.claims.unread(job),
    }
    ends[end]()
    assert not bench.redis.exists(bench.keys.reading(job))


def test_one_worker_reads_a_request_at_a_time_and_that_costs_nothing(bench: Bench) -> None:
    job = bench.submit(push_request())
    for _ in range(bench.settings.attempts + 1):
        assert bench.claims.read(job).found in {Found.READ, Found.READING}
    assert bench.worker("worker-2").read(job) == Body(Found.READING, worker="worker-1")
    assert bench.claims.claim(job, push_request(), engine="e", flavor="f").answer is Answer.CLAIMED
    assert bench.record(job).attempts == 1


def test_a_job_whose_readers_go_silent_stops_after_its_attempts(bench: Bench) -> None:
    job = bench.submit(push_request())
    for number in range(bench.settings.attempts):
        lose_reader(bench, job, bench.worker(f"worker-{number}"))
    last = bench.worker("another")
    body = last.read(job)
    assert body == Body(
        Found.LOST,
        worker=f"worker-{bench.settings.attempts - 1}",
        count=bench.settings.attempts,
    )
    assert last.give_up(job, body)
    assert not last.give_up(job, body)

    record = bench.record(job)
    assert (record.state, record.attempts) == (State.FAILED, bench.settings.attempts)
    assert bench.error_of(job) == {
        "code": "worker_lost",
        "message": f"given up after {record.attempts} attempts; the last: worker {body.worker} "
        "went silent while it read the request",
        "retryable": False,
    }
    # Nobody is told of it again, and the next one for its target runs.
    assert sweep(bench) == []
    assert bench.claim(bench.submit(push_request())).answer is Answer.CLAIMED


def test_silent_readers_and_lost_claims_are_counted_together(bench: Bench) -> None:
    job = bench.submit(push_request())
    lose_reader(bench, job)
    assert bench.claimed(job).attempt == 2
    bench.let_lease_end(job)
    bench.claims.sweep()
    for _ in range(bench.settings.attempts - 2):
        lose_reader(bench, job)
    body = bench.claims.read(job)
    assert body.found is Found.LOST
    assert bench.claims.give_up(job, body)
    assert bench.record(job).attempts == bench.settings.attempts


def test_a_job_that_is_tried_again_by_hand_is_counted_anew(bench: Bench) -> None:
    job = bench.submit(push_request())
    for _ in range(bench.settings.attempts):
        lose_reader(bench, job)
    bench.claims.give_up(job, bench.claims.read(job))
    bench.ledger.retry(job)
    assert bench.claimed(job).attempt == 1


def test_a_running_job_is_not_ended_by_those_who_read_it_again(bench: Bench) -> None:
    job = bench.submit(push_request())
    claim = bench.claimed(job)
    for _ in range(bench.settings.attempts):
        lose_reader(bench, job)
    body = bench.claims.read(job)
    assert body.found is Found.LOST
    assert not bench.claims.give_up(job, body)
    assert bench.succeed(claim).accepted


def test_a_request_that_is_refused_while_it_waits_for_its_retry_ends(bench: Bench) -> None:
    job = bench.submit(push_request())
    bench.claims.try_later(bench.claimed(job), PROBLEM, 60)
    write(bench, job, "no JSON any more")
    assert bench.claims.reject(job, PROBLEM)
    assert bench.record(job).state is State.FAILED
    assert sweep(bench) == []


def test_a_wish_to_retry_what_nobody_can_read_is_dropped(bench: Bench) -> None:
    job = bench.submit(push_request())
    assert bench.claims.reject(job, PROBLEM)
    bench.ledger.retry(job)
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})
    assert not bench.claims.reject(job, PROBLEM)
    assert sweep(bench) == []
    assert bench.record(job).state is State.FAILED


def test_the_reaper_finds_the_queue_without_the_request(bench: Bench) -> None:
    first = bench.submit(push_request())
    second = bench.submit(push_request(bulk=True))
    # A worker could not bear to read this one.
    write(bench, second, "{" * SPECIFICATION.longest)
    claim = bench.claimed(first)
    assert bench.succeed(claim).ring == second
    assert bench.claims.queue_of(second) == ("bulk.*", second)
    assert bench.claims.queue_of(first) == ("push.*", "registry.example.com/ml/train:1 → prod")


@pytest.mark.parametrize("place", ["due:push.nowhere", "due:celery", "nothing"])
def test_a_job_without_a_place_in_a_queue_is_looked_into_by_any_worker(
    bench: Bench, place: str
) -> None:
    job = bench.submit(push_request())
    base = bench.keys.account("default")
    bench.redis.delete(f"{base}due:push.*")
    if place != "nothing":
        bench.redis.zadd(base + place, {job: 1})
    assert bench.claims.queue_of(job) == ("push.*", job)
    assert bench.claim(job).answer is Answer.CLAIMED


def test_a_sweep_parses_no_request(bench: Bench) -> None:
    jobs = [bench.submit(push_request(str(number))) for number in range(20)]
    deep = json.dumps({"image": "registry.example.com/a:1"})[:-1] + ',"a":' + "[" * 60_000
    for job in jobs:
        write(bench, job, deep)
        bench.redis.zadd(bench.keys.account("default") + "expiry", {job: 1})
        bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})
    bench.redis.config_resetstat()
    sweep(bench)
    stats: Any = bench.redis.info("commandstats")
    assert "cmdstat_get" not in stats
    assert not bench.redis.exists(bench.keys.account("default") + "expiry")
    assert {bench.record(job).state for job in jobs} == {State.FAILED}
    assert {bench.error_of(job)["code"] for job in jobs} == {"expired"}


@pytest.mark.parametrize("body", ["{", "x" * 100_000, None])
@pytest.mark.parametrize("engine", [None, "gone"])
def test_what_expires_unread_leaves_its_queue_and_lets_the_next_one_run(
    bench: Bench, body: str | None, engine: str | None
) -> None:
    first = bench.submit(push_request(engine=engine, labels={"n": "1"}))
    following = bench.submit(push_request(labels={"n": "2"}))
    bench.redis.delete(bench.keys.request(first))
    if body is None:
        bench.redis.rpush(bench.keys.request(first), "no text")
    else:
        write(bench, first, body)
    bench.redis.zadd(bench.keys.account("default") + "expiry", {first: 1})

    assert sweep(bench) == [following]

    fields = bench.redis.hgetall(bench.keys.job(first))
    assert (fields["image"], fields["queue"]) == (IMAGE, f"push.{engine or '*'}")
    bench.succeed(bench.claimed(following))
    # That equal requests are told apart ends by itself.
    names = bench.redis.keys(bench.keys.account("default") + "*")
    assert {str(name).split(":")[3] for name in names} <= {"request", "same"}


@pytest.mark.parametrize(
    "route", [None, "", "push.*", "push.* ", "p\n.* a:1", "push.* a\x1b:1", "push.* " + "a" * 9_999]
)
def test_what_expires_without_a_usable_route_ends_as_well(bench: Bench, route: str | None) -> None:
    """An older producer wrote none; others may write anything."""
    job = bench.submit(push_request())
    bench.redis.delete(bench.keys.route(job))
    if route is not None:
        bench.redis.set(bench.keys.route(job), route)
    bench.redis.zadd(bench.keys.account("default") + "expiry", {job: 1})

    assert bench.claims.sweep().expired == 1
    assert bench.error_of(job)["code"] == "expired"
    assert bench.redis.hget(bench.keys.job(job), "image") == "?"
    assert bench.claims.queue_of(job) == ("push.*", job)
    assert not bench.redis.exists(bench.keys.due("default", "push.*"))

    bench.ledger.retry(job)
    assert bench.succeed(bench.claimed(job)).state is State.SUCCEEDED
    # That equal requests are told apart ends by itself.
    names = bench.redis.keys(bench.keys.account("default") + "*")
    assert {str(name).split(":")[3] for name in names} <= {"request", "same"}
