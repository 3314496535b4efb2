"""Who reads jobs and migrations fetches little of values that a producer made long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.integration.test_migration_ledger import Migration
from tests.support.ledger.bench import Bench, push_request
from transship.ledger.migrations import MigrationLedger
from transship.model.jobs import JobId, State
from transship.model.migration.request import MigrationRequest, Mode
from transship.model.records import ErrorInfo
from transship.model.requests import MIGRATION_HEAD
from transship.model.stored_text import REQUEST, SPECIFICATION
from transship_config.errors import UsageError

pytestmark = pytest.mark.redis

EVIL: Final = "evil"
MIB: Final = 1024 * 1024
#: What a list of a few jobs may bring, beside what is allowed of each. Unit: bytes.
LITTLE: Final = 256 * 1024
BROKEN: Final = ErrorInfo(code="denied", message="no", retryable=False)


@contextmanager
def bringing_at_most(bench: Bench, most: int) -> Iterator[None]:
    """Redis sends no more than that meanwhile. Unit: bytes."""
    before = bench.redis.info("stats")["total_net_output_bytes"]
    yield
    assert bench.redis.info("stats")["total_net_output_bytes"] - before < most


def listed(bench: Bench, body: str | bytes | Callable[[str], Any], name: str = "queued") -> JobId:
    """A job of the other account as it may write one."""
    job, base = JobId.new(EVIL), bench.keys.account(EVIL)
    if callable(body):
        body(bench.keys.request(job))
    else:
        bench.redis.set(bench.keys.request(job), body)
    bench.redis.sadd(bench.keys.accounts, EVIL)
    bench.redis.zadd(base + name, {job: time.time_ns() // 1_000_000})
    return job


def newest(bench: Bench) -> dict[str, Any]:
    return {job.id: job for job in bench.ledger.newest(None, lambda _: True, 100)}


def migrations(bench: Bench) -> MigrationLedger:
    return MigrationLedger(bench.redis, bench.keys, bench.ledger, bench.url)


@pytest.mark.parametrize(
    ("body", "image"),
    [
        ('{"image":"a.b/c:1","registry":"prod","more":"' + "x" * 4 * MIB + '"}', "?"),
        (MIGRATION_HEAD + ',"version":1,"mode":"run","name":"large",' + "x" * 2 * MIB, "large"),
    ],
    ids=["push", "migration"],
)
def test_a_request_that_is_too_long_is_listed_as_that_and_hides_no_other(
    bench: Bench, body: str, image: str
) -> None:
    mine = bench.submit(push_request())
    jobs = [listed(bench, body) for _ in range(3)]
    with bringing_at_most(bench, LITTLE):
        found = newest(bench)
    assert set(found) == {mine, *jobs}
    assert found[mine].state is State.QUEUED
    for job in jobs:
        assert found[job].state is State.FAILED
        assert found[job].error.code == "request_too_long"
        assert found[job].image == image


def test_a_long_request_that_is_none_too_long_is_listed_whole(bench: Bench) -> None:
    labels = {f"label{number}": "é" * 200 for number in range(30)}
    jobs = {bench.submit(push_request(str(number), labels=labels)) for number in range(40)}
    assert len(str(bench.redis.get(bench.keys.request(min(jobs))))) > 4_096
    found = newest(bench)
    assert set(found) == jobs
    assert all(record.labels == labels for record in found.values())


def test_of_a_page_of_long_requests_little_is_fetched_at_once(bench: Bench) -> None:
    """What one round trip brings is measured as the longest reply that Redis held for a client."""
    body = '{"image":"a.b/c:1","registry":"prod","labels":{"a":"' + "x" * (REQUEST.longest - 200)
    jobs = [listed(bench, body + '"}}') for _ in range(100)]
    sizes: list[int] = []
    execute = bench.redis.pipeline().__class__.execute

    class Counting(bench.redis.pipeline().__class__):  # type: ignore[misc]
        def execute(self, raise_on_error: bool = True) -> Any:
            replies = execute(self, raise_on_error)
            sizes.append(sum(len(one) for one in replies if isinstance(one, str)))
            return replies

    def pipeline(transaction: bool = True, shard_hint: Any = None) -> Any:
        return Counting(
            bench.redis.connection_pool, bench.redis.response_callbacks, transaction, shard_hint
        )

    bench.redis.pipeline = pipeline  # type: ignore[method-assign]
    assert len(bench.ledger.read(jobs)) == len(jobs)
    assert sum(sizes) > 4 * MIB
    assert max(sizes) <= MIB


@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_a_wish_of_any_length_is_no_time_and_is_not_fetched(bench: Bench, what: str) -> None:
    jobs = [listed(bench, push_request().to_stored()) for _ in range(3)]
    for job in jobs:
        bench.redis.set(f"{bench.keys.account(EVIL)}{what}:{job}", "1" * 4 * MIB)
    with bringing_at_most(bench, LITTLE):
        assert {job: newest(bench)[job].state for job in jobs} == dict.fromkeys(jobs, State.QUEUED)


def test_many_are_retried_beside_one_that_cannot_be_read(bench: Bench) -> None:
    migration = Migration(bench)
    jobs = migration.add(*(migration.row(number) for number in range(1, 5)))
    migration.all_planned()
    for job in jobs:
        bench.claims.fail(bench.claimed(job), BROKEN)
    long, foul, *good = jobs
    bench.redis.set(bench.keys.request(long), "x" * 8 * MIB)
    bench.redis.delete(bench.keys.request(foul))
    bench.redis.rpush(bench.keys.request(foul), "no text")

    with bringing_at_most(bench, LITTLE):
        asked = [job for job, _ in bench.ledger.retry_many(jobs)]
    assert asked == good
    with pytest.raises(UsageError, match=f"the request of job {long} cannot be read"):
        bench.ledger.retry_many([long, foul])


def test_long_and_foul_requests_of_migrations_hide_no_other(bench: Bench) -> None:
    mine = bench.submit(MigrationRequest(mode=Mode.RUN, name="mine", rows=1))
    head = MIGRATION_HEAD + ',"version":1,"mode":"plan","name":"large"'
    whole = [listed(bench, head + " " * (SPECIFICATION.longest - 100), "due:plan.*") for _ in "123"]
    long = [listed(bench, head + "x" * 4 * MIB, "due:plan.*") for _ in "123"]
    foul = listed(bench, lambda key: bench.redis.rpush(key, "no text"), "due:plan.*")
    bench.redis.zadd(bench.keys.due(EVIL, "plan.*"), {"nonsense": 1})
    bench.redis.sadd(bench.keys.accounts, "worse")
    bench.redis.set(bench.keys.due("worse", "plan.*"), "no set")

    with bringing_at_most(bench, LITTLE):
        found = {one.id: one for one in migrations(bench).newest(50)}
    assert set(found) == {mine, *whole, *long}
    assert foul not in found
    assert found[mine].state is State.QUEUED
    assert {(found[one].mode, found[one].name) for one in whole} == {("plan", "large")}
    assert {found[one].state for one in long} == {State.FAILED}
