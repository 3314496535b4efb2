"""Ctrl-C while many jobs are submitted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import redis

from tests.support.ledger.bench import Bench
from tests.support.processes import eventually
from tests.support.servers.redis import RedisServer
from tests.support.workers.command_line import IMAGE, PROD, publish
from transship import Client, Push, SubmitInterrupted
from transship.ledger.functions import Functions
from transship.ledger.notifications import Doorbell
from transship.ledger.submit import BATCH
from transship.model.jobs import JobId
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

_NAME = IMAGE.rpartition(":")[0]
_MANY = 8 * BATCH


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@contextmanager
def interrupting(when: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C once something is so; the block must not end before."""

    def strike() -> None:
        eventually(when, what="the moment for Ctrl-C")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def client_of(bench: Bench, url: str) -> Client:
    publish(bench, components=[PROD])
    return Client(url, settings=Settings.from_environment({"TRANSSHIP_NAMESPACE": bench.namespace}))


def written(bench: Bench) -> set[str]:
    prefix = bench.keys.account("default") + "request:"
    return {str(key).removeprefix(prefix) for key in bench.redis.scan_iter(f"{prefix}*")}


def notified(bench: Bench) -> int:
    queues = bench.redis.scan_iter(f"{bench.keys.celery_prefix}push*")
    return sum(int(bench.redis.llen(str(queue))) for queue in queues)


def test_ctrl_c_in_push_many_names_what_was_written_and_workers_hear_of_it(
    server: RedisServer,
) -> None:
    bench = Bench(server.url)
    with client_of(bench, server.url) as client:
        pushes = [Push(f"{_NAME}:{number}") for number in range(_MANY)]
        prefix = bench.keys.account("default")

        with (
            pytest.raises(SubmitInterrupted) as caught,
            interrupting(lambda: bench.redis.zcard(f"{prefix}queued") > BATCH / 2),
        ):
            client.push_many(pushes)

        assert isinstance(caught.value, KeyboardInterrupt)
        ids = caught.value.job_ids
        assert 0 < len(ids) < _MANY
        assert set(ids) == written(bench)
        assert caught.value.uncertain == ()
        assert notified(bench) == len(ids)
        images = [bench.record(JobId(job)).image for job in ids]
        assert images == [f"{_NAME}:{number}" for number in range(len(ids))]
        # The client is whole.
        assert client.push(f"{_NAME}:after").record().image == f"{_NAME}:after"


def test_ctrl_c_while_workers_are_notified_notifies_of_all(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(server.url)
    ring = Doorbell.ring

    def interrupted(doorbell: Doorbell, bells: object) -> None:
        monkeypatch.setattr(Doorbell, "ring", ring)
        raise KeyboardInterrupt

    with client_of(bench, server.url) as client:
        monkeypatch.setattr(Doorbell, "ring", interrupted)

        with pytest.raises(SubmitInterrupted) as caught:
            client.push_many([Push(f"{_NAME}:{number}") for number in range(3)])

        assert set(caught.value.job_ids) == written(bench)
        assert notified(bench) == 3


def test_ctrl_c_while_redis_does_not_answer_names_what_it_may_have_written(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(server.url)
    interrupts: list[BaseException] = [KeyboardInterrupt()]

    def away(functions: Functions, calls: Sequence[object], replicas: int) -> object:
        raise interrupts.pop() if interrupts else redis.exceptions.TimeoutError("no answer")

    with client_of(bench, server.url) as client:
        monkeypatch.setattr(Functions, "call_replicated", away)

        with pytest.raises(SubmitInterrupted) as caught:
            client.push_many([Push(f"{_NAME}:{number}") for number in range(3)])

        assert caught.value.job_ids == ()
        assert len(set(caught.value.uncertain)) == 3
