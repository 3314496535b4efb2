"""A worker frozen past its lease wakes up: what it had in hand does no harm any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import redis

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
from tests.support.ledger.dump import now_ms
from tests.support.ledger.leftovers import accepted_finishes
from tests.support.processes import eventually
from tests.support.scripted_servers.holding_proxy import Gate
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component
from tests.support.workers.process import Site, WorkerProcess
from transship import Job
from transship_worker.oci.pool import ClientPool

pytestmark = [pytest.mark.redis, pytest.mark.registry]

#: Long enough for a busy machine, and waited for once in each test. Unit: s.
LEASE = {"TRANSSHIP_LEASE": "6"}

#: Where a copy is frozen: side, request and path in the side's repository; ``!``: the answer.
POINTS = {
    "source-manifest": ("source", "GET", "manifests/.*"),
    "source-blob": ("source", "GET", "blobs/.*"),
    "target-head": ("target", "HEAD", "manifests/.*"),
    "upload-start": ("target", "POST", "blobs/uploads/"),
    "upload": ("target", "P(UT|ATCH)", "blobs/uploads/.+"),
    "child-manifest": ("target", "PUT", "manifests/sha256:.*"),
    "child-manifest-answer": ("target", "PUT", "manifests/sha256:.*!"),
    "tag-answer": ("target", "PUT", "manifests/v1!"),
}


@pytest.fixture(scope="module")
def source() -> Iterator[Registry]:
    """A repository for each point, with an index of its own under each of two tags."""
    with Registry() as registry:

        async def put(pool: ClientPool) -> None:
            for name in POINTS:
                place = repository(pool, registry.address, name)
                for tag in ("older", "newer"):
                    layer = noise(3_000, f"{name}{tag}")
                    # No blob is shared: none of the copies waits for one that is held.
                    config = f'{{"note": "{name} {tag}"}}'.encode()
                    child = await put_image(place, image(layer, config=config), layer, config)
                    await put_image(place, index(entry(child, "linux/amd64")), tag=tag)

        with_pool(put)
        yield registry


@pytest.fixture
def ledger(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def leases_ended(site: Site, ledger: redis.Redis) -> bool:
    return not ledger.zcount(site.keys.leases, now_ms(ledger), "+inf")


def gave_up(worker: WorkerProcess, job: Job) -> bool:
    """Whether a worker's log says that a job is not its own any more."""
    lines = [line for line in worker.log_text().splitlines() if job.id in line]
    return any("given up" in line or "outcome refused" in line for line in lines)


def test_a_copy_frozen_past_its_lease_writes_no_tag_at_any_point(
    tmp_path: Path,
    redis_url: str,
    ledger: redis.Redis,
    source: Registry,
    plain_registry: Registry,
) -> None:
    site = CopySite(tmp_path, redis_url)
    with Gate(source.port) as near, Gate(plain_registry.port) as far:
        gates = {"source": near, "target": far}
        site.write_catalog({"a": component(near.address), "b": component(f"{far.address}/frozen")})
        try:
            holds = []
            for name, (side, method, path) in POINTS.items():
                folder = "" if side == "source" else "frozen/"
                place = f"/v2/{folder}{name}/{path.removesuffix('!')}"
                for one in ("PUT", "PATCH") if method.startswith("P(") else (method,):
                    hold = gates[side].hold(one, place, answer=path.endswith("!"))
                    holds.append((name, hold))
            first = site.start_worker("--no-engine", **LEASE)
            older = {name: copied(site, near, far, name, "older") for name in POINTS}
            for name in POINTS:
                eventually(
                    lambda name=name: any(h.reached.is_set() for n, h in holds if n == name),  # type: ignore[misc]
                    what=f"the point {name}",
                )

            first.freeze()
            eventually(lambda: leases_ended(site, ledger), what="the end of the leases")
            for gate in gates.values():
                gate.release()
            # What it leads expires like its leases, later.
            for key in ledger.scan_iter(f"{site.keys.prefix}copy:*"):
                ledger.delete(key)
            site.start_worker("--no-engine", TRANSSHIP_LEASE="30")
            newer = {name: copied(site, near, far, name, "newer") for name in POINTS}
            for name, job in older.items():
                assert job.wait(60).attempts == 2, name
            wanted = {name: str(job.wait(60).digest) for name, job in newer.items()}
            before = {name: far.written(f"frozen/{name}", "v1") for name in POINTS}
            first.thaw()
            eventually(
                lambda: all(gave_up(first, job) for job in older.values()),
                what="the end of what was frozen",
            )

            # From the registry's side: nobody wrote a tag since, and each is the newer image.
            assert {name: far.written(f"frozen/{name}", "v1") for name in POINTS} == before
            for name, digest in wanted.items():
                assert before[name][-1] == digest, name
                assert plain_registry.digest(f"frozen/{name}", "v1") == digest, name
                for job in (older[name], newer[name]):
                    assert accepted_finishes(ledger, site.keys, job.id) == 1, name
        finally:
            site.close()


def copied(site: Site, near: Gate, far: Gate, name: str, tag: str) -> Job:
    return site.client.copy(f"{near.address}/{name}:{tag}", f"{far.address}/frozen/{name}:v1")


@pytest.mark.engine
def test_an_engine_that_finishes_a_lost_push_writes_only_the_image_fixed_at_the_claim(
    site: Site,
    ledger: redis.Redis,
    plain_registry: Registry,
    docker_client: docker.DockerClient,
) -> None:
    with Gate(plain_registry.port) as gate:
        site.write_catalog({"lab": component(gate.address)})
        name = f"{gate.address}/frozen/push:1"
        make_image(docker_client, "frozen/older:1", layers=[20_000])
        hold = gate.hold("PUT", "/v2/frozen/push/manifests/1")
        first = site.start_worker(**LEASE)
        older = site.client.push(name, registry="lab", source="frozen/older:1")
        eventually(hold.reached.is_set, what="the engine's own write of the tag")
        # The name of the source means another image from now on.
        make_image(docker_client, "frozen/older:1", "frozen/newer:1", layers=[20_000])
        newer = site.client.push(name, registry="lab", source="frozen/newer:1")

        first.freeze()
        eventually(lambda: leases_ended(site, ledger), what="the end of the lease")
        site.start_worker(TRANSSHIP_LEASE="30")
        once = older.wait(60)
        # The engine's write comes late; the next job for the reference waited for its turn.
        gate.release()
        then = newer.wait(60)
        first.thaw()
        eventually(lambda: gave_up(first, older), what="the end of what was frozen")

        assert once.digest != then.digest
        assert set(gate.written("frozen/push", "1")) == {once.digest, then.digest}
        assert once.finished_at is not None
        assert then.started_at is not None
        assert then.started_at >= once.finished_at
        assert older.record().worker != first.name
        for job in (older, newer):
            assert accepted_finishes(ledger, site.keys, job.id) == 1
