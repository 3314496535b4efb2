"""The gate before pushes through a Docker Engine: threads, and the same budgets as copies."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest
import redis

from tests.support.fleet.budgets import REGISTRY, USER, Fleet, fleet_at
from tests.support.processes import eventually, free_port
from tests.support.scripted_servers.registry import SlowRegistry
from tests.support.workers.single_push import fresh
from transship.errors import PushCancelled, RegistryPaused
from transship.ledger.connection import connect
from transship.ledger.keys import Keys
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.oci.login import Login
from transship_worker.transports import rate_limited_push
from transship_worker.transports.engine.client import Engine

pytestmark = pytest.mark.redis

ONE = Limits(transfers=1)


class Gates:
    """Gates of several workers in one namespace."""

    def __init__(self, url: str) -> None:
        self.fleet = Fleet(url)
        self.clients: list[redis.Redis] = []
        self.gates: list[EngineGate] = []

    def gate(self) -> EngineGate:
        """One worker's gate."""
        self.clients.append(connect(self.fleet.url))
        self.gates.append(EngineGate(self.clients[-1], self.fleet.keys, "worker"))
        return self.gates[-1]

    @property
    def permits(self) -> str:
        """The key of the permits of the usual login."""
        name = self.fleet.worker().governor().login.name
        return self.fleet.keys.permits(REGISTRY, name)

    def close(self) -> None:
        """End as workers do in order."""
        for gate in self.gates:
            gate.close()
        assert self.fleet.lasting() == []
        for client in self.clients:
            client.close()


@pytest.fixture
def gates(redis_url: str) -> Iterator[Gates]:
    made = Gates(redis_url)
    yield made
    made.close()


def test_a_pause_that_the_engine_met_reaches_other_workers_gates(gates: Gates) -> None:
    mine, theirs = gates.gate(), gates.gate()
    mine.check(REGISTRY, USER)
    met = mine.report(REGISTRY, USER, retry_after_s=40.0, reason="registry answered 429")
    for gate in (mine, theirs):
        with pytest.raises(RegistryPaused, match="registry answered 429") as caught:
            gate.check(REGISTRY, USER)
        assert caught.value.message == met.message
        assert caught.value.retry_after_s is not None
        assert 0 < caught.value.retry_after_s <= 40
    theirs.check(REGISTRY, None)
    theirs.check("other.example.com", USER)


async def test_copies_and_pushes_keep_each_others_pauses(fleet: Fleet, gates: Gates) -> None:
    gate = gates.gate()

    fleet.keys = gates.fleet.keys
    governor = fleet.worker().governor()
    with pytest.raises(RegistryPaused):
        await governor.answered(429, 40.0, reason="a copy met it")
    with pytest.raises(RegistryPaused, match="a copy met it"):
        gate.check(REGISTRY, USER)
    other = fleet.worker().governor(registry="other.example.com")
    gate.report(other.login.registry, USER, retry_after_s=40.0, reason="a push met it")
    with pytest.raises(RegistryPaused, match="a push met it"):
        await other.request()


async def test_a_refused_push_slows_the_fleets_other_requests(fleet: Fleet, gates: Gates) -> None:
    gate = gates.gate()
    fleet.keys = gates.fleet.keys
    worker = fleet.worker()
    governor, anonymous = worker.governor(), worker.governor(user=None)
    await governor.request()
    assert not governor.is_limited
    for named_s in (None, 2.0):
        gate.refused(REGISTRY, USER, named_s)
    # It is no pause.
    gate.check(REGISTRY, USER)
    async with asyncio.timeout(10):
        # Until the next look, which is one for all logins of a process.
        while not governor.is_limited:
            await asyncio.sleep(0.05)
            await governor.request()
    assert not anonymous.is_limited


@pytest.mark.engine
def test_a_push_of_the_engine_that_is_refused_goes_on_and_keeps_its_layers(
    gates: Gates,
    docker_client: docker.DockerClient,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limited_push, "FIRST_S", 0.1)
    with SlowRegistry("PUT manifest", range(2)) as registry:
        push = fresh(docker_client, engine, f"{registry.address}/a/b:1", layers=(1000, 2000))
        pushed = push.run(gates.gate())
    assert not pushed.skipped
    # Two layers and the config, once.
    assert registry.count("POST") == 3
    keys = gates.fleet.keys
    login = Login.of(keys, registry.address, None)
    assert gates.fleet.redis.exists(keys.limiter(login.registry, login.name))
    assert not gates.fleet.redis.exists(keys.pause(login.registry, login.name))


def test_no_more_pushes_run_than_are_allowed_in_all_workers(gates: Gates) -> None:
    limits, lock = Limits(transfers=3), threading.Lock()
    running: list[int] = []
    most: list[int] = []

    def push(gate: EngineGate) -> None:
        with gate.transfer(REGISTRY, USER, limits):
            with lock:
                running.append(1)
                most.append(len(running))
            # Lets the other threads run.
            time.sleep(0)
            with lock:
                running.pop()

    made = [gates.gate() for _ in range(2)]
    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(push, gate) for gate in made * 40]:
            done.result(60)
    assert len(most) == 80
    assert max(most) <= 3


async def test_a_push_waits_for_a_copy_of_another_worker(gates: Gates, redis_url: str) -> None:
    gate = gates.gate()
    order: list[str] = []

    def push() -> None:
        with gate.transfer(REGISTRY, USER, ONE):
            order.append("push")

    async with fleet_at(redis_url) as fleet:
        fleet.keys = gates.fleet.keys
        governor = fleet.worker().governor(ONE)
        async with governor.transfer():
            pushing = asyncio.create_task(asyncio.to_thread(push))
            line = f"{gates.permits}:line"
            await asyncio.to_thread(
                eventually, lambda: fleet.redis.hlen(line), what="a push in line"
            )
            order.append("copy")
        await pushing
    assert order == ["copy", "push"]


def test_a_push_that_is_stopped_waits_no_longer(gates: Gates) -> None:
    gate = gates.gate()

    def stop() -> None:
        raise PushCancelled("cancelled on request")

    with (
        gate.transfer(REGISTRY, USER, ONE),
        pytest.raises(PushCancelled),
        gate.transfer(REGISTRY, USER, ONE, waiting=stop),
    ):
        pytest.fail("two pushes run")
    with gate.transfer(REGISTRY, USER, ONE):
        pass


def test_permits_of_a_gate_come_back_and_are_held_no_longer_than_needed(gates: Gates) -> None:
    gate = gates.gate()
    with gate.transfer(REGISTRY, USER, ONE):
        assert gates.fleet.redis.zcard(gates.permits) == 1
    eventually(lambda: not gates.fleet.redis.exists(gates.permits), what="no permit held")
    with gate.transfer(REGISTRY, USER, ONE):
        pass
    gate.close()
    assert not gates.fleet.redis.exists(gates.permits)


def test_without_a_limit_no_permit_is_asked_for(gates: Gates) -> None:
    with gates.gate().transfer(REGISTRY, USER, Limits()):
        assert not gates.fleet.redis.exists(gates.permits)


def test_a_redis_that_is_away_lets_pushes_begin_and_keeps_their_pauses() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", retries=0)
    gate = EngineGate(client, Keys("away"), "worker")
    gate.check(REGISTRY, USER)
    met = gate.report(REGISTRY, USER, retry_after_s=40.0, reason="registry answered 429")
    with pytest.raises(RegistryPaused) as caught:
        gate.check(REGISTRY, USER)
    assert caught.value.message == met.message
    # Nobody hears of it, and the push waits all the same.
    gate.refused(REGISTRY, USER, 2.0)
    gate.close()
    client.close()
