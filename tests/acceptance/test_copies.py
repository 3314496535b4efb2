"""Images of every shape through a worker, read back by another tool; and copies beside the bulk."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.support.images.corpus import KIB, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.images.registry_images import (
    describe,
    entry,
    image,
    index,
    made,
    noise,
    put_blob,
    put_image,
    repository,
    with_pool,
)
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component, counted, manifests, raw, rule, spec
from transship import State
from transship_worker.jobs.claims import WINDOW
from transship_worker.oci import manifests as client_manifests
from transship_worker.oci import referrers
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.referrers import fallback_tag

pytestmark = [pytest.mark.redis, pytest.mark.registry]

EMPTY_KIND = "application/vnd.oci.empty.v1+json"


class Sides:
    """A fleet of one worker between two registries."""

    def __init__(self, site: CopySite, source: Registry, target: Registry) -> None:
        self.site, self.source, self.target = site, source, target
        site.write_catalog({"old": component(source.address), "new": component(target.address)})
        site.start_copier()

    def filled(self, name: str, work: Callable[[Repository], Awaitable[Any]]) -> None:
        """Put images into a repository of the source."""

        async def put(pool: ClientPool) -> None:
            await work(repository(pool, self.source.address, name))

        with_pool(put)

    def copied(self, name: str, tag: str = "v1", **more: Any) -> str:
        """Copy one image through the worker and compare all manifests; the digest."""
        old, new = self.source.address, self.target.address
        record = self.site.client.copy(f"{old}/{name}:{tag}", f"{new}/{name}", **more).wait(60)
        assert record.state is State.SUCCEEDED
        ours = manifests(new, name, tag)
        assert ours == manifests(old, name, tag)
        assert next(iter(ours)) == record.digest
        return str(record.digest)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Sides]:
    """One fleet for all shapes; each has a repository of its own."""
    with Registry() as source, Registry() as target:
        site = CopySite(tmp_path_factory.mktemp("copies"), redis_url)
        try:
            yield Sides(site, source, target)
        finally:
            site.close()


async def leaf(source: Repository, *seed: object, **more: Any) -> Manifest:
    """A small image of its own."""
    layer = noise(3_000, seed)
    return await put_image(source, image(layer, **more), layer, b"{}")


def test_an_index_of_several_platforms_is_equal_at_the_target(sides: Sides) -> None:
    async def work(source: Repository) -> None:
        platforms = ("linux/amd64", "linux/arm64", "linux/arm/v7")
        entries = [entry(await leaf(source, one), one) for one in platforms]
        await put_image(source, index(*entries), tag="v1")

    sides.filled("shapes/index", work)
    sides.copied("shapes/index")
    assert len(manifests(sides.target.address, "shapes/index", "v1")) == 4


def test_an_index_within_an_index_is_equal_at_the_target(sides: Sides) -> None:
    async def work(source: Repository) -> None:
        one, two = [await leaf(source, number) for number in range(2)]
        inner = await put_image(source, index(entry(one, "linux/amd64")))
        middle = await put_image(source, index(entry(inner), entry(two, "linux/arm64")))
        await put_image(source, index(entry(middle), entry(inner)), tag="v1")

    sides.filled("shapes/nested", work)
    sides.copied("shapes/nested")
    assert len(manifests(sides.target.address, "shapes/nested", "v1")) == 5


def test_an_artifact_takes_its_referrers_and_cosign_tags_along(sides: Sides) -> None:
    name, found = "shapes/artifact", {}

    async def work(source: Repository) -> None:
        content = noise(500, "artifact")
        artifact = image(content, config=b"{}", artifactType="x/model", note="of its own")
        found["subject"] = await put_image(source, artifact, content, b"{}", tag="v1")
        for kind, subject in (("signature", "subject"), ("sbom", "signature")):
            text = noise(200, kind)
            refers = image(
                text,
                kind=EMPTY_KIND,
                artifactType=f"x/{kind}",
                subject=found[subject].descriptor.as_json(),
            )
            found[kind] = await put_image(source, refers, text, b"{}")
            await referrers.attach(source, refers)
        for suffix in ("sig", "att", "sbom"):
            text = noise(100, suffix)
            tag = f"{fallback_tag(found['subject'].digest)}.{suffix}"
            found[tag] = await put_image(source, image(text), text, b"{}", tag=tag)

    sides.filled(name, work)
    sides.copied(name, referrers=True)
    old, new = sides.source.address, sides.target.address
    for one in found.values():
        assert raw(new, name, one.digest) == raw(old, name, one.digest)
    assert sides.target.list_tags(name) == sides.source.list_tags(name)
    for tag in sides.source.list_tags(name):
        assert sides.target.digest(name, tag) == sides.source.digest(name, tag)


def test_an_image_of_127_layers_is_equal_at_the_target(sides: Sides) -> None:
    layers = [noise(2_000, f"many{number}") for number in range(127)]

    async def work(source: Repository) -> None:
        await put_image(source, image(*layers), *layers, b"{}", tag="v1")

    sides.filled("shapes/layers", work)
    sides.copied("shapes/layers")
    found = sides.target.manifest("shapes/layers", "v1")["layers"]
    assert [sides.target.blob("shapes/layers", one["digest"]) for one in found] == layers


def test_a_layer_listed_twice_and_an_empty_layer_are_equal_at_the_target(sides: Sides) -> None:
    layer = noise(5_000, "twice")

    async def work(source: Repository) -> None:
        twice = image(layer, b"", layer, b"")
        await put_image(source, twice, layer, b"", b"{}", tag="v1")

    sides.filled("shapes/twice", work)
    sides.copied("shapes/twice")
    found = sides.target.manifest("shapes/twice", "v1")["layers"]
    contents = [sides.target.blob("shapes/twice", one["digest"]) for one in found]
    assert contents == [layer, b"", layer, b""]


def test_a_layer_with_a_sha512_digest_is_equal_at_the_target(sides: Sides) -> None:
    layer = noise(5_000, "strong")
    strong = describe(layer, algorithm="sha512")

    async def work(source: Repository) -> None:
        await put_blob(source, layer, algorithm="sha512")
        wanted = made(json.loads(image().raw) | {"layers": [strong]})
        await put_image(source, wanted, b"{}", tag="v1")

    sides.filled("shapes/strong", work)
    sides.copied("shapes/strong")
    assert sides.target.blob("shapes/strong", strong["digest"]) == layer


def test_one_image_under_many_tags_is_one_copy_and_one_digest(sides: Sides) -> None:
    name, tags = "shapes/tags", [f"v{number}" for number in range(30)]

    async def work(source: Repository) -> None:
        found = await leaf(source, "tags")
        for tag in tags:
            await client_manifests.put(source, tag, found)

    sides.filled(name, work)
    migration = sides.site.client.migrate(spec(rule("old", "new", name)))
    record = migration.wait(timeout=60)

    assert counted(record.images) == {"planned": 1, "succeeded": 1}
    assert sides.target.list_tags(name) == sorted(tags)
    digests = {sides.target.digest(name, tag) for tag in tags}
    assert digests == {sides.source.digest(name, "v0")}
    assert raw(sides.target.address, name, "v29") == raw(sides.source.address, name, "v0")


def test_neither_a_copy_nor_a_migration_waits_for_the_end_of_a_large_one(sides: Sides) -> None:
    # More images than a migration may have on the queue, so that some are behind what comes later.
    bulk = shared_layers(10, 30, shared=1, shared_size=8 * KIB, own_size=16 * KIB, seed="bulk")
    one = shared_layers(1, 1, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="urgent")
    other = shared_layers(2, 2, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="other")
    assert len(bulk.images) > 2 * WINDOW
    for images in (bulk, one, other):
        fill(sides.source.base, images)
    site, old, new = sides.site, sides.source.address, sides.target.address
    with TcpProxy(sides.target.port) as slow:
        slow.rate = 512 * KIB
        places = {"old": old, "new": new, "slow": slow.address}
        site.write_catalog({name: component(address) for name, address in places.items()})
        eventually(lambda: "slow" in {found.name for found in site.client.fleet().components})
        large = site.client.migrate(spec(rule("old", "slow", *bulk.repositories), name="large"))
        eventually(lambda: large.record().images.running > 0)

        (wanted,) = one.images
        urgent = site.client.copy(f"{old}/{wanted.name}", f"{new}/{wanted.name}")
        small = site.client.migrate(spec(rule("old", "new", *other.repositories), name="small"))
        arrived, beside = urgent.wait(60), small.wait(60)
        meanwhile = large.record()
        slow.rate = None

        assert arrived.digest == wanted.digest
        assert counted(beside.images) == {"planned": 4, "succeeded": 4}
        assert meanwhile.images.unfinished > 0
        assert counted(large.wait(60).images) == {"planned": 300, "succeeded": 300}
