"""Submit, cancel and retry as functions in Redis: who loads them, and what ends them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import redis

from tests.support.ledger.bench import Bench, push_request
from tests.support.processes import eventually
from tests.support.servers.redis import redis_binary, valkey_binary
from tests.support.servers.redis_accounts import GuardedRedis
from tests.support.servers.redis_time import script_times
from tests.support.workers.command_line import PROD
from transship import Client, State
from transship.errors import RedisUnreachable
from transship.ledger import functions
from transship.ledger.functions import LIBRARIES_MOST, Functions, library_text
from transship.ledger.keys import Keys
from transship.ledger.submit import Ledger
from transship.model.components import WorkerView
from transship.model.jobs import JobId
from transship_config.settings import Settings
from transship_worker.process.presence import EVERY_S, Presence

pytestmark = pytest.mark.redis

IMAGE = "registry.example.com/ml/train"


@pytest.fixture(params=["installed", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[GuardedRedis]:
    binary = redis_binary() if request.param == "installed" else valkey_binary()
    with GuardedRedis(binary=binary) as server:
        yield server


@pytest.fixture
def admin(server: GuardedRedis) -> Iterator[redis.Redis]:
    with closing(server.as_account("admin")) as client:
        yield client


def client_of(server: GuardedRedis, account: str) -> Client:
    return Client(settings=Settings.from_environment({"TRANSSHIP_URL": server.url_of(account)}))


def libraries(client: redis.Redis) -> set[str]:
    return set(re.findall(r"'(transship_[0-9a-f]{16})'", repr(client.function_list())))


def presence(client: redis.Redis, namespace: str = "transship") -> Presence:
    """What a worker announces of itself, its functions included."""
    view = WorkerView.model_validate(
        {
            "name": "transship@host.1",
            "engine": "build-7",
            "components": [PROD],
            "interactive_slots": 4,
            "bulk_slots": 2,
            "copy_slots": 8,
            "version": "1",
            "started_at": "2026-01-01T00:00:00Z",
            "seen_at": "2026-01-01T00:00:00Z",
        }
    )
    keys = Keys(namespace)
    return Presence(client, keys, lambda: view, lambda: None, functions=Functions(client, keys))


def test_a_narrow_producer_waits_for_a_worker_to_load_the_functions(
    server: GuardedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "PATIENCE_S", 0.1)
    with client_of(server, "producer") as client:
        with pytest.raises(RedisUnreachable) as refused:
            client.push(f"{IMAGE}:1", registry="prod")
        assert "\n" not in refused.value.message
        assert "no worker of this version has loaded" in refused.value.message
        assert "start or update a worker" in refused.value.message
        with closing(server.as_account("worker")) as worker:
            presence(worker).publish()
        assert client.push(f"{IMAGE}:1", registry="prod").record().state is State.QUEUED


def test_functions_that_were_flushed_come_back_with_the_next_heartbeat(
    server: GuardedRedis, admin: redis.Redis
) -> None:
    with closing(server.as_account("worker")) as worker, client_of(server, "producer") as client:
        thread = presence(worker)
        thread.start()
        try:
            eventually(lambda: libraries(admin))
            for flush in ("SCRIPT", "FUNCTION"):
                admin.execute_command(flush, "FLUSH")  # type: ignore[no-untyped-call]
                # The client waits for it.
                assert client.push(f"{IMAGE}:{flush.lower()}", registry="prod").record().id
            admin.flushall()
            admin.execute_command("FUNCTION", "FLUSH")  # type: ignore[no-untyped-call]
            eventually(lambda: libraries(admin), within=EVERY_S * 2)
        finally:
            thread.close()


def test_functions_outlast_a_restart(server: GuardedRedis, admin: redis.Redis) -> None:
    with closing(server.as_account("worker")) as worker:
        presence(worker).publish()
    server.kill9()
    server.start()
    with client_of(server, "producer") as client:
        job = client.push(f"{IMAGE}:1", registry="prod")
        assert job.cancel().state is State.CANCELLED
        assert job.retry().state is State.QUEUED
    assert libraries(admin)


def test_a_function_does_no_more_than_its_caller_may(server: GuardedRedis) -> None:
    """Whoever may call functions may call all of them, with any arguments."""
    with closing(server.as_account("worker")) as worker:
        presence(worker).publish()
        named = Functions(worker, Keys("transship"))
    arguments: dict[str, list[Any]] = {
        "submit": [
            *("transship:from:ci:", "ci", "0" * 20 + "-ci", "{}", "push.*"),
            *(f"{IMAGE}:1", "", 1000, 1000),
        ],
        "cancel": ["transship:from:ci:", "0" * 20 + "-ci", "push.*", 60, f"{IMAGE}:1"],
        "retry": ["transship:from:ci:", "0" * 20 + "-ci", "push.*", f"{IMAGE}:1", 1000, "x"],
    }
    with closing(server.as_account("ci")) as ci:
        ci.set(f"transship:from:ci:request:{'0' * 20}-ci", "{}")
    with (
        closing(server.as_account("admin")) as admin,
        closing(server.as_account("producer")) as producer,
    ):
        before = {key: admin.dump(key) for key in admin.scan_iter()}
        for name, given in arguments.items():
            words = given
            if name == "submit":
                # Another id: this one would be taken for an answer that was lost.
                words = [str(word).replace("0" * 20, "1" * 20) for word in words]
            with pytest.raises(redis.ResponseError, match=r"permission|can't|ACL failure"):
                producer.fcall(named.name(name), 0, *words)
            with pytest.raises(redis.ResponseError):
                # Declared keys are looked at, too.
                producer.fcall(named.name(name), 1, "transship:from:ci:x", *words)
            with pytest.raises(redis.ResponseError):
                producer.fcall(named.name(name), 0)
        assert {key: admin.dump(key) for key in admin.scan_iter()} == before


def test_no_argument_makes_a_function_long(server: GuardedRedis) -> None:
    """An account may name a set of its own, of any size, wherever a function takes a text."""
    large = "transship:from:producer:large"
    with (
        closing(server.as_account("admin")) as admin,
        closing(server.as_account("producer")) as producer,
    ):
        ledger = Ledger(producer, Keys("transship"), "producer", server.url_of("producer"))
        presence(admin).publish()
        request = push_request()
        job = ledger.submit([request])[0].job
        for start in range(0, 200_000, 1_000):
            producer.sadd(large, *range(start, start + 1_000))
        calls = {
            "submit": ledger._submit_args(request, JobId.new("producer")),
            "cancel": ledger._cancel_args(job, request),
            "retry": ledger._retry_args(job, request),
        }
        with script_times(admin) as times:
            for name, words in calls.items():
                for place in range(len(words)):
                    given = [*words[:place], large, *words[place + 1 :]]
                    with suppress(redis.ResponseError):
                        ledger._functions.call([(name, given)])
        assert len(times) == len(calls)
        assert {name: max(found) for name, found in times.items() if max(found) > 20} == {}


def test_two_versions_work_beside_each_other(
    server: GuardedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(server.as_account("worker")) as worker:
        presence(worker).publish()
        with client_of(server, "producer") as older:
            body = library_text()
            monkeypatch.setattr(functions, "library_text", lambda: body + "\n-- newer\n")
            presence(worker).publish()
            with client_of(server, "producer") as newer:
                for client in (older, newer):
                    job = client.push(f"{IMAGE}:1", registry="prod")
                    assert job.cancel().state is State.CANCELLED
    with closing(server.as_account("admin")) as admin:
        assert len(libraries(admin)) == 2


def test_a_client_with_all_rights_loads_the_functions_itself(bench: Bench) -> None:
    (done,) = bench.ledger.submit([push_request()])
    assert bench.record(done.job).state is State.QUEUED
    # Between the commands of one pipeline, too.
    bench.redis.function_flush()
    assert len(bench.ledger.submit([push_request(str(n)) for n in range(9)])) == 9
    bench.redis.function_flush()
    bench.ledger.cancel(done.job)
    bench.redis.function_flush()
    bench.ledger.retry(done.job)
    assert bench.record(done.job).state is State.QUEUED


def test_libraries_that_nobody_needs_are_removed_but_not_those_of_others(bench: Bench) -> None:
    made = Functions(bench.redis, bench.keys)
    other = Functions(bench.redis, Keys("other"))
    other.load()
    named = [f"transship_{n:016x}" for n in range(LIBRARIES_MOST + 3)]
    for number, name in enumerate(named):
        code = f"#!lua name={name}\nredis.register_function('{name}_x', function() return 1 end)"
        bench.redis.function_load(code)
        bench.redis.zadd(bench.keys.functions, {name: number + 1})
    # Never one that is not ours, whatever somebody wrote there.
    bench.redis.zadd(bench.keys.functions, {other.library[:5]: 0, "mylib": 0})

    made.load()
    made.forget_old()

    found = libraries(bench.redis)
    assert {made.library, other.library} <= found
    # The newest stay.
    assert found & set(named) == set(named[4:])
    assert bench.redis.zcard(bench.keys.functions) == LIBRARIES_MOST


def test_a_worker_whose_account_may_load_nothing_says_so_and_works(
    server: GuardedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    # The accounts of an older version, after an update of the workers.
    with closing(server.as_account("producer")) as narrow:
        made = Functions(narrow, Keys("transship"))
        made.ensure()
        made.ensure()
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "config/redis/users.acl" in caplog.text
