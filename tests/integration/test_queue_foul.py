"""What anybody may put into a queue: refused without harm, counted, and told by ``doctor``."""

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

from tests.support.processes import eventually, free_port
from tests.support.workers.process import Site, WorkerProcess
from transship.ledger.bounded_parser import LONGEST_VALUE
from transship_config.celery_settings import PUSH_TASK
from transship_config.lanes import COPY_QUEUE, queue_name
from transship_worker.broker.messages import LONGEST_BELL

pytestmark = pytest.mark.redis

QUEUES = [queue_name(bulk=False, engine="build-7"), COPY_QUEUE]
#: A job that is not there: its bell is a bell.
NOBODY = "0" * 20
MIB = 1024 * 1024
EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
GOOD_BODY = [[NOBODY, "x"], {}, EMBED]
FOLLOWER = {"task": PUSH_TASK, "args": [NOBODY, "y"], "kwargs": {}, "options": {}}


def message(body: Any = GOOD_BODY, properties: Any = None, **changes: Any) -> bytes:
    """A bell as Celery and kombu put it into a list of Redis, but for what is changed."""
    number = str(uuid.uuid4())
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"lang": "py", "task": PUSH_TASK, "id": number, "origin": "me", "retries": 0}
    headers |= {key[2:]: value for key, value in changes.items() if key.startswith("h_")}
    whole = {
        "body": base64.b64encode(raw).decode(),
        "content-encoding": changes.get("encoding", "utf-8"),
        "content-type": changes.get("content_type", "application/json"),
        "headers": changes.get("headers", headers),
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": COPY_QUEUE},
            "delivery_mode": 2,
            "delivery_tag": number,
            "priority": 0,
            **(properties or {}),
        },
    }
    return json.dumps(whole).encode()


#: Values of all sorts, for where a text should stand.
ODD: list[Any] = [None, [], "x", {}, {"task": []}, {"task": {"a": 1}}]
IDS: list[Any] = [None, [], "", "x" * 300, "\x1b[2J"]
BODIES: list[Any] = [b"", b"\xff", b"[" * 9_999, {}, [], None, [[], {}, {}]]
ARGUMENTS: list[Any] = ["ab", [NOBODY], [NOBODY, 1], [[], {}], [None] * 2]
TAGS: list[Any] = [None, [], 7]
PLACES: list[Any] = [None, [], "x"]
ENCODINGS: list[Any] = ["rot13", [], 7]

#: What it is counted as, and messages of the kind.
FOUL: dict[str, list[bytes]] = {
    "unknown_task": [
        message(h_task="os.system"),
        message(h_task="celery.backend_cleanup"),
        message(h_task="transship.push.v99", h_id=None),
    ],
    "content_type": [
        message(pickle.dumps(GOOD_BODY), content_type="application/x-python-serialize"),
        message(content_type="application/x-yaml"),
        message(content_type="text/html"),
        message(encoding="utf-16"),
        message(encoding=None),
    ],
    "too_long": [
        message([[NOBODY, "x" * LONGEST_BELL], {}, EMBED]),
        message(b"[" * 32 * 2**20),
    ],
    "no_bell": [
        *(b"", b"\xff\xfe", b"nonsense", b"[]", b"null", b"{}", b"[" * 100_000),
        *(message(headers=odd) for odd in ODD),
        *(message(h_id=odd) for odd in IDS),
        message(h_origin=7),
        message(h_eta="2099-01-01T00:00:00+00:00"),
        message(h_expires="2000-01-01T00:00:00+00:00"),
        *(message(odd) for odd in BODIES),
        *(message([odd, {}, EMBED]) for odd in ARGUMENTS),
        message([[NOBODY, "x"], {"more": 1}, EMBED]),
        *(message([[NOBODY, "x"], {}, {**EMBED, key: [FOLLOWER]}]) for key in EMBED),
        *(message(properties={"delivery_tag": odd}) for odd in TAGS),
        *(message(properties={"delivery_info": odd}) for odd in PLACES),
        *(message(properties={"body_encoding": odd}) for odd in ENCODINGS),
    ],
    "bad_id": [
        message([[odd, "x"], {}, EMBED]) for odd in ("", "../../etc/passwd", "0" * 20 + "-")
    ],
    "unknown_job": [
        message(),
        # Of the headers nothing else is taken over.
        message(h_timelimit="x", h_retries=[], h_stamps={"a": "b"}, h_group="g", h_chord={}),
        message(h_argsrepr={}, h_kwargsrepr=7, h_parent_id=[], h_root_id={}, h_shadow=[]),
        message(properties={"reply_to": [], "correlation_id": {}, "priority": "high"}),
    ],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Site]:
    found = Site(tmp_path_factory.mktemp("foul"), redis_url, "unix:///nowhere")
    with closing(found):
        found.write_catalog({"a": {"flavor": "default", "uri": f"127.0.0.1:{free_port()}"}})
        yield found


@pytest.fixture(scope="module")
def worker(site: Site) -> WorkerProcess:
    return site.start_worker("--engine-name", "build-7", "--pushes", "1", "--copies", "1")


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("reason", sorted(FOUL))
def test_what_is_no_bell_is_refused_and_counted_and_takes_no_slot(
    site: Site, worker: WorkerProcess, queue: str, reason: str
) -> None:
    ring(site, queue, reason, FOUL[reason])
    assert worker.running
    # With one slot each, one that was lost would show.
    ring(site, queue, "unknown_job", [message()])
    assert site.client.jobs() == []


@pytest.mark.parametrize("piece", [b"[],", b"x"], ids=["small values without end", "one long text"])
@pytest.mark.parametrize("queue", QUEUES)
def test_a_message_of_any_length_takes_no_memory_of_a_worker(
    site: Site, worker: WorkerProcess, queue: str, piece: bytes
) -> None:
    bomb = b"[" + piece * (8 * MIB // len(piece)) + b"0]"
    # The first message makes Celery load what it needs.
    ring(site, queue, "unknown_job", [message()])
    before = peak(worker)
    ring(site, queue, "too_long", [bomb, bomb])
    assert peak(worker) - before < 16 * MIB
    ring(site, queue, "unknown_job", [message()])


@pytest.mark.parametrize("length", [LONGEST_VALUE, LONGEST_VALUE + 1, 3 * LONGEST_VALUE])
def test_what_comes_behind_a_long_message_is_read(
    site: Site, worker: WorkerProcess, length: int
) -> None:
    reason = "no_bell" if length == LONGEST_VALUE else "too_long"
    ring(site, COPY_QUEUE, reason, [b"\r" * length])
    ring(site, COPY_QUEUE, "unknown_job", [message()])


def peak(worker: WorkerProcess) -> int:
    """The most memory that a worker had. Unit: bytes."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def ring(site: Site, queue: str, reason: str, messages: list[bytes]) -> None:
    """Put messages into a queue, and wait until just these were refused for this reason."""
    before, expected = site.client.refused(), len(messages)
    for one in messages:
        site.client._redis.lpush(site.keys.queue(queue), one)
    wanted = before | {reason: before.get(reason, 0) + expected}
    eventually(
        lambda: sum(site.client.refused().values()) == sum(wanted.values()),
        what=f"{wanted}; {site.client.refused()}",
    )
    assert site.client.refused() == wanted


def test_doctor_tells_what_was_refused_and_misses_nothing_for_it(
    site: Site, worker: WorkerProcess
) -> None:
    ring(site, COPY_QUEUE, "unknown_task", FOUL["unknown_task"])
    count = site.client.refused()["unknown_task"]

    said = site.run("doctor", "--json")

    findings = [json.loads(line) for line in said.stdout.splitlines()]
    (found,) = [one for one in findings if one["code"] == "refused"]
    assert found["ok"]
    assert f"unknown_task {count}" in found["message"]
