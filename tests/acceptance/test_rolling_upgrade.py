"""Workers of two versions side by side, while one replaces the other."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.images.corpus import KIB, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.ledger.leftovers import accepted_finishes, left_behind
from tests.support.processes import eventually
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component
from tests.support.workers.forked_workers import Nursery, NurseryWorker
from tests.support.workers.newer_version import NewerCopy
from transship import State
from transship.model.references import ImageReference

pytestmark = [pytest.mark.redis, pytest.mark.registry]

CORPUS = shared_layers(3, 1, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="rolling")


def test_a_rolling_update_loses_nothing(
    tmp_path: Path, redis_url: str, plain_registry: Registry
) -> None:
    fill(plain_registry.base, CORPUS)
    site, address = CopySite(tmp_path, redis_url), plain_registry.address
    site.write_catalog({"lab": component(address)})

    def wanted(number: int, folder: str) -> dict[str, Any]:
        name = CORPUS.images[number].name
        return {
            "image": ImageReference.parse(f"{address}/{folder}/{name}"),
            "registry": "lab",
            "source": ImageReference.parse(f"{address}/{name}"),
            "source_registry": "lab",
        }

    with Nursery() as nursery, redis.Redis.from_url(redis_url, decode_responses=True) as ledger:
        try:
            older = NurseryWorker(nursery, site, ["--no-engine"], TRANSSHIP_LEASE="30")
            older.start()
            newer_jobs = site.client._enqueue(
                [NewerCopy(**wanted(number, "two")) for number in range(3)], ()
            )
            plain_jobs = [
                site.client.copy(str(one["source"]), str(one["image"]))
                for one in (wanted(number, "one") for number in range(3))
            ]
            for job in plain_jobs:
                job.wait(30)
            # The older one heard of all, and left what it cannot read.
            eventually(lambda: int(ledger.hget(site.keys.refused, "newer_request") or 0) >= 3)
            assert {job.record().state for job in newer_jobs} == {State.QUEUED}

            change = "tests.support.workers.newer_version:install"
            newer = NurseryWorker(
                nursery, site, ["--no-engine"], change=change, TRANSSHIP_LEASE="30"
            )
            newer.start()
            older.end(signal.SIGTERM)

            for number, job in enumerate(newer_jobs):
                record = job.wait(60)
                assert record.worker == newer.name
                assert record.digest == CORPUS.images[number].digest
            for job in (*plain_jobs, *newer_jobs):
                assert accepted_finishes(ledger, site.keys, job.id) == 1
            eventually(lambda: not left_behind(ledger, site.keys), what="nothing left behind")
        finally:
            site.close()
