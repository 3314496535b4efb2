"""A migration in the ledger: its rows become jobs by a window, and its totals follow them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.ledger.bench import BROKEN, Bench
from transship.model.copy_request import CopyRequest
from transship.model.jobs import JobId, State
from transship.model.migration.plan import PlanRow
from transship.model.migration.request import MigrationRequest, Mode
from transship.model.records import ErrorInfo, Progress
from transship_worker.jobs.claim_results import Answer, Claim, Row
from transship_worker.jobs.claims import POSTPONED_MOST, WINDOW

pytestmark = pytest.mark.redis

PAUSED = ErrorInfo(code="registry_paused", message="the registry asks for a pause", retryable=True)


class Migration:
    """A migration that is being planned."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.request = MigrationRequest(mode=Mode.RUN, name="hub-to-ecr", rows=1)
        self.id = bench.submit(self.request)
        self.claim = bench.claimed(self.id)

    def row(self, number: int, *, size: int = 0, error: ErrorInfo | None = None) -> Row:
        row = PlanRow.model_validate(
            {
                "migration": self.id,
                "rule": 0,
                "action": "copy",
                "source": {
                    "registry": "hub",
                    "repository": f"a/{number}",
                    "digest": f"sha256:{number:064x}",
                },
                "target": {"registry": "ecr", "repository": f"b/{number}"},
                "tags": {"1": "1"},
            }
        )
        request = CopyRequest.model_validate(
            {
                "image": f"ecr.example/b/{number}:1",
                "registry": "ecr",
                "source": f"hub.example/a/{number}@sha256:{number:064x}",
                "source_registry": "hub",
                "migration": self.id,
                "size": size,
            }
        )
        return Row(row.id, request, error=error)

    def add(self, *rows: Row) -> list[JobId]:
        """Add rows; the jobs that found room."""
        held, due = self.bench.claims.add_rows(self.claim, rows)
        assert held
        assert {one.queue for one in due} <= {"copy.bulk"}
        return [one.job for one in due]

    def all_planned(self) -> None:
        assert self.bench.claims.all_planned(self.claim, {"summary": "{}"})
        self.bench.claims.succeed(
            self.claim, digest="", skipped=False, progress=Progress(), warnings=[]
        )

    @property
    def fields(self) -> dict[str, str]:
        found: Any = self.bench.redis.hgetall(self.bench.keys.migration(self.id))
        return dict(found)

    def images(self) -> dict[str, int]:
        states = (*State, "skipped")
        return {s: int(self.fields[s]) for s in states if int(self.fields.get(s, 0))}

    def bytes(self) -> dict[str, int]:
        kinds = ("planned", "moved", "mounted", "present")
        return {k: int(self.fields.get(f"bytes_{k}", 0)) for k in kinds}


@pytest.fixture
def migration(bench: Bench) -> Migration:
    return Migration(bench)


def succeed(bench: Bench, claim: Claim, *, skipped: bool = False, **progress: Any) -> Any:
    return bench.claims.succeed(
        claim,
        digest="sha256:" + "a" * 64,
        skipped=skipped,
        progress=Progress(**progress),
        warnings=[],
    )


def test_rows_become_jobs_of_the_ledger_and_run_to_the_end(
    bench: Bench, migration: Migration
) -> None:
    first, second = migration.add(migration.row(1), migration.row(2))
    assert migration.images() == {"queued": 2}
    assert bench.record(first).migration == migration.id
    succeed(bench, bench.claimed(first))
    assert migration.images() == {"queued": 1, "succeeded": 1}
    migration.all_planned()
    assert "finished" not in migration.fields
    succeed(bench, bench.claimed(second), skipped=True)
    assert migration.images() == {"succeeded": 1, "skipped": 1}
    assert int(migration.fields["finished"]) > 0
    assert bench.redis.pttl(bench.keys.migration(migration.id)) > 0


def test_the_age_of_a_migrations_job_is_that_of_the_migration(
    bench: Bench, migration: Migration
) -> None:
    bench.redis.hincrby(bench.keys.migration(migration.id), "created", -60_000)
    (job,) = migration.add(migration.row(1))
    assert 60 <= time.monotonic() - bench.claimed(job).since < 90


def test_a_migration_without_anything_to_do_is_finished_when_it_is_planned(
    migration: Migration,
) -> None:
    migration.add(Row(JobId.new(), None, skipped=1), Row(JobId.new(), None, skipped=1))
    assert "finished" not in migration.fields
    migration.all_planned()
    assert migration.images() == {"skipped": 2}
    assert "finished" in migration.fields


def test_a_row_that_is_planned_again_is_no_second_job(bench: Bench, migration: Migration) -> None:
    (job,) = migration.add(migration.row(1))
    succeed(bench, bench.claimed(job))
    assert migration.add(migration.row(1)) == []
    # A planner that begins anew finds the copied image there, under the same id.
    assert migration.add(Row(job, None, skipped=1)) == []
    assert migration.images() == {"succeeded": 1}


def test_only_a_window_of_a_migration_is_on_the_queue(bench: Bench, migration: Migration) -> None:
    count = WINDOW + 10
    released = migration.add(*(migration.row(n) for n in range(1, count + 1)))
    assert len(released) == WINDOW
    assert bench.redis.llen(bench.keys.pending(migration.id)) == 10
    assert migration.images() == {"queued": count}
    finished = succeed(bench, bench.claimed(released[0]))
    assert [one.queue for one in finished.more] == ["copy.bulk"]
    assert finished.more[0].job not in released
    assert bench.redis.llen(bench.keys.pending(migration.id)) == 9


def test_images_that_wait_for_a_paused_registry_let_others_onto_the_queue(
    bench: Bench, migration: Migration
) -> None:
    released = migration.add(*(migration.row(n) for n in range(1, WINDOW + 11)))
    paused = [
        bench.claims.pause(bench.claimed(job), PAUSED, 3600).more[0].job for job in released[:10]
    ]
    assert len({*released, *paused}) == WINDOW + 10
    assert migration.images() == {"queued": WINDOW, "retrying": 10}
    assert bench.redis.llen(bench.keys.pending(migration.id)) == 0


def test_no_more_than_so_many_images_wait_for_a_paused_registry(
    bench: Bench, migration: Migration
) -> None:
    most = WINDOW + POSTPONED_MOST
    waiting = migration.add(*(migration.row(n) for n in range(1, most + 6)))
    for _ in range(most):
        finished = bench.claims.pause(bench.claimed(waiting.pop()), PAUSED, 3600)
        waiting += [one.job for one in finished.more]
    assert waiting == []
    assert migration.images() == {"queued": 5, "retrying": most}
    assert bench.redis.llen(bench.keys.pending(migration.id)) == 5


def test_a_window_that_a_lost_worker_did_not_fill_is_filled_by_the_reaper(
    bench: Bench, migration: Migration
) -> None:
    released = migration.add(*(migration.row(n) for n in range(1, WINDOW + 2)))
    claim = bench.claimed(released[0])
    (left,) = bench.redis.lrange(bench.keys.pending(migration.id), 0, -1)
    finished = succeed(bench, claim)
    assert [one.job for one in finished.more] == [left]
    # The bell of the one that found room is lost with its worker: the job is due by itself.
    bench.redis.zadd(bench.keys.waiting("copy.bulk"), {str(left): 1})
    assert left in [due.job for due in bench.claims.sweep().ring]


def test_a_row_that_its_rule_forbids_is_a_failed_image(bench: Bench, migration: Migration) -> None:
    error = ErrorInfo(code="tag_conflict", message="another image is there", retryable=False)
    row = migration.row(1, error=error)
    assert migration.add(row) == []
    assert migration.images() == {"failed": 1}
    assert bench.record(row.job).error == error


def test_bytes_follow_the_jobs_and_what_was_sent_twice_is_counted_twice(
    bench: Bench, migration: Migration
) -> None:
    (job,) = migration.add(migration.row(1, size=100))
    assert migration.bytes()["planned"] == 100
    claim = bench.claimed(job)
    bench.claims.report(claim, progress=Progress(bytes_done=40, bytes_total=100))
    assert migration.bytes() == {"planned": 100, "moved": 40, "mounted": 0, "present": 0}
    bench.claims.try_later(claim, BROKEN, 0)
    bench.let_retry_come_due(job)
    again = bench.claimed(job)
    assert migration.bytes()["moved"] == 40
    # The 40 bytes are there now, 10 of the rest are mounted.
    succeed(bench, again, bytes_done=120, bytes_total=120, bytes_present=40, bytes_mounted=10)
    assert migration.bytes() == {"planned": 120, "moved": 110, "mounted": 10, "present": 0}


def test_a_paused_job_waits_without_spending_an_attempt(bench: Bench, migration: Migration) -> None:
    (job,) = migration.add(migration.row(1))
    for _ in range(bench.settings.attempts + 1):
        finished = bench.claims.pause(bench.claimed(job), PAUSED, 30)
        assert (finished.accepted, finished.state) == (True, State.RETRYING)
        record = bench.record(job)
        assert record.error == PAUSED
        assert record.next_attempt_at is not None
        assert bench.claim(job).answer is Answer.NOT_DUE
        assert job not in [due.job for due in bench.claims.sweep().ring]
        bench.let_retry_come_due(job)
    assert bench.claimed(job).attempt == 1


def test_a_cancelled_migration_ends_its_jobs(bench: Bench, migration: Migration) -> None:
    released = migration.add(*(migration.row(n) for n in range(1, WINDOW + 6)))
    running = bench.claimed(released[0])
    migration.all_planned()
    bench.ledger.cancel(migration.id)
    assert bench.claims.report(running) == (True, True)
    # Any bell for the migration ends what is not on the queue.
    assert bench.claim(migration.id).answer is Answer.FINAL
    assert bench.redis.llen(bench.keys.pending(migration.id)) == 0
    assert migration.images() == {"queued": WINDOW - 1, "running": 1, "cancelled": 5}
    for job in released[1:]:
        assert bench.claim(job).answer is Answer.CANCELLED
    bench.claims.cancelled(running)
    assert migration.images() == {"cancelled": WINDOW + 5}
    assert "finished" in migration.fields


def test_a_wish_to_cancel_at_the_very_end_of_planning_is_not_lost(
    bench: Bench, migration: Migration
) -> None:
    released = migration.add(*(migration.row(n) for n in range(1, WINDOW + 6)))
    bench.ledger.cancel(migration.id)
    # The planner did not hear of it any more, and the bell of the wish comes when it is done.
    migration.all_planned()
    assert bench.claim(migration.id).answer is Answer.FINAL
    bench.claims.sweep()
    assert bench.redis.llen(bench.keys.pending(migration.id)) == 0
    for job in released:
        assert bench.claim(job).answer is Answer.CANCELLED
    assert migration.images() == {"cancelled": WINDOW + 5}


def test_a_failed_job_that_is_retried_opens_the_migration_again(
    bench: Bench, migration: Migration
) -> None:
    (job,) = migration.add(migration.row(1))
    migration.all_planned()
    bench.claims.fail(bench.claimed(job), BROKEN)
    assert (migration.images(), "finished" in migration.fields) == ({"failed": 1}, True)
    bench.ledger.retry(job)
    claim = bench.claimed(job)
    assert (migration.images(), "finished" in migration.fields) == ({"running": 1}, False)
    assert bench.redis.pttl(bench.keys.migration(migration.id)) == -1
    succeed(bench, claim)
    assert (migration.images(), "finished" in migration.fields) == ({"succeeded": 1}, True)


def test_planning_that_failed_for_good_ends_the_migration_with_its_jobs(
    bench: Bench, migration: Migration
) -> None:
    (job,) = migration.add(migration.row(1))
    bench.claims.fail(migration.claim, BROKEN)
    assert "finished" not in migration.fields
    succeed(bench, bench.claimed(job))
    assert "finished" in migration.fields
    assert ErrorInfo.model_validate_json(migration.fields["error"]) == BROKEN


def test_rows_of_a_planner_that_lost_its_claim_are_refused(
    bench: Bench, migration: Migration
) -> None:
    bench.let_lease_end(migration.id)
    bench.claims.sweep()
    bench.claimed(migration.id)
    held, due = bench.claims.add_rows(migration.claim, [migration.row(1)])
    assert (held, due) == (False, [])
    assert not bench.claims.all_planned(migration.claim, {})
    assert migration.images() == {}


def test_a_migration_that_was_cancelled_while_it_was_planned_can_be_planned_again(
    bench: Bench, migration: Migration
) -> None:
    bench.ledger.cancel(migration.id)
    bench.claims.cancelled(migration.claim)
    bench.ledger.retry(migration.id)
    migration.claim = bench.claimed(migration.id)
    (job,) = migration.add(migration.row(1))
    bench.claimed(job)
    assert migration.images() == {"running": 1}


def test_a_failed_job_of_a_cancelled_migration_can_be_retried(
    bench: Bench, migration: Migration
) -> None:
    (failed, waiting) = migration.add(migration.row(1), migration.row(2))
    migration.all_planned()
    bench.claims.fail(bench.claimed(failed), BROKEN)
    bench.ledger.cancel(migration.id)
    assert bench.claim(migration.id).answer is Answer.FINAL
    assert bench.claim(waiting).answer is Answer.CANCELLED
    bench.ledger.retry(failed)
    succeed(bench, bench.claimed(failed))
    assert migration.images() == {"succeeded": 1, "cancelled": 1}


def test_what_belongs_to_a_migration_is_kept_as_long_as_it_runs(
    bench: Bench, migration: Migration
) -> None:
    (done, waiting) = migration.add(migration.row(1), migration.row(2))
    migration.all_planned()
    succeed(bench, bench.claimed(done))

    def let_retention_end() -> int:
        members: Any = bench.redis.zrange(bench.keys.retention, 0, -1)
        bench.redis.zadd(bench.keys.retention, dict.fromkeys(members, 1))
        return bench.claims.sweep().forgotten

    assert let_retention_end() == 0
    assert bench.record(done).state is State.SUCCEEDED
    bench.ledger.cancel(migration.id)
    bench.claim(migration.id)
    assert bench.claim(waiting).answer is Answer.CANCELLED
    assert let_retention_end() == 0
    bench.redis.hset(bench.keys.migration(migration.id), "finished", 1)
    assert let_retention_end() == 3


def test_a_job_that_outlives_its_migration_leaves_nothing_of_it(
    bench: Bench, migration: Migration
) -> None:
    (job,) = migration.add(migration.row(1, size=5))
    migration.all_planned()
    bench.claims.fail(bench.claimed(job), BROKEN)
    bench.redis.delete(bench.keys.migration(migration.id))
    bench.ledger.retry(job)
    claim = bench.claimed(job)
    bench.claims.report(claim, progress=Progress(bytes_done=5, bytes_total=5))
    succeed(bench, claim, bytes_done=5, bytes_total=5)
    assert not bench.redis.exists(bench.keys.migration(migration.id))
