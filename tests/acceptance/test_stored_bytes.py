"""What a producer's narrow account writes as a request harms no worker, and ends visibly.

The attacks write under the account's own keys, and ring as anybody may.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from benchmarks.parse import read
from benchmarks.stored_requests import corpus
from tests.support.ledger.leftovers import accepted_finishes, left_behind, let_time_pass
from tests.support.processes import eventually
from tests.support.servers.redis_accounts import GuardedRedis
from tests.support.workers.crash_points import LAST_WORDS
from tests.support.workers.forked_workers import Nursery, NurseryWorker
from tests.support.workers.process import Site, WorkerProcess, reaches
from transship import Client, Job, State
from transship.ledger.functions import Functions
from transship.ledger.notifications import Bell, Doorbell
from transship.model.jobs import JobId, Kind
from transship.model.requests import MIGRATION_HEAD
from transship.model.stored_text import REQUEST
from transship_config.lanes import COPY_QUEUE
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

#: Nobody listens there.
NOWHERE = "127.0.0.1:9"
ATTEMPTS = 3
#: By how much a worker may grow at most while it refuses a request. Unit: KiB.
GROWTH_KIB = 40 << 10


class Attack:
    """A Redis with narrow accounts, and what the one that is called ``producer`` does there."""

    def __init__(self, server: GuardedRedis, site: Site) -> None:
        self.server, self.site = server, site
        more = {"TRANSSHIP_URL": server.url_of("producer")}
        self._settings = Settings.from_environment(site.environment | more)
        self.client = Client(settings=self._settings)
        self.admin: redis.Redis = server.client()
        # As the first worker of any fleet does.
        Functions(self.admin, site.keys).load()

    def honest(self, number: int = 1) -> Job:
        """A copy that a worker claims, and that fails because no registry is there."""
        source, target = f"{NOWHERE}/x:1", f"{NOWHERE}/y:{number}"
        return self.client.copy(source, target, source_registry="a", target_registry="a")

    def write(self, body: bytes | str) -> Job:
        """Write the bytes of a request in place of those of an honest one, and ring."""
        job = self.client.job(self.forged(body))
        with closing(self.server.as_account("producer")) as producer:
            base = self.site.keys.account("producer")
            for name in ("queued", f"due:{COPY_QUEUE}", f"target:{NOWHERE}/y:1"):
                producer.zadd(base + name, {job.id: 1})
        self.ring(job.id)
        return job

    def forged(self, body: bytes | str) -> str:
        job = JobId.new("producer")
        with closing(self.server.as_account("producer")) as producer:
            producer.set(self.site.keys.request(job), body)
        return job

    def ring(self, job: str) -> None:
        with closing(Doorbell(self._settings, self.server.url_of("producer"))) as doorbell:
            doorbell.ring([Bell(JobId(job), COPY_QUEUE, "an image", again=True)])

    def close(self) -> None:
        self.client.close()
        self.admin.close()


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    server = GuardedRedis()
    site = Site(tmp_path, server.url_of("worker"), "unix:///nowhere")
    server.namespace = site.namespace
    with server:
        site.write_catalog({"a": {"flavor": "default", "uri": NOWHERE}})
        found = Attack(server, site)
        try:
            yield found
        finally:
            found.close()
            site.close()


def memory(worker: WorkerProcess, line: str) -> int:
    """A line of the process's status, such as the most memory that it had. Unit: KiB."""
    status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return next(int(found.split()[1]) for found in status if found.startswith(line))


def claimed(attack: Attack, number: int) -> None:
    """A worker serves an honest job."""
    job = attack.honest(number)
    eventually(lambda: job.record().attempts > 0, what="an honest job that is claimed")
    job.cancel()


def long_body(head: str) -> str:
    return head + ",".join(f'"key{number}":{{}}' for number in range(600_000)) + "}"


def test_a_request_of_9_mb_is_refused_unread_and_counted_once(attack: Attack) -> None:
    worker = attack.site.start_worker("--no-engine", TRANSSHIP_ATTEMPTS=str(ATTEMPTS))
    claimed(attack, 100)
    before = memory(worker, "VmRSS:")
    heads = ('{"image":"a.b/c:1",', MIGRATION_HEAD + ",", "[" * 9_000_000)
    jobs = [attack.write(long_body(head)) for head in heads]

    for job in jobs:
        record = reaches(job, State.FAILED)
        assert record.error is not None
        assert (record.error.code, record.error.retryable) == ("request_too_long", False)
        assert "and was not read" in record.error.message
        assert len(record.error.message) < 300
        attack.ring(job.id)
    claimed(attack, 101)

    assert worker.running
    assert memory(worker, "VmHWM:") < before + GROWTH_KIB
    for job in jobs:
        assert accepted_finishes(attack.admin, attack.site.keys, job.id) == 1
        assert job.record().attempts == 0
    counted = attack.admin.hget(attack.site.keys.refused, "request_too_long")
    assert counted == str(len(jobs))
    shown = attack.site.run("jobs", TRANSSHIP_URL=attack.server.url_of("producer"))
    assert shown.stdout.count("failed") >= len(jobs)


def test_the_dearest_requests_end_as_failed_and_cost_a_worker_little(attack: Attack) -> None:
    worker = attack.site.start_worker("--no-engine", TRANSSHIP_COPIES="16")
    claimed(attack, 100)
    before = memory(worker, "VmRSS:")
    bodies = [body for name, body in corpus() if "newer" not in name and read(body) != "read"]
    jobs = [attack.write(body) for body in bodies]

    for job in jobs:
        record = reaches(job, State.FAILED)
        assert record.error is not None
        assert record.error.code == "invalid_request", record
        assert len(record.error.message) < 700
    claimed(attack, 101)

    assert worker.running
    assert memory(worker, "VmHWM:") < before + (80 << 10) + GROWTH_KIB


def test_a_job_that_kills_those_who_read_it_stops_after_its_attempts(attack: Attack) -> None:
    job = attack.honest()
    site, admin = attack.site, attack.admin
    settings = {
        "TRANSSHIP_LEASE": "30",
        "TRANSSHIP_REAP": "0.1",
        "TRANSSHIP_ATTEMPTS": str(ATTEMPTS),
    }
    death = {"DEATH_AT": "transship_worker.jobs.runner:parse_request", "DEATH_WHEN": "before"}
    with Nursery() as nursery:
        for number in range(ATTEMPTS):
            victim = NurseryWorker(
                nursery,
                site,
                ["--no-engine"],
                change="tests.support.workers.crash_points:install",
                **settings,
                **death,
            )
            victim.launch()
            eventually(lambda: not victim.running, what="the death")  # noqa: B023
            assert LAST_WORDS in victim.log_text()
            assert job.record().attempts == 0
            mark: Any = admin.get(site.keys.reading(job.id))
            assert (mark.split()[0], mark.split()[2]) == (str(number), victim.name)
            let_time_pass(admin, site.keys)
        NurseryWorker(nursery, site, ["--no-engine"], **settings).start()

        record = reaches(job, State.FAILED)
        assert record.attempts == ATTEMPTS
        assert record.error is not None
        assert (record.error.code, record.error.retryable) == ("worker_lost", False)
        assert record.error.message == (
            f"given up after {ATTEMPTS} attempts; the last: worker {victim.name} went silent while "
            "it read the request"
        )
        assert accepted_finishes(admin, site.keys, job.id) == 1
        claimed(attack, 2)
        eventually(
            lambda: not [key for key in left_behind(admin, site.keys) if "reading" in key],
            what="no reading",
        )


def test_a_reader_that_died_counts_as_an_attempt_of_a_job_that_goes_on(attack: Attack) -> None:
    job = attack.honest()
    site, settings = attack.site, {"TRANSSHIP_LEASE": "30", "TRANSSHIP_REAP": "0.1"}
    death = {"DEATH_AT": "transship_worker.jobs.runner:parse_request", "DEATH_WHEN": "after"}
    with Nursery() as nursery:
        victim = NurseryWorker(
            nursery,
            site,
            ["--no-engine"],
            change="tests.support.workers.crash_points:install",
            **settings,
            **death,
        )
        victim.launch()
        eventually(lambda: not victim.running, what="the death")
        let_time_pass(attack.admin, site.keys)
        NurseryWorker(nursery, site, ["--no-engine"], **settings).start()
        eventually(lambda: job.record().attempts == 2, what="the second attempt")
        job.cancel()


def test_the_reaper_reads_no_request(attack: Attack) -> None:
    worker = attack.site.start_worker("--no-engine", TRANSSHIP_REAP="0.1")
    claimed(attack, 100)
    before = memory(worker, "VmRSS:")
    # For an engine that no worker has: the reaper alone sees them.
    body = json.dumps({"image": "a.b/c:1", "registry": "a", "engine": "none"})[:-1]
    jobs = [attack.forged(body + f',"x":{"[" * 60_000}') for _ in range(200)]
    late = [attack.forged(long_body(body + ",")) for _ in range(3)]
    with closing(attack.server.as_account("producer")) as producer:
        base = attack.site.keys.account("producer")
        for job in (*jobs, *late):
            producer.zadd(base + "queued", {job: 1})
            producer.zadd(base + "due:push.none", {job: 1})
            producer.zadd(base + "expiry", {job: 1})

    for job in (*jobs, *late):
        record = reaches(attack.client.job(job), State.FAILED)
        assert record.error is not None
        assert record.error.code == "expired"
    claimed(attack, 101)
    assert memory(worker, "VmHWM:") < before + GROWTH_KIB


def test_a_long_specification_is_listed_read_and_cancelled(attack: Attack) -> None:
    names = [f"library/image-{number}" for number in range(9_000)]
    rule = {"from": {"registry": "a", "repositories": names}, "to": {"registry": "a"}}
    rule["to"]["repository"] = "mirror/{repository}"  # type: ignore[index]
    spec = {"version": 1, "name": "long-one", "rules": [rule]}
    migration = attack.client.migrate(spec)
    assert attack.admin.strlen(attack.site.keys.request(JobId(migration.id))) > REQUEST.longest

    job = attack.client.job(migration.id)
    assert (job.record().image, job.record().kind) == ("long-one", Kind.MIGRATION)
    attack.site.start_worker("--no-engine")
    eventually(lambda: job.record().attempts > 0, what="a migration that is claimed")
    migration.cancel()
    reaches(job, State.CANCELLED)
