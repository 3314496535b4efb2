"""Migrations as producers hold them, on a real Redis; the test is the worker, by its scripts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger.bench import Bench
from tests.support.ledger.played_migration import (
    DENIED,
    SPEC,
    SPEC_YAML,
    Planning,
    copied,
    failed,
    row,
)
from tests.support.processes import eventually
from tests.support.workers.command_line import publish
from transship import Client, JobFailed, PlanRow, State, UsageError, WaitTimeout
from transship.errors import NotYours, UnknownJob
from transship.ledger.migrations import MigrationLedger
from transship.migrations import Migration, MigrationFailed
from transship.model.components import PublicComponent
from transship.model.jobs import JobId
from transship.model.migration.mistakes import SpecError
from transship.model.migration.plan import MOST_UNREAD
from transship.model.migration.request import MigrationRequest, Mode
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

HUB = PublicComponent(name="hub", flavor="dockerhub", uri="docker.io")
PROD = PublicComponent(name="prod", flavor="default", uri="registry.example.com/ml")


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    publish(bench, components=[HUB, PROD], copy_slots=8)
    settings = {"TRANSSHIP_URL": bench.url, "TRANSSHIP_NAMESPACE": bench.namespace}
    with Client(settings=Settings.from_environment(settings)) as made:
        yield made


def begin(bench: Bench, client: Client) -> tuple[Migration, Planning]:
    migration = client.migrate(SPEC)
    return migration, Planning(bench, migration.id)


def test_a_migration_waits_until_a_worker_begins_it(bench: Bench, client: Client) -> None:
    migration = client.migrate(SPEC)

    record = migration.record()
    assert (record.state, record.name, record.mode) == (State.QUEUED, "hub-to-prod", Mode.RUN)
    assert (record.images.planned, record.planned, record.finished_at) == (0, False, None)
    assert migration.warnings == ()
    assert [one.id for one in client.migrations()] == [migration.id]
    request = bench.ledger.request(migration.id)
    assert isinstance(request, MigrationRequest)
    assert request.spec is not None
    assert str(request.spec.rules[0].target.repository) == "mirror/{repository}"


def test_totals_follow_the_images_and_add_up(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    first, second, _ = planning.images(3, skipped=2)
    copied(bench, first, moved=60, mounted=30, present=10)
    failed(bench, second)

    record = migration.record()
    assert (record.state, record.planned) == (State.RUNNING, False)
    assert record.images.model_dump() == {
        **dict.fromkeys(("running", "retrying", "cancelled"), 0),
        "planned": 5, "queued": 1, "succeeded": 1, "skipped": 2, "failed": 1,
    }  # fmt: skip
    assert record.bytes.model_dump() == {
        "planned": 300, "moved": 60, "mounted": 30, "present": 10,
    }  # fmt: skip
    assert [job.state for job in migration.jobs()] == ["succeeded", "failed", "queued"]
    assert [job.id for job in migration.jobs(state=State.FAILED)] == [second]


def test_a_migration_ends_as_its_images_do(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    (job,) = planning.images(1)
    planning.end([row(migration.id, 1)], warnings='["v1 moved"]')
    assert migration.record().state is State.RUNNING
    copied(bench, job, moved=100)

    record = migration.wait(5)
    assert (record.state, record.planned, record.warnings) == ("succeeded", True, ["v1 moved"])
    assert record.finished_at is not None
    assert record.summary is not None
    assert record.summary.copy_rows == 1


def test_half_a_character_in_a_warning_stops_no_reader(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    planning.end(warnings='["\\ud800 moved"]')

    record = migration.record()
    assert record.warnings == ["? moved"]
    assert record.to_json()


def test_a_wait_sees_the_end_and_says_what_failed(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    (job,) = planning.images(1)
    planning.end()
    seen: list[object] = []

    def wait() -> None:
        try:
            migration.wait(30)
        except JobFailed as error:
            seen.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    failed(bench, job)
    waiter.join(30)

    (error,) = seen
    assert isinstance(error, MigrationFailed)
    assert str(error) == f"migration {migration.id} failed: 1 of 1 images failed"
    assert error.record.images.failed == 1


def test_a_wait_ends_in_time_and_the_migration_goes_on(client: Client) -> None:
    migration = client.migrate(SPEC)

    with pytest.raises(WaitTimeout, match=r"is still queued after 0\.1 s; it goes on"):
        migration.wait(0.1)


def test_failed_planning_is_a_failed_migration_with_its_reason(
    bench: Bench, client: Client
) -> None:
    migration, planning = begin(bench, client)
    planning.images(0, skipped=1)
    planning.fail()

    with pytest.raises(JobFailed, match="denied: no right to push") as caught:
        migration.wait(5)
    assert isinstance(caught.value, MigrationFailed)
    assert caught.value.record.error == DENIED
    assert not caught.value.record.planned


def test_failures_are_retried_and_nothing_else_is(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    first, second = planning.images(2)
    planning.end()
    copied(bench, first, moved=100)
    failed(bench, second)
    assert migration.record().state is State.FAILED

    record = migration.retry()
    assert (record.state, record.images.queued, record.images.failed) == ("running", 1, 0)
    assert record.finished_at is None
    copied(bench, second, moved=100)
    assert migration.wait(5).images.succeeded == 2
    with pytest.raises(UsageError, match="nothing of it failed; nothing to retry"):
        migration.retry()


def test_a_retry_that_a_worker_hears_of_meanwhile_is_no_failure(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration, planning = begin(bench, client)
    (job,) = planning.images(1)
    planning.end()
    failed(bench, job)
    migration.retry()
    count = MigrationLedger._asked

    def late(ledger: MigrationLedger, asked: JobId) -> int:
        bench.claim(job)
        return count(ledger, asked)

    monkeypatch.setattr(MigrationLedger, "_asked", late)
    record = migration.record()

    assert (record.state, record.images.running, record.images.failed) == ("running", 1, 0)


def test_failed_planning_is_retried(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    planning.fail()
    assert migration.record().state is State.FAILED

    assert migration.retry().state is State.RUNNING
    Planning(bench, migration.id).end()
    assert migration.wait(5).state is State.SUCCEEDED


def test_a_cancelled_migration_stops_and_is_not_retried(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    planning.images(2)
    planning.end()

    assert migration.cancel().state is State.RUNNING
    bench.claim(migration.id)
    for job in migration.jobs():
        bench.claim(JobId(job.id))
    record = migration.record()
    assert (record.state, record.images.cancelled) == (State.CANCELLED, 2)
    with pytest.raises(UsageError, match="run its specification or plan again"):
        migration.retry()
    with pytest.raises(UsageError, match="already cancelled; nothing to cancel"):
        migration.cancel()


def test_a_migration_that_nobody_began_is_cancelled_at_once(client: Client) -> None:
    migration = client.migrate(SPEC)

    assert migration.cancel().state is State.CANCELLED
    with pytest.raises(JobFailed, match="cancelled"):
        migration.wait(5)


def test_only_its_account_cancels_and_retries_a_migration(bench: Bench, client: Client) -> None:
    request = MigrationRequest.model_validate({"mode": "run", "name": "x", "spec": SPEC})
    (other,) = bench.producer("ci").submit([request])

    with pytest.raises(NotYours):
        client.migration(other.job).cancel()


def test_equal_migrations_are_never_taken_for_one(bench: Bench, client: Client) -> None:
    first, second = client.migrate(SPEC), client.migrate(SPEC)

    assert first.id != second.id
    assert [one.id for one in client.migrations()] == [second.id, first.id]
    assert not list(bench.redis.scan_iter(f"{bench.namespace}:from:default:same:*"))


def test_a_job_is_no_migration(bench: Bench, client: Client) -> None:
    job = client.push("registry.example.com/ml/cat:1", registry="prod")

    with pytest.raises(UnknownJob, match="no migration"):
        client.migration(job.id)


def test_planned_rows_come_as_they_are_written_and_each_once(bench: Bench, client: Client) -> None:
    migration = client.plan(SPEC)
    planning = Planning(bench, migration.id)
    rows = [row(migration.id, number) for number in range(1, 4)]
    taken: list[PlanRow] = []

    def read() -> None:
        for one in migration.rows():
            taken.append(one)  # noqa: PERF402 - the test looks at it meanwhile

    reader = threading.Thread(target=read)
    reader.start()
    planning.give(rows[:2])
    eventually(lambda: len(taken) == 2, what="two rows")
    # Begun anew, it makes the same rows again.
    planning.give(rows)
    planning.end(rows)
    reader.join(30)

    assert taken == rows
    record = migration.record()
    assert (record.state, record.mode, record.planned) == (State.SUCCEEDED, Mode.PLAN, True)
    assert record.summary is not None
    assert (record.summary.rows, record.summary.bytes_to_move) == (3, 300)


def test_a_plan_that_fails_is_no_plan(bench: Bench, client: Client) -> None:
    migration = client.plan(SPEC)
    planning = Planning(bench, migration.id)
    planning.give([row(migration.id, 1)])
    planning.fail()

    rows = migration.rows()
    assert next(rows).tags == {"v1": "v1"}
    with pytest.raises(JobFailed, match="no right to push"):
        next(rows)


def test_a_reader_that_leaves_off_ends_the_planning(bench: Bench, client: Client) -> None:
    migration = client.plan(SPEC)
    planning = Planning(bench, migration.id)
    planning.give([row(migration.id, 1)])

    rows = migration.rows()
    next(rows)
    rows.close()
    _, cancel = bench.claims.report(planning.claim)
    assert cancel


def test_a_wait_for_a_plan_that_nobody_reads_says_so(bench: Bench, client: Client) -> None:
    migration = client.plan(SPEC)
    planning = Planning(bench, migration.id)
    planning.give([row(migration.id, number) for number in range(1, MOST_UNREAD + 1)])

    with pytest.raises(UsageError, match=r"iterate over rows\(\) instead"):
        migration.wait(timeout=60)

    # Nothing is lost by it.
    planning.end()
    assert sum(1 for _ in migration.rows()) == MOST_UNREAD


def test_rows_are_run_under_an_id_of_their_own(bench: Bench, client: Client) -> None:
    plan = client.plan(SPEC)
    Planning(bench, plan.id).end()
    rows = [row(plan.id, number) for number in range(1, 1201)]

    first, second = client.migrate(rows), client.migrate(iter(rows[:5]), name="again")
    assert len({plan.id, first.id, second.id}) == 3
    request = bench.ledger.request(first.id)
    assert isinstance(request, MigrationRequest)
    # The plan's own name is still known.
    assert (request.name, request.rows, request.spec) == ("hub-to-prod", 1200, None)
    assert second.record().name == "again"
    key = bench.keys.rows(first.id)
    assert 0 < int(bench.redis.ttl(key)) <= 24 * 3600
    lines = bench.redis.lrange(key, 0, -1)
    written = [PlanRow.parse(line) for line in lines]
    assert {one.migration for one in written} == {first.id}
    assert [one.tags for one in written] == [one.tags for one in rows]
    assert not {one.id for one in written} & {one.id for one in rows}


def test_one_bad_row_in_a_file_leaves_nothing_behind(
    bench: Bench, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "plan.jsonl"
    migration = JobId.new()
    good = "".join(row(migration, number).to_json() + "\n" for number in range(1, 700))
    file.write_text(good + '{"version": 1}\n')

    with pytest.raises(SpecError, match=r"plan\.jsonl:700: action: is missing; write one of copy"):
        client.migrate(file)
    assert client.migrations() == []
    assert not list(bench.redis.scan_iter(f"{bench.namespace}:from:default:rows:*"))


def test_a_plan_without_rows_is_refused(client: Client) -> None:
    with pytest.raises(UsageError, match="no row; nothing is to be done"):
        client.migrate([])


def test_components_that_nobody_publishes_are_named_with_their_line(
    client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC_YAML.replace("registry: hub", "registry: hubb").replace("prod,", "quay,"))

    with pytest.raises(SpecError) as caught:
        client.migrate(file)
    lines = str(caught.value).splitlines()
    hint = "did you mean 'hub'? known: hub, prod"
    assert lines == [
        f"{file}:4: rules[0].from.registry: no component or anonymous source 'hubb'; {hint}",
        f"{file}:5: rules[0].to.registry: no component 'quay'; known: hub, prod",
    ]
    assert client.migrations() == []


def test_a_host_that_workers_read_without_a_component_is_a_source(
    bench: Bench, client: Client
) -> None:
    publish(bench, components=[HUB, PROD], copy_slots=8, anonymous_sources=["quay.io"])
    spec = SPEC_YAML.replace("registry: hub", "registry: quay.io")

    assert client.migrate(spec).record().state is State.QUEUED


def test_without_a_worker_that_copies_a_migration_says_that_it_waits(
    bench: Bench, client: Client
) -> None:
    publish(bench, components=[HUB, PROD], copy_slots=0)
    assert "no live worker takes copies" in client.migrate(SPEC).warnings[0]


def test_a_report_has_every_image(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    first, second = planning.images(2, skipped=1)
    planning.end()
    copied(bench, first, moved=60, mounted=40)
    failed(bench, second)

    report = migration.report()
    assert [image.job for image in report.images] == [first, second]
    assert [(cause.code, cause.images) for cause in report.causes] == [("denied", 1)]
    assert (report.images[0].bytes_moved, report.saved) == (60, 40)
    assert report.moments()[-1].images == 3


def test_jobs_beyond_one_page_are_all_read(bench: Bench, client: Client) -> None:
    migration, planning = begin(bench, client)
    jobs = planning.images(450)

    assert [job.id for job in migration.jobs()] == jobs
