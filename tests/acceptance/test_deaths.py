"""A worker dies between each pair of neighbouring steps of a job's life; another ends the job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import redis

from tests.support.images.corpus import KIB, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.images.engine_images import make_image
from tests.support.images.registry_images import (
    entry,
    image,
    index,
    noise,
    put_image,
    repository,
    with_pool,
)
from tests.support.ledger.leftovers import accepted_finishes, left_behind, let_time_pass
from tests.support.processes import eventually
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component, rule, spec
from tests.support.workers.crash_points import LAST_WORDS
from tests.support.workers.forked_workers import Nursery, NurseryWorker
from tests.support.workers.process import Site
from transship import State
from transship_worker.oci.pool import ClientPool

pytestmark = [pytest.mark.redis, pytest.mark.registry]

CLAIMS = "transship_worker.jobs.claims:Claims"
RUNNER = "transship_worker.jobs.runner:Runner"
PUSHING = "transship_worker.handlers.push:Pushing"
ENGINE = "transship_worker.transports.engine_push:DockerPush"
FLAVOR = "transship_worker.flavors.base:BaseContainerRegistry"
COPY = "transship_worker.transports.copy.image:_ImageCopy"
PLANNED = json.dumps({"digest": ""})

#: Where a worker dies, in the order of a push's steps.
IN_A_PUSH = {
    "before the bell is answered": (f"{RUNNER}.answer", "before"),
    "after the request is read": (f"{CLAIMS}.read", "after"),
    "after it is accepted": (f"{PUSHING}.accept", "after"),
    "after the claim": (f"{CLAIMS}.claim", "after"),
    "after the image is fixed": ("transship_worker.jobs.control:Control.settled", "after"),
    "after the registry is prepared": (f"{FLAVOR}.prepare_image_push", "after"),
    "before the upload": (f"{ENGINE}._send", "before"),
    "after the upload": (f"{ENGINE}._send", "after"),
    "after the look at the target": (f"{ENGINE}._verified", "after"),
    "before the finish": (f"{CLAIMS}.succeed", "before"),
    "after the finish": (f"{CLAIMS}.succeed", "after"),
    "after the next one is rung for": (f"{RUNNER}._ring_next", "after"),
}
IN_A_COPY = {
    "after the claim": (f"{CLAIMS}.claim", "after"),
    "after the leads are taken": ("transship_worker.fleet.leads:RedisLeads.take", "after"),
    "after the first blob": ("transship_worker.oci.uploads:Upload.finish", "after"),
    "after all blobs": ("transship_worker.transports.copy.transfer:Bringing.bring", "after"),
    "after the first manifest": (f"{COPY}._put", "after"),
    "before the tag": (f"{COPY}._put_tag", "before"),
    "after the tag": (f"{COPY}._put_tag", "after"),
    "before the finish": (f"{CLAIMS}.succeed", "before"),
    "after the finish": (f"{CLAIMS}.succeed", "after"),
}
IN_A_PLANNING = {
    "after the claim": (f"{CLAIMS}.claim", "after", "{}"),
    "after the first rows": (f"{CLAIMS}.add_rows", "after", "{}"),
    "before the last word on rows": (f"{CLAIMS}.all_planned", "before", "{}"),
    "after the last word on rows": (f"{CLAIMS}.all_planned", "after", "{}"),
    "before the finish": (f"{CLAIMS}.succeed", "before", PLANNED),
    "after the finish": (f"{CLAIMS}.succeed", "after", PLANNED),
}

IMAGES = shared_layers(3, 1, shared=1, shared_size=8 * KIB, own_size=4 * KIB, seed="deaths")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as found:
        yield found


@pytest.fixture(scope="module")
def source() -> Iterator[Registry]:
    """Holds an index of two images, and three images for a migration."""
    with Registry() as registry:

        async def put(pool: ClientPool) -> None:
            place = repository(pool, registry.address, "acme/app")
            entries = []
            for platform in ("linux/amd64", "linux/arm64"):
                layers = [noise(20_000, f"{platform}{number}") for number in range(2)]
                found = await put_image(place, image(*layers), *layers, b"{}")
                entries.append(entry(found, platform))
            await put_image(place, index(*entries), tag="1")

        with_pool(put)
        fill(registry.base, IMAGES)
        yield registry


@pytest.fixture
def ledger(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


class Ward:
    """One case: a worker that dies, and one that goes on."""

    def __init__(self, nursery: Nursery, site: Site, ledger: redis.Redis, *words: str) -> None:
        self.site, self.ledger = site, ledger
        self._nursery, self._words = nursery, words

    def worker(self, **environment: Any) -> NurseryWorker:
        # No lease ends by itself here, however busy the machine is.
        settings = {"TRANSSHIP_LEASE": "30", "TRANSSHIP_REAP": "0.1", **environment}
        return NurseryWorker(self._nursery, self.site, self._words, **settings)

    def die(self, at: str, when: str, condition: str = "{}") -> None:
        """Have a worker die in the middle of what was submitted."""
        death = {"DEATH_AT": at, "DEATH_WHEN": when, "DEATH_IF": condition}
        mortal = self.worker(change="tests.support.workers.crash_points:install", **death)
        mortal.launch()
        eventually(lambda: not mortal.running, what="the death")
        assert LAST_WORDS in mortal.log_text()
        let_time_pass(self.ledger, self.site.keys)

    def check(self, *jobs: str) -> None:
        """Each job ended once, and nothing of them is left."""
        for job in jobs:
            assert accepted_finishes(self.ledger, self.site.keys, job) == 1, job
        eventually(
            lambda: not left_behind(self.ledger, self.site.keys),
            what="nothing left behind",
        )
        for worker in self.site.workers:
            worker.kill9()


@pytest.mark.engine
@pytest.mark.parametrize("where", IN_A_PUSH)
def test_a_push_outlives_the_death_of_its_worker(
    where: str,
    site: Site,
    nursery: Nursery,
    ledger: redis.Redis,
    plain_registry: Registry,
    docker_client: docker.DockerClient,
) -> None:
    ward = Ward(nursery, site, ledger, "--copies", "0", "--bulk", "0")
    address = plain_registry.address
    site.write_catalog({"lab": component(address)})
    name = f"deaths/push-{list(IN_A_PUSH).index(where)}"
    make_image(docker_client, "first:1")
    make_image(docker_client, "second:1")
    # Two for one target: the second is the next that is to be rung for.
    jobs = [
        site.client.push(f"{address}/{name}:1", registry="lab", source=source)
        for source in ("first:1", "second:1")
    ]

    ward.die(*IN_A_PUSH[where])
    ward.worker().start()
    first, second = (job.wait(30) for job in jobs)

    assert first.digest != second.digest
    assert plain_registry.digest(name, "1") == second.digest
    assert plain_registry.manifest(name, str(first.digest))
    ward.check(*(job.id for job in jobs))


@pytest.mark.parametrize("where", IN_A_COPY)
def test_a_copy_outlives_the_death_of_its_worker(
    where: str,
    tmp_path: Path,
    redis_url: str,
    nursery: Nursery,
    ledger: redis.Redis,
    source: Registry,
    plain_registry: Registry,
) -> None:
    site = CopySite(tmp_path, redis_url)
    ward = Ward(nursery, site, ledger, "--no-engine")
    try:
        site.write_catalog({"a": component(source.address), "b": component(plain_registry.address)})
        name = f"deaths/copy-{list(IN_A_COPY).index(where)}"
        job = site.client.copy(
            f"{source.address}/acme/app:1",
            f"{plain_registry.address}/{name}",
            source_registry="a",
            target_registry="b",
            tags=["1", "2"],
        )

        ward.die(*IN_A_COPY[where])
        ward.worker().start()
        record = job.wait(30)

        assert record.digest == source.digest("acme/app", "1")
        assert [plain_registry.digest(name, tag) for tag in "12"] == [record.digest] * 2
        ward.check(job.id)
    finally:
        site.close()


@pytest.mark.parametrize("where", IN_A_PLANNING)
def test_a_planning_outlives_the_death_of_its_worker(
    where: str,
    tmp_path: Path,
    redis_url: str,
    nursery: Nursery,
    ledger: redis.Redis,
    source: Registry,
    plain_registry: Registry,
) -> None:
    site = CopySite(tmp_path, redis_url)
    ward = Ward(nursery, site, ledger, "--no-engine")
    folder = f"deaths/plan-{list(IN_A_PLANNING).index(where)}"
    try:
        site.write_catalog(
            {"a": component(source.address), "b": component(f"{plain_registry.address}/{folder}")}
        )
        migration = site.client.migrate(spec(rule("a", "b", "deaths/*")))

        ward.die(*IN_A_PLANNING[where])
        ward.worker().start()
        record = migration.wait(30)

        assert record.images.planned == record.images.succeeded + record.images.skipped == 3
        for one in IMAGES.images:
            assert plain_registry.digest(f"{folder}/{one.repository}", one.tag) == one.digest
        jobs = list(migration.jobs())
        assert {job.state for job in jobs} == {State.SUCCEEDED}
        ward.check(migration.id, *(job.id for job in jobs))
    finally:
        site.close()
