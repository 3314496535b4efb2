"""Twenty thousand queued jobs: what they take, that listing them stays cheap, and that they end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.ledger.bench import Bench
from tests.support.servers.redis import RedisServer
from transship import Client, State
from transship.ledger.indexes import PAGE
from transship.model.push_request import PushRequest
from transship_config.settings import Settings
from transship_worker.jobs.sweep import SWEEP_MOST

pytestmark = pytest.mark.redis

JOBS = 20_000
#: About twice of what they take. Unit: bytes.
MOST_BYTES = 4_000
#: Reads of a record: its request, hash, two wishes and two places.
READS = 6


@pytest.fixture(scope="module")
def crowd() -> Iterator[Bench]:
    """A ledger with many jobs that no worker heard of, in a Redis of its own."""
    with RedisServer(arguments=["--appendonly", "no"]) as server:
        bench = Bench(server.url, Settings.from_environment({"TRANSSHIP_KEEP_FAILED": "1"}))
        yield bench
        bench.redis.close()


def used(client: redis.Redis) -> int:
    """Bytes that Redis holds."""
    return int(client.info("memory")["used_memory"])


def commands(client: redis.Redis) -> int:
    """Commands that it answered so far, those within scripts included."""
    stats: Any = client.info("commandstats")
    return sum(int(one["calls"]) for one in stats.values())


def let_pass(client: redis.Redis, key: str) -> None:
    """What the passing of time does to an order by time, without waiting for it."""
    client.zadd(key, dict.fromkeys(map(str, client.zrange(key, 0, -1)), 1))


def test_what_a_queued_job_takes_in_memory_is_bounded(crowd: Bench) -> None:
    before = used(crowd.redis)
    requests = [
        PushRequest.model_validate(
            {
                "image": f"registry.example.com/crowd/image-{number}:1",
                "registry": "prod",
                "labels": {"run": str(number)},
            }
        )
        for number in range(JOBS)
    ]
    assert len({one.job for one in crowd.ledger.submit(requests)}) == JOBS

    each = (used(crowd.redis) - before) / JOBS

    print(f"{JOBS} queued jobs: {each:.0f} bytes of Redis memory each")  # noqa: T201 - for -s
    assert each < MOST_BYTES


@pytest.mark.parametrize("limit", [1, 50, 500])
def test_a_list_of_some_reads_pages_and_not_the_crowd(crowd: Bench, limit: int) -> None:
    settings = {"TRANSSHIP_URL": crowd.url, "TRANSSHIP_NAMESPACE": crowd.namespace}
    with Client(settings=Settings.from_environment(settings)) as client:
        before = commands(crowd.redis)
        found = client.jobs(limit=limit)
        after = commands(crowd.redis)

    assert len(found) == limit
    assert [one.created_at for one in found] == sorted(one.created_at for one in found)[::-1]
    pages = -(-limit // PAGE) + 1
    # Each page: its records, the clock, and the ranges of a few indexes. And the connection's own.
    assert after - before <= pages * (PAGE * READS + 20) + 20


def test_a_state_that_no_job_has_is_listed_without_a_look_at_the_crowd(crowd: Bench) -> None:
    before = commands(crowd.redis)
    found = crowd.ledger.newest(State.RUNNING, lambda _: True, 50)

    assert found == []
    assert commands(crowd.redis) - before < 20


def test_old_ones_expire_and_are_forgotten(crowd: Bench) -> None:
    let_pass(crowd.redis, f"{crowd.keys.account('default')}expiry")
    expired = 0
    for _ in range(JOBS // SWEEP_MOST):
        expired += crowd.claims.sweep().expired

    assert expired == JOBS
    assert {one.state for one in crowd.ledger.newest(None, lambda _: True, 500)} == {State.FAILED}
    let_pass(crowd.redis, crowd.keys.retention)
    for _ in range(JOBS // SWEEP_MOST):
        crowd.claims.sweep()
    left = {str(key).removeprefix(crowd.keys.prefix) for key in crowd.redis.scan_iter()}
    # That equal requests are told apart ends by itself when they would have expired.
    left = {one for one in left if ":same:" not in one}
    assert left == {"accounts", "accounts:known", "functions"}
