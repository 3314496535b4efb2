"""A ledger that a fleet of an older version left, and what today's producers and workers do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from longshore import Client
from longshore_config.job import JobEvent, JobId, State, Step
from longshore_config.migration.request import MigrationRequest
from longshore_config.request import parse_request
from longshore_config.settings import Settings
from longshore_worker.claims import Due
from tests.support.ledger import Bench
from tests.support.recorded import load, recording

pytestmark = pytest.mark.redis

#: What the jobs of the recording are, as today's producer is to show them.
STATES = {
    "succeeded": State.SUCCEEDED,
    "source": State.SUCCEEDED,
    "skipped": State.SUCCEEDED,
    "retrying": State.RETRYING,
    "copy succeeded": State.SUCCEEDED,
    "copy skipped": State.SUCCEEDED,
    "copy retrying": State.CANCELLED,
    "copy failed": State.FAILED,
    "migration done": State.SUCCEEDED,
    "migration failed": State.SUCCEEDED,
    "migration running": State.SUCCEEDED,
    "plan unread": State.SUCCEEDED,
    "back": State.QUEUED,
    "running": State.RUNNING,
    "behind": State.QUEUED,
    "queued": State.QUEUED,
    "withdrawn": State.CANCELLED,
    "missing": State.QUEUED,
    "asked": State.QUEUED,
    "copy queued": State.QUEUED,
    "migration queued": State.QUEUED,
}


class Older(Bench):
    """A bench whose ledger an older fleet left."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.recording = recording("0.1.0")
        load(self.redis, self.namespace, self.recording)

    def named(self, name: str) -> JobId:
        return JobId(self.recording["jobs"][name])

    @property
    def client(self) -> Client:
        settings = {"LONGSHORE_REDIS_URL": self.url, "LONGSHORE_NAMESPACE": self.namespace}
        return Client(settings=Settings.from_environment(settings))

    def let_all_come_due(self) -> None:
        """What the passing of an hour does, without waiting for it; all bells are lost."""
        for key in self.redis.scan_iter(match=f"{self.keys.celery_prefix}*"):
            self.redis.delete(key)
        for job, _ in self.redis.zscan_iter(self.keys.leases):
            self.let_lease_end(JobId(job))
        for key in self.redis.scan_iter(match=f"{self.keys.prefix}*due:*"):
            self.redis.zadd(key, {job: 1 for job, _ in self.redis.zscan_iter(key)})
        for job, _ in self.redis.zscan_iter(self.keys.state(State.RETRYING)):
            self.let_retry_come_due(JobId(job))

    def finish(self, job: JobId) -> list[Due]:
        """Be a worker that hears a bell and does what is asked; further bells to ring."""
        body = self.claims.request(job)
        assert body is not None
        request = parse_request(body)
        result = self.claims.claim(job, request, engine="build-7", flavor="default")
        if result.claim is None:
            return []
        if isinstance(request, MigrationRequest):
            assert self.claims.all_planned(result.claim, {"summary": "{}"})
        finished = self.succeed(result.claim)
        assert finished.accepted
        return list(finished.more)

    def finish_all(self) -> None:
        """Sweep and finish until nothing is due."""
        for _ in range(20):
            self.let_all_come_due()
            waiting = [due.job for due in self.claims.sweep().ring]
            if not waiting:
                return
            while waiting:
                waiting += [due.job for due in self.finish(waiting.pop())]
        pytest.fail(f"still due after 20 sweeps: {waiting}")


def _events(bench: Bench, job: str) -> list[JobEvent]:
    return bench.ledger.events(JobId(job), "0", 1)


@pytest.fixture
def older(redis_url: str) -> Iterator[Older]:
    found = Older(redis_url)
    yield found
    found.redis.close()


# What an older fleet left.


def test_all_that_an_older_fleet_left_is_listed_as_it_stands(older: Older) -> None:
    with older.client as client:
        records = {record.id: record for record in client.jobs(limit=1000)}
        migrations = {record.name: record for record in client.migrations()}

    names = older.recording["jobs"]
    assert {name: records[job].state for name, job in names.items()} == STATES
    # Each row of the three migrations is a job, and so are the plannings.
    assert len(records) == len(set(names.values())) + 15 + 1
    assert all(record.image != "?" for record in records.values())
    done = records[names["succeeded"]]
    assert done.pinned is not None
    assert done.pinned.startswith("127.0.0.1:5002/ml/succeeded@sha256:")
    assert done.labels == {"run": "42"}
    assert records[names["running"]].step is Step.PUSHING
    assert records[names["running"]].progress.bytes_done > 0
    retrying = records[names["retrying"]]
    assert retrying.error is not None
    assert retrying.error.code == "registry_unreachable"
    assert retrying.next_attempt_at is not None
    assert {name: found.state for name, found in migrations.items()} == {
        "done": State.SUCCEEDED,
        "one-failed": State.FAILED,
        "under-way": State.RUNNING,
        "unread-plan": State.SUCCEEDED,
        "queued": State.QUEUED,
    }
    assert migrations["under-way"].images.planned == 5
    assert migrations["one-failed"].images.failed == 1


def test_rows_of_a_plan_that_an_older_worker_planned_are_read(older: Older) -> None:
    with older.client as client:
        rows = list(client.migration(older.named("plan unread")).rows())

    assert len(rows) == 5


def test_todays_worker_finishes_all_that_an_older_fleet_left_open(older: Older) -> None:
    before = older.ledger.newest(None, lambda record: not record.state.final, 1000)

    older.finish_all()

    assert len(before) >= 10
    after = older.ledger.read([JobId(record.id) for record in before])
    # One waited to be retried when a newer push to its target came, and gave way as always.
    assert {r.state for r in after if r is not None} <= {State.SUCCEEDED, State.CANCELLED}
    for record in after:
        assert record is not None
        finals = [e for e in _events(older, record.id) if e.kind == "state" and e.state.final]
        assert len(finals) == 1 + (record.id == older.named("asked"))
    with older.client as client:
        states = {record.name: record.state for record in client.migrations()}
    assert states["under-way"] is State.SUCCEEDED
    assert states["queued"] is State.SUCCEEDED
    waits = [older.keys.leases, older.keys.expiry, *older.redis.keys(f"{older.namespace}:*due:*")]
    assert [key for key in waits if older.redis.exists(key)] == []


def test_what_failed_under_an_older_fleet_is_retried_by_todays(older: Older) -> None:
    failed = older.named("copy failed")
    with older.client as client:
        migration = client.migration(older.named("migration failed"))
        client.job(failed).retry()
        migration.retry()

        older.finish_all()

        assert client.job(failed).record().state is State.SUCCEEDED
        record = migration.record()
        assert (record.state, record.images.succeeded, record.images.failed) == (
            State.SUCCEEDED,
            5,
            0,
        )


def test_a_finish_of_an_older_worker_is_accepted_while_its_claim_holds(older: Older) -> None:
    job = older.named("running")
    fields: Any = older.redis.hgetall(older.keys.job(job))
    # As the older worker says it: the same script, by the claim that it was given.
    args = [job, fields["fence"], fields["token"], json.dumps({"kind": "succeeded"})]

    assert older.claims._run("finish", *args)[0] == "yes"
    assert older.claims._run("finish", *args)[0] == "again"
    assert older.record(job).state is State.SUCCEEDED


def test_todays_workers_forget_what_an_older_fleet_left_when_its_time_is_over(
    older: Older,
) -> None:
    older.finish_all()
    for key in ("retention", "migrations"):
        assert older.redis.exists(f"{older.namespace}:{key}")
    for key in older.redis.scan_iter(match=f"{older.namespace}:migration:*"):
        older.redis.delete(key)
    older.redis.zadd(
        older.keys.retention, {job: 1 for job, _ in older.redis.zscan_iter(older.keys.retention)}
    )

    while older.claims.sweep().forgotten:
        continue

    left = older.redis.keys(f"{older.namespace}:*")
    kinds = {str(key).removeprefix(f"{older.namespace}:").partition(":")[0] for key in left}
    assert not kinds & {"job", "events", "state", "retention", "leases", "expiry"}
    assert [key for key in left if ":request:" in str(key)] == []
