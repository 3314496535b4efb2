"""The clock of a worker's machine is wrong; that of Redis is the only one that counts."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tests.support.images.corpus import KIB, separate_layers
from tests.support.images.corpus_fill import fill
from tests.support.ledger.dump import now_ms
from tests.support.ledger.leftovers import accepted_finishes
from tests.support.processes import eventually
from tests.support.scripted_servers.holding_proxy import Gate
from tests.support.servers.registry import Registry
from tests.support.servers.wrong_clock import wrong_by
from tests.support.workers.copy_site import CopySite, component
from tests.support.workers.process import WorkerProcess, reaches
from transship import Job, JobRecord, State
from transship.model.records import when

pytestmark = [pytest.mark.redis, pytest.mark.registry]

CLOCKS = ("+5h", "-5h", "")
LEASE_S = 4
CORPUS = separate_layers(4, 4 * KIB, seed="clocks")


@pytest.mark.parametrize("offset", ["+5h", "-5h"])
def test_a_wrong_clock_is_really_wrong(offset: str) -> None:
    code = "import datetime, time; print(time.time(), time.monotonic())"
    words = [sys.executable, "-c", code]
    wrong = subprocess.check_output(words, env=wrong_by(offset), text=True).split()
    right = subprocess.check_output(words, text=True).split()

    assert abs(abs(float(wrong[0]) - float(right[0])) - 5 * 3600) < 60
    assert abs(float(wrong[1]) - float(right[1])) < 60


def worker_with_one_slot(site: CopySite, offset: str) -> WorkerProcess:
    """A worker whose clock is wrong by so much, and that takes one copy at a time."""
    wrong = wrong_by(offset) if offset else {}
    return site.start_worker("--no-engine", "--copies", "1", TRANSSHIP_LEASE=str(LEASE_S), **wrong)


def test_leases_and_retries_go_by_the_clock_of_redis(
    tmp_path: Path, redis_url: str, plain_registry: Registry
) -> None:
    fill(plain_registry.base, CORPUS)
    site = CopySite(tmp_path, redis_url)
    names = [one.repository for one in CORPUS.images]
    # Stopped until a copy found it so.
    away = Registry()
    with (
        redis.Redis.from_url(redis_url, decode_responses=True) as ledger,
        Gate(plain_registry.port) as gate,
    ):
        site.write_catalog(
            {
                "old": component(plain_registry.address),
                "new": component(gate.address),
                "away": component(away.address),
            }
        )

        def copy(number: int, target: str) -> Job:
            source = f"{plain_registry.address}/{CORPUS.images[number].name}"
            return site.client.copy(source, f"{target}/clocks/{names[number]}:1")

        began = when(now_ms(ledger))
        holds = [gate.hold("POST", f"/v2/clocks/{name}/blobs/uploads/") for name in names[:3]]
        try:
            jobs: list[Job] = []
            workers = []
            # Each takes one copy and has no slot for another; the first one's reaper leads.
            for number, offset in enumerate(CLOCKS):
                workers.append(worker_with_one_slot(site, offset))
                jobs.append(copy(number, gate.address))
                eventually(holds[number].reached.is_set, what=f"the upload of worker {number}")
            renewed = now_ms(ledger) + LEASE_S * 1000

            # All three are renewed by their workers, and taken away by nobody.
            eventually(
                lambda: ledger.zcount(site.keys.leases, renewed + 1000, "+inf") == 3,
                what="three leases that were renewed",
            )
            assert [job.record().worker for job in jobs] == [one.name for one in workers]
            gate.release()
            records = [job.wait(30) for job in jobs]
            workers[2].stop()
            records.append(retried(copy(3, away.address), away, ledger))
            for record in records:
                assert record.digest in {one.digest for one in CORPUS.images}
                right_times(record, began, ledger)
                assert accepted_finishes(ledger, site.keys, record.id) == 1
            assert [record.attempts for record in records[:3]] == [1, 1, 1]
        finally:
            site.close()
            away.close()


def retried(job: Job, away: Registry, ledger: redis.Redis) -> JobRecord:
    """A copy to a registry that is away, by one of the workers whose clock is wrong."""
    record = reaches(job, State.RETRYING)
    assert record.next_attempt_at is not None
    # As long as the backoff says, not five hours more or less.
    now = when(now_ms(ledger))
    assert now - timedelta(seconds=60) < record.next_attempt_at < now + timedelta(seconds=60)
    away.start()
    found = job.wait(60)
    assert found.attempts > 1
    return found


def right_times(record: JobRecord, began: datetime, ledger: redis.Redis) -> None:
    now = when(now_ms(ledger))
    assert record.started_at is not None
    assert record.finished_at is not None
    assert began <= record.created_at <= record.started_at <= record.finished_at <= now
    assert record.created_at.tzinfo is UTC
