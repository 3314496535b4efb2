"""A job that kills each worker that takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.support.images.corpus import KIB, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.ledger.leftovers import accepted_finishes, left_behind
from tests.support.processes import eventually
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component
from tests.support.workers.forked_workers import Nursery, NurseryWorker
from tests.support.workers.process import reaches
from transship import State

pytestmark = [pytest.mark.redis, pytest.mark.registry]

FLAVOR = '''
import os
from transship_worker import BaseContainerRegistry


class Poison(BaseContainerRegistry):
    """Ends the process that prepares it, as a library that runs amok would."""

    FLAVOR = "poison"

    def prepare_image_push(self, image_name: str) -> None:
        os._exit(139)
'''
ATTEMPTS = 3
CORPUS = shared_layers(1, 1, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="poison")


def two_catalogues(site: CopySite, address: str) -> tuple[Path, Path]:
    """One that knows nothing of the poison, and one that has it as a component."""
    (site.folder / "poison.py").write_text(FLAVOR)
    site.write_catalog({"lab": component(address)})
    healthy = site.catalog.rename(site.folder / "healthy.yaml")
    poison = component(f"{address}/poison", allow=["push", "copy_to"]) | {"flavor": "poison"}
    site.write_catalog(
        {"lab": component(address), "poison": poison},
        flavors=["poison.Poison"],
        flavor_paths=[str(site.folder)],
    )
    return healthy, site.catalog.rename(site.folder / "poisoned.yaml")


def test_a_job_that_kills_its_workers_stops_after_its_attempts_and_says_so(
    tmp_path: Path, redis_url: str, plain_registry: Registry
) -> None:
    fill(plain_registry.base, CORPUS)
    site, address = CopySite(tmp_path, redis_url), plain_registry.address
    # The worker that stays knows nothing of the component, and has no part in it.
    healthy, poisoned = two_catalogues(site, address)
    settings = {
        "TRANSSHIP_LEASE": "30",
        "TRANSSHIP_REAP": "0.1",
        "TRANSSHIP_ATTEMPTS": str(ATTEMPTS),
    }
    source = f"{address}/{CORPUS.images[0].name}"

    with Nursery() as nursery, redis.Redis.from_url(redis_url, decode_responses=True) as ledger:
        try:
            job = site.client.copy(
                source, f"{address}/poison/app:1", source_registry="lab", target_registry="poison"
            )
            bystander = NurseryWorker(
                nursery, site, ["--no-engine", "--catalog", str(healthy)], **settings
            )
            bystander.start()
            for _ in range(ATTEMPTS):
                victim = NurseryWorker(
                    nursery, site, ["--no-engine", "--catalog", str(poisoned)], **settings
                )
                victim.launch()
                # What passing time does: its bell is due, and after its death its lease ends.
                eventually(lambda: hasten(ledger, site, job.id) and not victim.running)  # noqa: B023
                ledger.hset(site.keys.job(job.id), "lease", "1")
                ledger.zadd(site.keys.leases, {job.id: 1})
                eventually(lambda: not ledger.exists(site.keys.leases))

            record = reaches(job, State.FAILED)
            assert record.attempts == ATTEMPTS
            assert record.error is not None
            assert (record.error.code, record.error.retryable) == ("worker_lost", False)
            assert record.error.message.startswith(
                f"given up after {ATTEMPTS} attempts; the last: worker transship@"
            )
            shown = site.run("status", job.id)
            assert "given up after 3 attempts" in shown.stdout
            assert accepted_finishes(ledger, site.keys, job.id) == 1
            # Nobody is killed any more, and others are served.
            assert bystander.running
            other = site.client.copy(
                source, f"{address}/sound/app:1", source_registry="lab", target_registry="lab"
            )
            assert other.wait(30).worker == bystander.name
            eventually(lambda: not left_behind(ledger, site.keys), what="nothing left behind")
        finally:
            site.close()


def hasten(ledger: redis.Redis, site: CopySite, job: str) -> bool:
    """Have a job that waits rung for by the next sweep."""
    for key in ledger.scan_iter(f"{site.keys.prefix}*due:*"):
        ledger.zadd(key, {job: 1}, xx=True)
    return True
