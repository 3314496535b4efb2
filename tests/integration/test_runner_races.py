"""What a runner, and a whole worker, meets between two steps of a job."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import docker
import pytest
import redis

from tests.support.images.engine_images import make_image
from tests.support.ledger.bench import Bells, Bench, push_request
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from transship.errors import EngineUnavailable
from transship.model.jobs import Kind, State
from transship.model.rights import Rights, all_rights
from transship_worker.broker.slots import Lane
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.handlers.push import Pushing
from transship_worker.jobs.heartbeat import Heart
from transship_worker.jobs.runner import JobPostponed, Runner, Tools
from transship_worker.transports.engine.client import Engine, Guard

pytestmark = pytest.mark.redis


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
        self.registries: dict[str, BaseContainerRegistry] = {"prod": self._component}

    def registry(self, name: str) -> BaseContainerRegistry:
        return self._component

    def rights_of(self, account: str) -> Rights:
        return all_rights(account)


def runner_of(bench: Bench, engine: Engine, uri: str, bells: Bells) -> tuple[Runner, Tools]:
    pushing = Pushing(
        components=lambda: OneComponent(uri),
        engine=engine,
        engine_problem=lambda: None,
        engine_away=lambda _: None,
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
        job = bench.submit(push_request(image=name))
        look = engine.image_id

        def look_while_redis_goes(image: str, guard: Guard) -> str:
            way.refuse = 5
            way.cut()
            return look(image, guard)

        monkeypatch.setattr(engine, "image_id", look_while_redis_goes)

        runner.answer(job)

        assert way.refuse == 0
        assert bench.record(job).state is State.SUCCEEDED


def test_a_bell_taken_before_the_worker_was_told_to_stop_is_left_to_another(
    bench: Bench, engine: Engine
) -> None:
    bells = Bells()
    runner, tools = runner_of(bench, engine, "registry.example.com/ml", bells)
    job = bench.submit(push_request())
    tools.stopping.set()

    answer = runner.answer(job)

    assert answer.startswith("left to another worker")
    assert (bench.record(job).state, bells.rung) == (State.QUEUED, [job])


def test_a_worker_stopped_while_it_waits_for_its_engine_exits_and_leaves_the_job(
    tmp_path: Path, redis_url: str
) -> None:
    with DockerDaemon() as daemon, closing(Site(tmp_path, redis_url, daemon.url)) as site:
        site.write_catalog({"prod": {"flavor": "default", "uri": "127.0.0.1:1"}})
        worker = site.start_worker("--engine-name", "build-7", TRANSSHIP_GRACE="1")
        daemon.freeze()
        job = site.client.push("127.0.0.1:1/a/b:1", registry="prod", engine="build-7")
        eventually(lambda: job.record().state is State.RUNNING, what="a claim")
        os.kill(worker.pid, signal.SIGTERM)

        eventually(lambda: not worker.running, what="the worker's end")
        assert worker._process is not None
        assert worker._process.returncode == 0
        record = job.record()
        assert (record.state, record.error) == (State.QUEUED, None)


def test_an_engine_that_goes_away_under_a_claimed_job_costs_no_attempt(
    bench: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bells = Bells()
    runner, _ = runner_of(bench, engine, "registry.example.com/ml", bells)
    job = bench.submit(push_request())

    def gone(*_: object) -> str:
        raise EngineUnavailable("engine build-7 does not answer")

    monkeypatch.setattr(engine, "image_id", gone)
    monkeypatch.setattr(engine, "ping", gone)
    with pytest.raises(JobPostponed) as postponed:
        runner.answer(job)

    # Not at once, which would keep a slot busy for nothing.
    assert postponed.value.delay_s > 0
    assert bells.rung == []
    record = bench.record(job)
    assert (record.state, record.error) == (State.QUEUED, None)
    assert bench.claims.sweep().ring == []
    for key in bench.redis.scan_iter(f"{bench.keys.prefix}due:*"):
        bench.redis.zadd(key, {job: 1}, xx=True)
    assert [due.job for due in bench.claims.sweep().ring] == [job]
    (*_, last) = bench.ledger.events(job, "0", 1000)
    assert "engine build-7 does not answer" in str(last)


def test_an_engine_that_cannot_answer_for_one_image_costs_attempts(
    bench: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, _ = runner_of(bench, engine, "registry.example.com/ml", Bells())
    job = bench.submit(push_request())

    def broken(*_: object) -> str:
        raise EngineUnavailable("engine build-7 refused: its store is damaged")

    monkeypatch.setattr(engine, "image_id", broken)
    with pytest.raises(JobPostponed):
        runner.answer(job)

    # Else it would be handed back for ever, at the head of its target.
    record = bench.record(job)
    assert (record.state, bench.error_of(job)["code"]) == (State.RETRYING, EngineUnavailable.code)


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
        # One line a time: Celery's advice of what a later version does is no news.
        assert "DeprecationWarning" not in worker.log_text()


def _sockets(pid: int) -> int:
    links = [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return sum("socket" in str(link.readlink()) for link in links)


def _listens_anew(listening: Callable[[], set[str]], gone: set[str]) -> None:
    eventually(lambda: len(listening() - gone) == len(Lane), what="a new connection")
