"""The queue when things happen twice, at once, in the wrong order or with foul values.

redis-py sends a command again when the connection broke before its answer came, so each
script may run twice; and what a producer writes under its own prefix may be anything.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
import redis

from longshore_config.errors import UsageError
from longshore_config.job import ErrorInfo, JobId, Kind, PushRequest, State
from longshore_config.keys import Keys
from longshore_worker.claims import Answer, Claims
from longshore_worker.control import Heart
from longshore_worker.flavors.base import BaseContainerRegistry
from longshore_worker.flavors.default import DefaultRegistry
from longshore_worker.fleet.pause_engine import EngineGate
from longshore_worker.pushing import Pushing
from longshore_worker.reaper import Reaper
from longshore_worker.retry import Backoff
from longshore_worker.runner import Runner, Tools
from longshore_worker.slots import Lane
from longshore_worker.transports.engine import Engine
from tests.support.dockerd import DockerDaemon
from tests.support.images import make_image
from tests.support.ledger import BROKEN, Bench
from tests.support.processes import eventually
from tests.support.proxy import TcpProxy
from tests.support.redis import RedisServer
from tests.support.registry import Registry
from tests.support.worker import Site

pytestmark = pytest.mark.redis

DENIED = ErrorInfo(code="denied", message="no", retryable=False)


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def push(tag: str = "1", **changes: Any) -> PushRequest:
    fields = {"image": f"registry.example.com/ml/train:{tag}", "registry": "prod"} | changes
    return PushRequest.model_validate(fields)


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


class Bells:
    """Stands for the doorbell: remembers what was rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, bells: Any) -> None:
        self.rung += [bell.job for bell in list(bells)]

    def close(self) -> None:
        return


def sweep(bench: Bench) -> list[str]:
    """One sweep of a reaper; the jobs it rang for."""
    bells = Bells()
    keys = Keys(bench.namespace)
    Reaper(bench.redis, keys, bench.claims, bells, name="r", period_s=1).sweep()  # type: ignore[arg-type]
    return bells.rung


# Answers that were lost.


def test_a_claim_whose_answer_was_lost_is_the_same_claim_when_said_again(bench: Bench) -> None:
    job = bench.submit(push())

    result = bench.claim(job, hearing_twice(bench))

    assert result.answer is Answer.CLAIMED
    assert result.claim is not None
    assert result.claim.attempt == 1
    assert bench.succeed(result.claim).accepted


def test_a_submit_whose_answer_was_lost_is_no_duplicate_of_itself(bench: Bench) -> None:
    args = bench.ledger._submit_args(push(), JobId.new())
    bench.ledger._submit(args=args)

    again = bench.ledger._submit(args=args)

    assert again[:2] == [args[3], 0]


def test_a_submit_said_again_after_its_claim_leaves_nothing_behind(bench: Bench) -> None:
    args = bench.ledger._submit_args(push(), JobId.new())
    job = JobId(args[3])
    bench.ledger._submit(args=args)
    claim = bench.claimed(job)

    again = bench.ledger._submit(args=args)
    bench.succeed(claim)

    assert again[:2] == [job, 0]
    for index in ("queued", "expiry", "due:push.*", "target:registry.example.com/ml/train:1"):
        assert bench.redis.zscore(bench.keys.account("default") + index, job) is None, index


def test_a_finish_whose_answer_was_lost_still_names_the_next_job(bench: Bench) -> None:
    claim = bench.claimed(bench.submit(push()))
    following = bench.submit(push())

    finished = hearing_twice(bench).fail(claim, DENIED)

    assert (finished.accepted, finished.ring) == (True, following)


def test_a_job_handed_back_by_a_finish_said_twice_is_rung_for(bench: Bench) -> None:
    job = bench.submit(push())

    assert hearing_twice(bench).release(bench.claimed(job), "it stops").ring == job


def test_a_retry_by_hand_said_again_after_its_claim_is_no_second_retry(bench: Bench) -> None:
    job = bench.submit(push())
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
    job = bench.submit(push())
    bench.ledger.cancel(job)

    bench.ledger.retry(job)
    listed = bench.ledger.newest(State.QUEUED, lambda _: True, 10)
    bench.succeed(bench.claimed(job))

    assert [record.id for record in listed] == [job]
    assert bench.record(job).state is State.SUCCEEDED


def test_a_waiting_job_cancelled_and_retried_before_any_worker_heard_runs_at_once(
    bench: Bench,
) -> None:
    job = bench.submit(push())
    bench.claims.try_later(bench.claimed(job), BROKEN, 3600)
    bench.ledger.cancel(job)

    bench.ledger.retry(job)
    claim = bench.claimed(job)
    bench.succeed(claim)

    assert claim.attempt == 1
    assert bench.record(job).state is State.SUCCEEDED


def test_an_expired_job_retried_before_the_reaper_saw_it_is_not_lost(bench: Bench) -> None:
    job = bench.submit(push(expires_s=1))
    for index in ("queued", "expiry"):
        bench.redis.zadd(bench.keys.account("default") + index, {job: 1})
    assert bench.record(job).state is State.FAILED

    bench.ledger.retry(job)
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})

    assert bench.record(job).state is State.QUEUED
    assert sweep(bench) == [job]
    assert bench.claim(job).answer is Answer.CLAIMED


def test_a_job_retried_by_hand_is_not_forgotten_while_it_waits(bench: Bench) -> None:
    job = bench.submit(push())
    bench.claims.fail(bench.claimed(job), DENIED)
    bench.ledger.retry(job)
    bench.redis.zadd(bench.keys.retention, {job: 1})

    bench.claims.sweep()

    assert bench.claim(job).answer is Answer.CLAIMED


# The next one's turn.


def test_the_next_job_is_rung_for_when_the_first_is_given_up_with_its_worker(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"attempts": 1})
    first = bench.submit(push(labels={"n": "1"}))
    bench.claimed(first, bench.worker("lost"))
    following = bench.submit(push(labels={"n": "2"}))
    bench.let_lease_end(first)
    bench.claims = bench.worker("worker-1")

    assert sweep(bench) == [following]


def test_the_next_job_is_rung_for_when_the_first_expired(bench: Bench) -> None:
    first = bench.submit(push(labels={"n": "1"}))
    following = bench.submit(push(labels={"n": "2"}))
    bench.redis.zadd(bench.keys.account("default") + "expiry", {first: 1})

    assert sweep(bench) == [following]


def test_a_lost_bell_of_an_old_job_is_missed_soon_after_it_came_due(bench: Bench) -> None:
    job = bench.submit(push())
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
    bench.submit(push(source="a:1"))
    bench.submit(push(source="b:1"))

    (again,) = bench.ledger.submit([push(source="a:1")])

    assert not again.deduplicated


def test_a_job_with_an_unreadable_request_is_not_retried_but_says_why(bench: Bench) -> None:
    job = JobId.new()
    bench.redis.set(bench.keys.request(job), "not json")

    with pytest.raises(UsageError, match="cannot be read"):
        bench.ledger.retry(job)


@pytest.mark.parametrize("asked", [1e12, 1e300, float("inf")])
def test_a_registry_that_asks_for_years_gets_a_day(bench: Bench, asked: float) -> None:
    job = bench.submit(push())
    delay_s = Backoff.of(bench.settings).delay_s(1, asked)

    bench.claims.try_later(bench.claimed(job), BROKEN, delay_s)

    record = bench.record(job)
    assert record.next_attempt_at is not None
    assert 86_000 < (record.next_attempt_at - record.created_at).total_seconds() < 87_000


# Foul values under a producer's own prefix.


def test_a_request_that_is_not_text_stops_neither_reaper_nor_lists(bench: Bench) -> None:
    foul, good = JobId.new(), bench.submit(push("2"))
    base = bench.keys.account("default")
    bench.redis.set(bench.keys.request(foul), b'{"image":"\xff\xfe"}')
    bench.redis.zadd(base + "queued", {foul: 1})
    bench.redis.zadd(base + "due:push.*", {foul: 1, good: 2})

    assert set(sweep(bench)) == {foul, good}
    assert bench.claims.request(foul) is not None
    assert {r.id for r in bench.ledger.newest(None, lambda _: True, 10)} == {foul, good}


def test_a_request_of_another_type_stops_neither_reaper_nor_lists(bench: Bench) -> None:
    foul, good = JobId.new(), bench.submit(push("2"))
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
    job = bench.submit(push())
    bench.submit(push("2"), account="evil")
    foul = bench.keys.account("evil") + key
    bench.redis.delete(foul)
    bench.redis.set(foul, "x")
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})

    assert job in sweep(bench)
    assert job in {r.id for r in bench.ledger.newest(None, lambda _: True, 10)}
    assert bench.claim(job).answer is Answer.CLAIMED


def test_a_queue_name_that_is_another_key_of_celerys_stops_no_sweep(bench: Bench) -> None:
    job = bench.submit(push())
    bench.submit(push("2"), account="evil")
    bench.redis.sadd(bench.keys.queues("evil"), "unacked")
    bench.redis.hset(bench.keys.queue("unacked"), "a", "b")
    bench.redis.zadd(bench.keys.due("default", "push.*"), {job: 1})

    assert job in sweep(bench)


@pytest.mark.parametrize("score", ["inf", "-inf", "1e300"])
def test_a_time_that_cannot_be_harms_no_list(bench: Bench, score: str) -> None:
    job = bench.submit(push())
    bench.redis.zadd(bench.keys.queued("default"), {job: score})

    before = {r.id for r in bench.ledger.newest(None, lambda _: True, 10)}
    bench.claim(job)
    after = {r.id for r in bench.ledger.newest(None, lambda _: True, 10)}

    assert before == after == {job}


def test_a_wish_that_is_no_time_harms_no_list(bench: Bench) -> None:
    job = bench.submit(push())
    bench.redis.set(bench.keys.cancel(job), "soon")

    assert {r.id for r in bench.ledger.newest(None, lambda _: True, 10)} == {job}


@pytest.mark.parametrize("member", ["nonsense", "00000000000000000000-default"])
def test_a_name_that_is_no_job_of_the_account_blocks_no_target(bench: Bench, member: str) -> None:
    job = bench.submit(push())
    other = bench.submit(push("2"))
    bench.submit(push("3"), account="evil")
    target = bench.keys.account("evil") + "target:registry.example.com/ml/train:1"
    bench.redis.zadd(target, {member: 1, other: 2})

    assert bench.claim(job).answer is Answer.CLAIMED


# What a runner meets between two steps.


class Flaky(TcpProxy):
    """A way to Redis that refuses as many connections as it is told to."""

    refuse = 0

    def connect(self, client: socket.socket) -> socket.socket | None:
        if self.refuse > 0:
            self.refuse -= 1
            return None
        return super().connect(client)


class OneComponent:
    """A catalogue of one component."""

    def __init__(self, uri: str) -> None:
        self._component = DefaultRegistry.model_validate({"name": "prod", "uri": uri})

    def registry(self, name: str) -> BaseContainerRegistry:
        return self._component


def runner_of(bench: Bench, engine: Engine, uri: str, bells: Bells) -> tuple[Runner, Tools]:
    pushing = Pushing(
        claims=bench.claims,
        components=OneComponent(uri),
        engine=engine,
        engine_problem=lambda: None,
        engines=lambda: [engine.name],
        streams=lambda: None,
        recall=lambda *_: None,
        gate=EngineGate(bench.redis, bench.keys, "worker-1"),
    )
    tools = Tools(
        settings=bench.settings,
        claims=bench.claims,
        heart=Heart(),
        work={Kind.PUSH: pushing}.get,
        doorbell=bells,  # type: ignore[arg-type]
        stopping=threading.Event(),
    )
    return Runner(tools), tools


def test_redis_away_right_after_a_claim_costs_only_time(
    redis_server: RedisServer,
    engine: Engine,
    docker_client: docker.DockerClient,
    plain_registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"{plain_registry.address}/races/away:1"
    make_image(docker_client, name)
    with Flaky(redis_server.port) as way:
        bench = Bench(f"redis://{way.address}/0")
        runner, _ = runner_of(bench, engine, plain_registry.address, Bells())
        job = bench.submit(push(image=name))
        look = engine.image_id

        def look_while_redis_goes(image: str) -> str:
            way.refuse = 5
            way.cut()
            return look(image)

        monkeypatch.setattr(engine, "image_id", look_while_redis_goes)

        runner.answer(job)

        assert way.refuse == 0
        assert bench.record(job).state is State.SUCCEEDED


def test_a_bell_taken_before_the_worker_was_told_to_stop_is_left_to_another(
    bench: Bench, engine: Engine
) -> None:
    bells = Bells()
    runner, tools = runner_of(bench, engine, "registry.example.com/ml", bells)
    job = bench.submit(push())
    tools.stopping.set()

    answer = runner.answer(job)

    assert answer.startswith("left to another worker")
    assert (bench.record(job).state, bells.rung) == (State.QUEUED, [job])


def test_a_worker_stopped_while_it_waits_for_its_engine_exits_and_leaves_the_job(
    tmp_path: Path, redis_url: str
) -> None:
    with DockerDaemon() as daemon, closing(Site(tmp_path, redis_url, daemon.url)) as site:
        site.write_catalog({"prod": {"flavor": "default", "uri": "127.0.0.1:1"}})
        worker = site.start_worker("--engine-name", "build-7")
        daemon.freeze()
        job = site.client.push("127.0.0.1:1/a/b:1", registry="prod", engine="build-7")
        queue = site.keys.queue("push.build-7")
        with redis.Redis.from_url(redis_url) as client:
            eventually(lambda: client.llen(queue) == 0, what="a taken bell")
        os.kill(worker.pid, signal.SIGTERM)
        eventually(lambda: "SIGTERM: no new jobs" in worker.log_text(), what="a drain")
        daemon.thaw()

        eventually(lambda: not worker.running, what="the worker's end")
        assert worker._process is not None
        assert worker._process.returncode == 0
        assert job.record().state is State.QUEUED
        assert job.record().attempts == 0


@pytest.mark.parametrize("bulk", [False, True])
def test_bytes_that_are_no_bell_do_not_end_a_worker(
    tmp_path: Path, redis_url: str, docker_url: str, bulk: bool
) -> None:
    with closing(Site(tmp_path, redis_url, docker_url)) as site:
        site.write_catalog({"prod": {"flavor": "default", "uri": "127.0.0.1:1"}})
        worker = site.start_worker("--engine-name", "build-7")
        queue = site.keys.queue("bulk.build-7" if bulk else "push.build-7")
        foul = [b"", b"\xff\xfe", b"nonsense", b"[]", b"null", b"{}", b"[" * 100_000]
        foul += [b'{"properties": []}', b'{"properties": {"delivery_tag": "t"}, "headers": "x"}']
        with redis.Redis.from_url(redis_url) as client:
            for message in foul:
                client.rpush(queue, message)

        job = site.client.push("127.0.0.1:1/a/b:1", registry="prod", engine="build-7", bulk=bulk)

        eventually(lambda: job.record().state.final, what="an answered bell")
        assert worker.running
        assert worker.log_text().count("a message that is no bell was dropped") >= 7


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts sockets in /proc")
def test_a_broker_connection_that_breaks_again_and_again_leaves_no_socket(tmp_path: Path) -> None:
    with RedisServer() as server, closing(Site(tmp_path, server.url, "unix:///nowhere")) as site:
        worker = site.start_worker("--engine-name", "build-7")

        with server.client() as client:

            def listening() -> set[str]:
                return {c["id"] for c in client.client_list() if c["cmd"] == "brpop"}

            eventually(lambda: len(listening()) == len(Lane), what="a worker that listens")
            before = _sockets(worker.pid)
            for _ in range(8):
                gone = listening()
                for one in gone:
                    client.client_kill_filter(_id=one)
                _listens_anew(listening, gone)
            after = _sockets(worker.pid)

        assert after <= before + 3


def _sockets(pid: int) -> int:
    links = [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return sum("socket" in str(link.readlink()) for link in links)


def _listens_anew(listening: Callable[[], set[str]], gone: set[str]) -> None:
    eventually(lambda: len(listening() - gone) == len(Lane), what="a new connection")
