"""The copy of whole images between two real registries."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from longshore_worker.oci import blobs, manifests
from longshore_worker.oci.client import Repository
from longshore_worker.oci.descriptors import Manifest
from longshore_worker.oci.pool import ClientPool
from longshore_worker.transports.copy.alone import AloneLeads
from longshore_worker.transports.copy.image import copy_image
from longshore_worker.transports.copy.port import Copied, CopyTask
from longshore_worker.transports.copy.registry import RegistryRepository
from tests.support.copies import (
    WatchedControl,
    entry,
    image,
    index,
    noise,
    put_image,
    repository,
    with_pool,
)
from tests.support.registry import Registry

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def registries() -> Iterator[tuple[Registry, Registry]]:
    """The source and the target."""
    with Registry() as source, Registry() as target:
        yield source, target


class Sides:
    """Both registries as one test uses them, in repositories of its own."""

    def __init__(self, pool: ClientPool, registries: tuple[Registry, Registry], name: str) -> None:
        self._pool = pool
        self._registries = registries
        self.name = name
        self.leads = AloneLeads()
        self.control = WatchedControl()
        self._copies = 0

    def source(self, name: str = "") -> Repository:
        return repository(self._pool, self._registries[0].address, name or self.name)

    def target(self, name: str = "") -> Repository:
        return repository(self._pool, self._registries[1].address, name or self.name)

    async def copy(self, reference: str, *tags: str, to: str = "", **task: Any) -> Copied:
        """Copy with a control of its own."""
        self.control = WatchedControl()
        self._copies += 1
        return await copy_image(
            CopyTask(reference, tags, **task),
            RegistryRepository(self.source()),
            RegistryRepository(self.target(to)),
            self.leads,
            self.control,
            f"copy{self._copies}",
        )

    async def has_same(self, *references: str) -> None:
        """Both sides have the same bytes under these."""
        for reference in references:
            ours = await manifests.get(self.target(), reference)
            assert ours.raw == (await manifests.get(self.source(), reference)).raw
            for blob in ours.blobs:
                head = await blobs.head(self.target(), blob.digest)
                assert head is not None, f"{reference} lacks {blob.digest}"


Run = Callable[[Callable[[Sides], Awaitable[None]]], None]


@pytest.fixture
def run(registries: tuple[Registry, Registry], request: pytest.FixtureRequest) -> Run:
    """Run a test's own coroutine with both sides."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")

    def start(work: Callable[[Sides], Awaitable[None]]) -> None:
        with_pool(lambda pool: work(Sides(pool, registries, f"t/{name}")))

    return start


async def multi_arch(side: Sides, tag: str = "v1") -> dict[str, Manifest]:
    """An index for two platforms, each with an attestation, at the source."""
    source = side.source()
    found: dict[str, Manifest] = {}
    entries = []
    for platform in ("linux/amd64", "linux/arm64"):
        parts = [noise(20_000, f"{side.name}/{platform}/{n}") for n in range(3)]
        config = json.dumps({"architecture": platform}).encode()
        found[platform] = await put_image(source, image(*parts, config=config), *parts, config)
        statement = noise(100, f"{side.name}/{platform}")
        proof = image(statement, config=b"{}", note=platform)
        found[f"proof/{platform}"] = await put_image(source, proof, statement, b"{}")
        entries += [
            entry(found[platform], platform),
            entry(
                proof,
                "unknown/unknown",
                vnd__docker__reference__type="attestation-manifest",
                vnd__docker__reference__digest=found[platform].digest,
            ),
        ]
    found["index"] = await put_image(source, index(*entries), tag=tag)
    return found


def test_an_index_arrives_with_all_its_images_and_keeps_its_digest(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        copied = await side.copy("v1", "v1", "latest")
        assert copied == Copied(made["index"].digest, tagged=("v1", "latest"))
        await side.has_same("v1", *(one.digest for one in made.values()))
        assert (await manifests.get(side.target(), "latest")).digest == made["index"].digest
        said = side.control.bytes
        assert said["planned"] == said["moved"] > 120_000
        assert side.control.done == side.control.layers == 11

    run(work)


def test_a_copy_that_is_there_sends_nothing(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        await side.copy("v1", "v1")
        again = await side.copy("v1", "v1")
        assert again == Copied(made["index"].digest, skipped=True)
        assert not any(side.control.bytes.values())
        by_digest = await side.copy(made["index"].digest, "v1")
        assert by_digest.skipped

    run(work)


def test_a_tag_more_costs_no_blob(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        await side.copy("v1", "v1")
        copied = await side.copy(made["index"].digest, "v1", "v2", "v3")
        assert copied == Copied(made["index"].digest, tagged=("v2", "v3"))
        assert not any(side.control.bytes.values())
        for tag in ("v2", "v3"):
            assert (await manifests.get(side.target(), tag)).digest == copied.digest

    run(work)


def test_without_a_tag_an_image_is_copied_by_its_digest(run: Run) -> None:
    async def work(side: Sides) -> None:
        made = await multi_arch(side)
        copied = await side.copy(made["linux/amd64"].digest)
        assert copied == Copied(made["linux/amd64"].digest)
        await side.has_same(made["linux/amd64"].digest)
        assert await manifests.head(side.target(), "v1") is None

    run(work)
