"""One image under very many tags of one repository, written by two workers at the same time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from tests.support.images.registry_images import (
    entry,
    image,
    index,
    noise,
    put_image,
    repository,
    with_pool,
)
from tests.support.servers.registry import MANIFEST_TYPES, Registry
from tests.support.workers.copy_site import CopySite, component
from transship import Job, State
from transship_worker.oci.pool import ClientPool

pytestmark = [pytest.mark.redis, pytest.mark.registry]

TAGS = 200
WORKERS = 2
#: Copies that each worker runs at once.
SLOTS = 16
REPOSITORY = "many/app"


@pytest.fixture
def registries() -> Iterator[tuple[Registry, Registry]]:
    """A source, and a target without any repository."""
    with Registry() as source, Registry() as target:
        yield source, target


@pytest.fixture
def site(
    tmp_path_factory: pytest.TempPathFactory,
    redis_url: str,
    registries: tuple[Registry, Registry],
) -> Iterator[CopySite]:
    """Two workers that copy between these registries."""
    source, target = registries
    site = CopySite(tmp_path_factory.mktemp("many"), redis_url)
    try:
        site.write_catalog({"old": component(source.address), "new": component(target.address)})
        for _ in range(WORKERS):
            site.start_copier(TRANSSHIP_COPIES=str(SLOTS))
        yield site
    finally:
        site.close()


def put(source: Registry, *, platforms: int) -> str:
    """Put an image of two layers, or an index of several ones, into the source; its digest."""

    async def work(pool: ClientPool) -> str:
        place = repository(pool, source.address, REPOSITORY)
        images = []
        for number in range(max(platforms, 1)):
            layers = [noise(5_000, f"{number}/{layer}") for layer in range(2)]
            config = f'{{"number": {number}}}'.encode()
            made = image(*layers, config=config)
            tag = None if platforms else "v1"
            images.append(await put_image(place, made, *layers, config, tag=tag))
        if not platforms:
            return images[0].digest
        entries = [entry(one, f"linux/a{number}") for number, one in enumerate(images)]
        return (await put_image(place, index(*entries), tag="v1")).digest

    return with_pool(work)


def served(registry: Registry, reference: str) -> tuple[str, str]:
    """The digest that the registry states for a reference, and that of the bytes it sends."""
    answer = registry.get(f"{REPOSITORY}/manifests/{reference}", accept=MANIFEST_TYPES)
    answer.raise_for_status()
    computed = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    return answer.headers["Docker-Content-Digest"], computed


def states(server: redis.Redis, site: CopySite, jobs: list[Job]) -> Counter[str]:
    """What all jobs went through: an attempt that was handed back is in no other count."""
    pipeline = server.pipeline(transaction=False)
    for job in jobs:
        pipeline.xrange(site.keys.events(job.id))
    entries = [fields for stream in pipeline.execute() for _, fields in stream]
    return Counter(one["state"] for one in entries if one["kind"] == "state")


@pytest.mark.parametrize("platforms", [0, 2], ids=["image", "index"])
def test_two_workers_write_two_hundred_tags_of_one_image_at_the_first_attempt(
    site: CopySite,
    registries: tuple[Registry, Registry],
    redis_client: redis.Redis,
    platforms: int,
) -> None:
    source, target = registries
    digest = put(source, platforms=platforms)
    tags = [f"t{number:03}" for number in range(TAGS)]
    # All jobs are queued before the first one starts, so that all slots write at the same time.
    for worker in site.workers:
        worker.freeze()
    jobs = [
        site.client.copy(
            f"{source.address}/{REPOSITORY}:v1", f"{target.address}/{REPOSITORY}:{tag}"
        )
        for tag in tags
    ]
    for worker in site.workers:
        worker.thaw()

    records = [job.wait(timeout=120) for job in jobs]

    assert Counter((one.state, one.attempts) for one in records) == {(State.SUCCEEDED, 1): TAGS}
    assert states(redis_client, site, jobs) == {"running": TAGS, "succeeded": TAGS}
    assert {one.worker for one in records} == {worker.name for worker in site.workers}
    assert {one.digest for one in records} == {digest}
    assert target.list_tags(REPOSITORY) == tags
    assert [served(target, tag) for tag in tags] == [(digest, digest)] * TAGS
    assert served(target, digest) == (digest, digest)
    if platforms:
        for child in target.manifest(REPOSITORY, digest)["manifests"]:
            assert served(target, child["digest"]) == (child["digest"],) * 2
