"""Many workers want one job: one of them gets it."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.support.ledger.bench import Bench
from tests.support.servers.redis import RedisServer
from transship.ledger.connection import MOST_CONNECTIONS
from transship.model.jobs import JobId
from transship.model.push_request import PushRequest
from transship_config.settings import Settings
from transship_worker.catalog import Catalog
from transship_worker.jobs.claim_results import Answer
from transship_worker.process.runtime import Runtime

pytestmark = pytest.mark.redis

JOBS = 10_000


def test_two_workers_that_race_for_a_job_ten_thousand_times_get_one_claim_each() -> None:
    # Twenty thousand scripts: what they leave on a disk is no matter here.
    with RedisServer(arguments=["--appendonly", "no"]) as server:
        compete(server.url)


def compete(redis_url: str) -> None:
    requests = [
        PushRequest.model_validate(
            {"image": f"registry.example.com/race/image-{number}:1", "registry": "prod"}
        )
        for number in range(JOBS)
    ]
    benches = [Bench(redis_url, namespace="claim-races") for _ in range(2)]
    jobs = [one.job for one in benches[0].ledger.submit(requests)]
    line = threading.Barrier(2)
    won: list[dict[JobId, str]] = [{}, {}]
    lost: list[Counter[Answer]] = [Counter(), Counter()]

    def race(number: int) -> None:
        claims = benches[number].worker(f"worker-{number}")
        for job, request in zip(jobs, requests, strict=True):
            # Both are let go at once, for each job anew.
            line.wait(60)
            result = claims.claim(job, request, engine="build-7", flavor="default")
            if result.claim is not None:
                won[number][job] = result.claim.fence
            else:
                lost[number][result.answer] += 1

    racers = [threading.Thread(target=race, args=(number,)) for number in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)

    first, second = won
    assert first.keys() | second.keys() == set(jobs)
    assert not first.keys() & second.keys()
    assert {*first.values(), *second.values()} == {"1"}
    assert lost[0] + lost[1] == {Answer.RUNNING: JOBS}
    redis = benches[0].redis
    pipe = redis.pipeline(transaction=False)
    for job in jobs:
        pipe.hmget(benches[0].keys.job(job), "fence", "worker", "state")
    for job, record in zip(jobs, pipe.execute(), strict=True):
        assert record == ["1", f"worker-{0 if job in first else 1}", "running"]
    print(f"{JOBS} races: {len(first)} and {len(second)} won")  # noqa: T201 - shown with -s
    for bench in benches:
        bench.redis.close()


def test_every_slot_of_a_worker_has_a_connection_and_so_has_all_else(
    redis_url: str, tmp_path: Path
) -> None:
    settings = Settings.from_environment({"TRANSSHIP_URL": redis_url, "TRANSSHIP_COPIES": "128"})
    runtime = Runtime(settings, Catalog.open(tmp_path / "catalog.yaml"), None)
    claims, threads = runtime._claims, runtime.slots.threads
    assert threads > MOST_CONNECTIONS
    together = threading.Barrier(threads + 1, timeout=60)

    def hold() -> None:
        together.wait()
        claims.read(JobId("0" * 20))
        together.wait()
        together.wait()

    holders = [threading.Thread(target=hold, daemon=True) for _ in range(threads)]
    for one in holders:
        one.start()
    together.wait()
    together.wait()
    try:
        assert runtime._redis.ping()
    finally:
        together.wait()
        for one in holders:
            one.join()
        runtime._redis.close()
