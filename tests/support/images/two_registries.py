"""Whole images between two real registries, as one test copies them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_images import (
    WatchedControl,
    entry,
    image,
    index,
    noise,
    put_image,
    repository,
)
from tests.support.servers.registry import Registry
from transship_worker.fleet.port import Leads
from transship_worker.oci import blobs, manifests
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import Manifest
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository


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

    async def copy(
        self,
        reference: str,
        *tags: str,
        to: str = "",
        control: WatchedControl | None = None,
        leads: Leads | None = None,
        **task: Any,
    ) -> Copied:
        """Copy with a control of its own."""
        self.control = control = control or WatchedControl()
        self._copies += 1
        return await copy_image(
            CopyTask(reference, tags, **task),
            RegistryRepository(self.source()),
            RegistryRepository(self.target(to)),
            leads or self.leads,
            control,
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


def repository_of(request: pytest.FixtureRequest) -> str:
    """The repository of a test, which is named for it."""
    return "t/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


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
