"""Requests and records of a newer version, and what today's producers and workers make of them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.integration.test_migration_ledger import Migration
from tests.support.ledger.bench import Bench
from tests.support.ledger.dump import now_ms
from tests.support.servers.redis import RedisServer
from transship.cli import main
from transship.model.jobs import JobId, Kind, State
from transship.model.migration.request import MigrationRequest, Mode
from transship.model.push_request import PushRequest
from transship.model.records import JobEvent
from transship.model.requests import VERSIONS
from transship_config.errors import UsageError
from transship_worker.jobs.claim_results import Answer
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.heartbeat import Heart
from transship_worker.jobs.runner import JobFailure, Runner, Tools
from transship_worker.jobs.sweep import Swept

pytestmark = pytest.mark.redis

#: The first version of a push that this version cannot read.
NEWER = VERSIONS[Kind.PUSH] + 1
OTHER = {"image": "registry.example.com/ml/other:1", "registry": "prod"}


class Ringing:
    """Stands for the doorbell."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, bells: Any) -> None:
        self.rung += [bell.job for bell in bells]

    def close(self) -> None:
        return


# What a newer producer asked for.


def runner(bench: Bench) -> Runner:
    return Runner(
        Tools(
            settings=bench.settings,
            claims=bench.claims,
            heart=Heart(),
            work=lambda _: None,
            doorbell=Ringing(),  # type: ignore[arg-type]
            stopping=threading.Event(),
        )
    )


def submitted(bench: Bench, **changes: Any) -> JobId:
    """A job, and what a newer producer wrote for its request."""
    image = "registry.example.com/ml/train:1"
    request = PushRequest.model_validate({"image": image, "registry": "prod"})
    job = bench.submit(request)
    written = json.loads(request.to_stored()) | changes
    bench.redis.set(bench.keys.request(job), json.dumps(written))
    return job


def refused(bench: Bench) -> dict[str, str]:
    found: Any = bench.redis.hgetall(bench.keys.refused)
    return dict(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": NEWER, "sign_with": "a key"},
        {"version": NEWER, "kind": "push"},
        {"version": VERSIONS[Kind.COPY] + 1, "kind": "copy"},
        {"version": 7, "kind": "migration", "name": "tomorrow", "mode": "rehearse"},
        {"version": 1, "kind": "scan"},
    ],
)
def test_a_newer_request_is_left_to_a_newer_worker_and_counted(
    bench: Bench, changes: dict[str, Any]
) -> None:
    job = submitted(bench, **changes)

    line = runner(bench).answer(job)

    assert line.startswith("left to a newer worker: a ")
    assert refused(bench) == {"newer_request": "1"}
    assert bench.record(job).state is State.QUEUED
    # It rings again, and not at once.
    due: Any = bench.redis.zscore(bench.keys.due("default", "push.*"), job)
    assert due >= now_ms(bench.redis) + 500
    # Nothing stands in the way of a worker that can read it.
    request = PushRequest.model_validate(
        {"image": "registry.example.com/ml/train:1", "registry": "prod"}
    )
    result = bench.claims.claim(job, request, engine="build-7", flavor="default")
    assert result.answer is Answer.CLAIMED


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2"},
        {"version": True, "kind": "scan"},
        {"version": 0},
        {"version": 5_000},
        {"version": 2, "kind": 7},
        {"version": 2, "kind": "../../etc"},
        {"kind": None, "version": 2},
        {"unknown_field": 1},
    ],
)
def test_what_no_version_can_have_written_still_fails(
    bench: Bench, changes: dict[str, Any]
) -> None:
    job = submitted(bench, **changes)

    with pytest.raises(JobFailure, match="invalid_request"):
        runner(bench).answer(job)

    assert refused(bench) == {"invalid_request": "1"}
    assert bench.record(job).state is State.FAILED


def test_a_newer_job_that_a_newer_worker_handed_back_waits_for_one(bench: Bench) -> None:
    job = submitted(bench)
    bench.claims.release(bench.claimed(job), "the newer worker stops")
    body = json.loads(bench.redis.get(bench.keys.request(job)) or "") | {"version": NEWER}
    bench.redis.set(bench.keys.request(job), json.dumps(body))

    rung = [due.job for due in bench.claims.sweep().ring]
    runner(bench).answer(job)

    assert rung == [job]
    assert bench.record(job).state is State.QUEUED
    due: Any = bench.redis.zscore(bench.keys.waiting("push.*"), job)
    assert due >= now_ms(bench.redis) + 500


def test_a_newer_job_whose_newer_worker_died_is_taken_back_by_an_older_reaper(
    bench: Bench,
) -> None:
    job = submitted(bench)
    bench.claimed(job)
    bench.redis.hset(bench.keys.job(job), mapping={"tomorrow": "1", "step": "signing"})
    body = json.loads(bench.redis.get(bench.keys.request(job)) or "") | {"version": NEWER}
    bench.redis.set(bench.keys.request(job), json.dumps(body))
    bench.let_lease_end(job)

    swept: Swept = bench.claims.sweep()

    assert swept.lost == 1
    assert bench.record(job).state is State.QUEUED
    # What the older one does not know stays.
    assert bench.redis.hget(bench.keys.job(job), "tomorrow") == "1"


def test_a_newer_request_that_no_newer_worker_takes_expires(bench: Bench) -> None:
    job = submitted(bench, version=NEWER)
    runner(bench).answer(job)
    bench.redis.zadd(f"{bench.keys.account('default')}expiry", {job: 1})

    assert bench.claims.sweep().expired == 1

    assert bench.error_of(job)["code"] == "expired"


def test_a_forged_newer_request_does_not_stay_for_ever(bench: Bench) -> None:
    job = submitted(bench, version=NEWER)
    expiry = f"{bench.keys.account('default')}expiry"
    bench.redis.delete(expiry)

    runner(bench).answer(job)

    assert bench.redis.zscore(expiry, job) is not None


def test_a_planning_that_nobody_starts_in_time_leaves_nothing_behind(bench: Bench) -> None:
    job = bench.submit(MigrationRequest(mode=Mode.RUN, name="never", rows=1))
    bench.redis.zadd(f"{bench.keys.account('default')}expiry", {job: 1})

    bench.claims.sweep()

    assert bench.error_of(job)["code"] == "expired"
    assert bench.redis.keys(f"{bench.keys.account('default')}target:*") == []


# What a newer worker wrote.


def newer_record(bench: Bench) -> JobId:
    """A job whose record is full of what only a newer version knows."""
    job = submitted(bench, version=NEWER)
    bench.redis.hset(
        bench.keys.job(job),
        mapping={
            "state": "suspended",
            "step": "signing",
            "created": str(now_ms(bench.redis)),
            "error": json.dumps({"reasons": ["of another shape"]}),
            "progress": json.dumps({"bytes_done": 7, "bytes_signed": 7}),
            "warnings": json.dumps([{"text": "a warning that is no text"}]),
            "tomorrow": "1",
        },
    )
    bench.redis.zadd(bench.keys.state("default", State.RUNNING), {job: now_ms(bench.redis)})
    events = [
        {"kind": "signature", "state": "suspended", "step": "signing", "by": "a key"},
        {"kind": "state", "state": "running", "progress": "half"},
    ]
    for fields in events:
        at = str(now_ms(bench.redis))
        bench.redis.xadd(bench.keys.events(job), {"at": at} | fields)  # type: ignore[arg-type]
    return job


def _events(bench: Bench, job: str) -> list[JobEvent]:
    return bench.ledger.events(JobId(job), "0", 1)


def test_a_newer_record_is_shown_as_far_as_it_is_known(bench: Bench) -> None:
    record = bench.record(newer_record(bench))

    # Not final, and nothing that anybody could start.
    assert record.state is State.RUNNING
    assert record.step is None
    assert record.image == "registry.example.com/ml/train:1"
    assert record.registry == "prod"
    assert record.progress.bytes_done == 7
    assert record.error is not None
    assert record.error.message == "this version cannot read the error that a newer worker wrote"
    assert len(record.warnings) == 1


def test_events_of_a_newer_worker_do_not_end_a_wait(bench: Bench) -> None:
    events = _events(bench, newer_record(bench))

    assert [(e.kind, e.state) for e in events] == [
        ("note", State.RUNNING),
        ("state", State.RUNNING),
    ]


def test_one_newer_record_hides_no_other_from_the_command_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, newer = bench.submit(PushRequest.model_validate(OTHER)), newer_record(bench)
    migration = Migration(bench)
    migration.add(migration.row(1))
    key = bench.keys.migration(migration.id)
    bench.redis.hset(key, mapping={"summary": '{"rows":1,"signed":1}', "suspended": "3"})
    unreadable = Migration(bench)
    bench.redis.hset(bench.keys.migration(unreadable.id), "summary", '{"rows":"many"}')
    monkeypatch.setenv("TRANSSHIP_URL", bench.url)
    monkeypatch.setenv("TRANSSHIP_NAMESPACE", bench.namespace)
    monkeypatch.setenv("COLUMNS", "200")

    for words in (["jobs"], ["status", newer], ["status", other], ["migrate", "list"]):
        assert main(words) == 0, words
    shown = capsys.readouterr().out

    assert {job for job in (newer, other, migration.id, unreadable.id) if job not in shown} == set()


def test_an_older_producer_says_that_it_cannot_change_a_newer_job(bench: Bench) -> None:
    job = submitted(bench, version=NEWER)

    with pytest.raises(UsageError, match="cannot be read"):
        bench.ledger.cancel(job)


def test_a_view_of_a_newer_worker_is_read(bench: Bench) -> None:
    view = {
        "name": "transship@build-9.1",
        "engine": "build-9",
        "components": [{"name": "prod", "flavor": "tomorrow", "uri": "a.example", "signs": True}],
        "started_at": "2026-01-01T00:00:00Z",
        "seen_at": "2026-01-01T00:00:00Z",
        "signing_slots": 4,
    }
    bench.redis.set(bench.keys.worker(view["name"]), json.dumps(view))  # type: ignore[arg-type]
    bench.redis.zadd(bench.keys.workers, {"transship@build-9.1": now_ms(bench.redis) + 60_000})

    assert [worker.name for worker in bench.ledger.fleet().workers] == ["transship@build-9.1"]


def test_each_version_ends_jobs_that_the_other_claimed(redis_server: RedisServer) -> None:
    """Two workers of two versions share one ledger, whose scripts are sent with each call."""
    bench = Bench(redis_server.url)
    job = submitted(bench)
    first: Claims = bench.worker("older")
    claim = bench.claimed(job, first)
    bench.redis.script_flush()

    assert bench.worker("newer").report(claim) == (True, False)
    assert bench.succeed(claim).accepted
