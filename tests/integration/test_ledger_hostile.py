"""What a producer account writes under its own keys harms nobody else, nor the reaper."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.integration.test_migration_ledger import Migration
from tests.support.ledger.bench import Bench
from tests.support.processes import eventually
from transship.model.jobs import JobId, State
from transship.model.push_request import PushRequest
from transship.model.records import Progress
from transship_worker.jobs.claims import WINDOW
from transship_worker.jobs.control import Control
from transship_worker.jobs.heartbeat import Heart

pytestmark = pytest.mark.redis

#: More bytes than Redis counts.
ABSURD = 2**63 - 1


def push(bench: Bench, image: str) -> JobId:
    request = PushRequest.model_validate({"image": image, "registry": "prod"})
    return bench.submit(request)


def spoil_target(bench: Bench, image: str) -> None:
    """What an account can do to the order of its own jobs: make it no order at all."""
    key = f"{bench.keys.account('default')}target:{image}"
    bench.redis.delete(key)
    bench.redis.set(key, "no sorted set")


def test_a_spoilt_target_does_not_keep_the_reaper_from_the_jobs_of_others(bench: Bench) -> None:
    mine, other = push(bench, "gcr.io/a/mine:1"), push(bench, "gcr.io/a/other:1")
    for job in (mine, other):
        bench.claimed(job)
        bench.redis.hset(bench.keys.job(job), "failures", bench.settings.attempts - 1)
        bench.let_lease_end(job)
    bench.redis.zadd(bench.keys.leases, {mine: 0})
    spoil_target(bench, "gcr.io/a/mine:1")

    swept = bench.claims.sweep()

    assert swept.lost == 2
    assert bench.record(mine).state is State.FAILED
    assert bench.record(other).state is State.FAILED


def test_a_job_of_a_spoilt_target_is_finished_at_its_first_word(bench: Bench) -> None:
    claim = bench.claimed(push(bench, "gcr.io/a/b:1"))
    spoil_target(bench, "gcr.io/a/b:1")

    finished = bench.succeed(claim)

    assert finished.accepted
    assert bench.record(claim.job).state is State.SUCCEEDED


def test_a_spoilt_target_does_not_keep_the_reaper_from_other_migrations(bench: Bench) -> None:
    other, spoilt = Migration(bench), Migration(bench)
    for migration, first in ((other, 1_000), (spoilt, 1)):
        released = migration.add(*(migration.row(first + n) for n in range(WINDOW + 1)))
        # A worker is lost for good, which makes room for the last row.
        bench.claimed(released[0])
        bench.redis.hset(bench.keys.job(released[0]), "failures", bench.settings.attempts - 1)
        bench.let_lease_end(released[0])
    spoil_target(bench, f"ecr.example/b/{1 + WINDOW}:1")

    ring = [due.job for due in bench.claims.sweep().ring]

    assert other.row(1_000 + WINDOW).job in ring


def test_absurd_sizes_do_not_break_the_totals(bench: Bench) -> None:
    migration = Migration(bench)
    (job,) = migration.add(migration.row(1))
    claim = bench.claimed(job)
    absurd = Progress(bytes_done=ABSURD * 3, bytes_total=ABSURD * 4)

    for progress in (absurd, Progress(bytes_done=-ABSURD * 3), absurd):
        assert bench.claims.report(claim, progress=progress) == (True, False)
    bench.claims.report(claim, progress=Progress(bytes_done=5, bytes_total=7))

    assert migration.fields["bytes_moved"] == "5"


def test_a_job_that_redis_refuses_to_hear_of_does_not_cost_others_their_leases(
    bench: Bench,
) -> None:
    held = [bench.claimed(push(bench, f"gcr.io/a/{name}:1")) for name in "abcdefgh"]
    heart = Heart()
    with ExitStack() as stack:
        for claim in held:
            control = Control(bench.claims, claim, lease_s=60, deadline_s=60, stall_s=60)
            stack.enter_context(heart.beating(control))
            control.warn("told")
        for claim in held[::2]:
            bench.redis.delete(bench.keys.job(claim.job))
            bench.redis.set(bench.keys.job(claim.job), "no hash")
        heart.start()
        stack.callback(heart.close)
        eventually(
            lambda: all(bench.record(claim.job).warnings == ["told"] for claim in held[1::2])
        )


def test_a_job_whose_request_is_gone_does_not_keep_its_migration_open(bench: Bench) -> None:
    migration = Migration(bench)
    (job,) = migration.add(migration.row(1))
    migration.all_planned()
    bench.redis.delete(bench.keys.request(job))
    bench.redis.zadd(f"{bench.namespace}:due:copy.bulk", {job: 1})
    bench.claims.sweep()
    assert migration.images() == {"failed": 1}
    assert "finished" in migration.fields
