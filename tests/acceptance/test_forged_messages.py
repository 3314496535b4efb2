"""What a producer's account puts into a queue by hand makes no worker run anything but a job."""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.support.processes import eventually, free_port
from tests.support.servers.redis_accounts import GuardedRedis
from tests.support.workers.process import Site, WorkerProcess
from transship import Client, State
from transship_config.celery_settings import PUSH_TASK, celery_settings
from transship_config.lanes import COPY_QUEUE
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

#: Where no registry is: what an honest bell comes to is no concern here.
NOWHERE = f"127.0.0.1:{free_port()}"


class Guarded:
    """A worker without an engine, which logs in as ``worker``; the test is anybody else."""

    def __init__(self, server: GuardedRedis, site: Site, worker: WorkerProcess) -> None:
        self.server, self.site, self.worker = server, site, worker

    def settings(self, account: str) -> Settings:
        more = {"TRANSSHIP_URL": self.server.url_of(account)}
        return Settings.from_environment(self.site.environment | more)

    def put(self, message: bytes) -> None:
        """Put bytes into the queue of copies, as the account ``producer``."""
        with closing(self.server.as_account("producer")) as producer:
            producer.lpush(self.site.keys.queue(COPY_QUEUE), message)

    def queues(self) -> list[str]:
        """All lists of Celery that hold something."""
        with closing(self.server.client()) as admin:
            return list(admin.scan_iter(f"{self.site.keys.celery_prefix}*", _type="list"))

    def answers_bells(self) -> None:
        """What was put into the queue before is taken out, and an honest bell is answered."""
        copied, tag = f"{NOWHERE}/x:1", f"{NOWHERE}/x:{uuid.uuid4()}"
        with Client(settings=self.settings("producer")) as client:
            job = client.copy(copied, tag, source_registry="a", target_registry="a")
            eventually(lambda: job.record().state is not State.QUEUED, what="an answered bell")
            job.cancel()
        # A cancel rings, too.
        eventually(lambda: self.queues() == [], what="queues without a message")
        assert self.worker.running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    server = GuardedRedis()
    site = Site(tmp_path_factory.mktemp("guarded"), server.url_of("worker"), "unix:///nowhere")
    server.namespace = site.namespace
    with server:
        site.write_catalog({"a": {"flavor": "default", "uri": NOWHERE}})
        try:
            yield Guarded(server, site, site.start_worker("--no-engine"))
        finally:
            site.close()


def message(
    body: bytes, task: str = PUSH_TASK, content_type: str = "application/json", **headers: Any
) -> bytes:
    """A message as Celery and kombu put it into a list of Redis."""
    number = str(uuid.uuid4())
    properties = {
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": COPY_QUEUE},
        "delivery_mode": 2,
        "delivery_tag": number,
        "priority": 0,
    }
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "binary" if "python" in content_type else "utf-8",
            "content-type": content_type,
            "headers": {"lang": "py", "task": task, "id": number, **headers},
            "properties": properties,
        }
    ).encode()


def call(*arguments: object, **embed: object) -> bytes:
    return json.dumps([arguments, {}, embed]).encode()


class Touch:
    """Runs a program where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/json", "application/x-yaml"]
)
def test_what_is_pickled_is_not_unpickled(
    guarded: Guarded, tmp_path: Path, content_type: str
) -> None:
    mark = tmp_path / "mark"
    harm = pickle.dumps(Touch(mark))
    pickle.loads(harm)
    assert mark.exists()
    mark.unlink()

    guarded.put(message(harm, content_type=content_type))
    guarded.put(harm)

    guarded.answers_bells()
    assert not mark.exists()


@pytest.mark.parametrize(
    "task",
    [
        "os.system",
        "subprocess.run",
        "transship_worker.local.up",
        "transship.push.v2",
        "celery.map",
        "celery.chord_unlock",
    ],
)
def test_no_name_of_a_task_is_imported_or_run(guarded: Guarded, tmp_path: Path, task: str) -> None:
    mark = tmp_path / "mark"
    before = guarded.worker.log_text().count("unknown_task")
    within = {"task": PUSH_TASK, "args": [], "kwargs": {}, "options": {}}
    for arguments in ([f"touch {mark}"], [within, [["x", "x"]]], ["x", "x"]):
        guarded.put(message(call(*arguments), task))

    guarded.answers_bells()
    assert not mark.exists()
    assert guarded.worker.log_text().count("unknown_task") == before + 3


@pytest.mark.parametrize("way", ["callbacks", "errbacks", "chain", "chord"])
@pytest.mark.parametrize("arguments", [["x", "x"], ["x"]], ids=["bell", "mistaken"])
def test_a_bell_makes_a_worker_send_no_message(
    guarded: Guarded, way: str, arguments: list[str]
) -> None:
    sent = {
        "task": PUSH_TASK,
        "args": ["x", "x"],
        "kwargs": {},
        "options": {"exchange": "", "routing_key": "stolen"},
        "subtask_type": None,
        "immutable": True,
    }
    guarded.put(message(call(*arguments, **{way: sent if way == "chord" else [sent]})))

    guarded.answers_bells()


@pytest.mark.parametrize(
    "body", [b"5", b"null", b"{}", b"[]", b"[[]]", b'"x"', b"{", b'{"args": 1}']
)
def test_what_is_no_bell_is_dropped(guarded: Guarded, body: bytes) -> None:
    guarded.put(message(body))

    guarded.answers_bells()


@pytest.mark.parametrize(
    "headers",
    [{"id": 1}, {"id": None}, {"task": None}, {"task": 1}, {"task": []}, {"eta": "9999-01-01"}],
    ids=str,
)
def test_a_bell_with_foul_headers_is_dropped(guarded: Guarded, headers: dict[str, Any]) -> None:
    foul = json.loads(message(call("x", "x")))
    guarded.put(json.dumps(foul | {"headers": foul["headers"] | headers}).encode())
    for absent in headers:
        foul["headers"].pop(absent, None)
    guarded.put(json.dumps(foul).encode())
    guarded.put(json.dumps(foul | {"headers": None}).encode())

    guarded.answers_bells()


def test_celerys_remote_control_is_answered_and_not_obeyed(guarded: Guarded) -> None:
    settings = guarded.settings("monitor")
    app = Celery("monitor", set_as_current=False)
    app.conf.update(celery_settings(settings, settings.url.get_secret_value()))

    for order in (
        ("shutdown",),
        ("pool_shrink", {"n": 100}),
        ("pool_restart", {"modules": ["os"], "reload": True}),
        ("cancel_consumer", {"queue": COPY_QUEUE}),
        ("add_consumer", {"queue": "stolen"}),
        ("disable_events",),
        ("revoke", {"task_id": f"{'0' * 20}.1"}),
        ("rate_limit", {"task_name": PUSH_TASK, "rate_limit": "1/h"}),
    ):
        app.control.broadcast(*order)
    answers = app.control.inspect(timeout=5, limit=1).ping()

    assert list(answers or {}) == [guarded.worker.name]
    guarded.answers_bells()
    assert not (app.control.inspect(timeout=5, limit=1).revoked() or {})[guarded.worker.name]
    queues = (app.control.inspect(timeout=5, limit=1).active_queues() or {})[guarded.worker.name]
    assert "stolen" not in {queue["name"] for queue in queues}


def test_an_answer_to_celerys_remote_control_holds_no_password(guarded: Guarded) -> None:
    settings = guarded.settings("monitor")
    app = Celery("monitor", set_as_current=False)
    app.conf.update(celery_settings(settings, settings.url.get_secret_value()))
    ask = app.control.inspect(timeout=5, limit=1)

    answers = [ask.conf(with_defaults=True), ask.stats(), ask.active_queues(), ask.registered()]

    assert all(list(answer or {}) == [guarded.worker.name] for answer in answers)
    assert "broker_url" in str(answers)
    assert "planted" not in str(answers)
