"""A client in a forked child, while threads of the parent submit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.support.ledger.bench import Bench
from tests.support.workers import fork_storm, fork_while_loading
from tests.support.workers.command_line import IMAGE, PROD, publish
from tests.support.workers.fork_storm import CHILDREN, EACH
from transship import Client
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

_NAME = IMAGE.rpartition(":")[0]


def test_children_that_are_forked_while_threads_submit_submit_too(redis_url: str) -> None:
    bench = Bench(redis_url)
    ended = threading.Event()

    def publish_again() -> None:
        while not ended.wait(2):
            publish(bench, components=[PROD])

    publish(bench, components=[PROD])
    publisher = threading.Thread(target=publish_again)
    publisher.start()
    try:
        ran = subprocess.run(
            [sys.executable, "-m", fork_storm.__name__, redis_url, bench.namespace, _NAME],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    finally:
        ended.set()
        publisher.join()
    found = json.loads(ran.stdout)

    assert found["statuses"] == [0] * CHILDREN, ran.stderr[-2000:]
    assert (found["errors"], found["hanging"]) == ([], 0)
    images = [record.image for record in bench.ledger.newest(None, lambda _: True, 10**6)]
    assert len(images) == len(set(images)) == len(found["submitted"]) + CHILDREN * EACH


def test_a_fork_waits_for_a_thread_that_loads_a_module(redis_url: str) -> None:
    bench = Bench(redis_url)
    publish(bench, components=[PROD])
    program = [sys.executable, "-m", fork_while_loading.__name__, redis_url, bench.namespace, _NAME]
    subprocess.run(program, timeout=60, check=True)

    images = {record.image for record in bench.ledger.newest(None, lambda _: True, 10)}
    assert images == {f"{_NAME}:parent", f"{_NAME}:child"}


def test_a_child_uses_no_connection_and_no_lock_of_its_parent(redis_url: str) -> None:
    bench = Bench(redis_url)
    publish(bench, components=[PROD])
    settings = Settings.from_environment({"TRANSSHIP_NAMESPACE": bench.namespace})
    with Client(redis_url, settings=settings) as client:
        client.push(f"{_NAME}:1")
        job = client.push(f"{_NAME}:2")
        before = client.redis_info()["version"]
        # Another thread of the parent notifies, and another asks for the fleet.
        with client._lock:
            child = os.fork()
            if not child:
                status = 1
                # A lock that stays locked ends it.
                signal.alarm(30)
                try:
                    # The handle of the parent's job works, too.
                    same = job.record().image == f"{_NAME}:2"
                    status = 0 if same and client.push(f"{_NAME}:3").warnings == () else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.redis_info()["version"] == before
        assert client.push(f"{_NAME}:4").warnings == ()
