"""Copies between registries, layout folders and archives: every digest stays what it was."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import docker
import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.engine_images import make_image
from tests.support.images.registry_client import client
from tests.support.processes import program
from tests.support.servers.registry import Registry
from transship.errors import ImageNotFound
from transship.model.migration.platforms import Platform
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.oci import digests
from transship_worker.oci.content import ContentSource, ContentTarget
from transship_worker.oci.descriptors import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
)
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.referrers import fallback_tag
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = pytest.mark.registry


class Control:
    """A fake job: it adds up what the copy tells and never stops it."""

    def __init__(self) -> None:
        self.sent = self.taken_over = self.there = 0
        self.warnings: list[str] = []

    def planned(self, size: int, layers: int) -> None:
        return

    def moved(self, size: int) -> None:
        self.sent += size

    def mounted(self, size: int) -> None:
        self.taken_over += size

    def present(self, size: int) -> None:
        self.there += size

    def blob_done(self) -> None:
        return

    def alive(self) -> None:
        return

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def checkpoint(self) -> None:
        return

    def lease_left_s(self) -> float:
        return 60.0

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        yield


class Bytes:
    """A fake source that has one blob, to fill a registry with."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset, self.size, self.etag = 0, len(data), None

    def blob(self, digest: str, *, offset: int = 0, etag: str | None = None) -> Bytes:
        assert offset == 0
        return self

    async def __aenter__(self) -> Bytes:
        return self

    async def __aexit__(self, *error: object) -> None:
        return

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self.data


@pytest.fixture(scope="module")
def second_registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


Repositories = Callable[[Registry, str], RegistryRepository]


@pytest.fixture
def repository(pool: ClientPool) -> Repositories:
    """Makes repositories of registries."""

    def make(registry: Registry, name: str) -> RegistryRepository:
        asked = client(pool, registry.address, None).repository(name, writing=True)
        return RegistryRepository(asked)

    return make


async def blob(target: ContentTarget, data: bytes, media_type: str) -> dict[str, object]:
    found = Descriptor(media_type, digests.digest_of(data), len(data))
    source: object = Bytes(data)
    await target.write_blob(found, source, lambda size: None)  # type: ignore[arg-type]
    return found.as_json()


async def manifest(target: ContentTarget, reference: str, **fields: object) -> Manifest:
    raw = json.dumps({"schemaVersion": 2, **fields}).encode()
    made = parse_manifest(raw, what="made here")
    written = await target.put(reference or made.digest, made)
    if made.subject is not None and not written.lists_referrers:
        await target.attach(made)
    return made


async def image(target: ContentTarget, reference: str, *layers: bytes, note: str = "") -> Manifest:
    body = json.dumps({"os": "linux", "architecture": "amd64", "note": note}).encode()
    return await manifest(
        target,
        reference,
        mediaType=OCI_MANIFEST,
        config=await blob(target, body, "application/vnd.oci.image.config.v1+json"),
        layers=[
            await blob(target, one, "application/vnd.oci.image.layer.v1.tar") for one in layers
        ],
    )


async def copy(
    source: ContentSource,
    target: ContentTarget,
    reference: str,
    *,
    leads: AloneLeads | None = None,
    referrers: bool = False,
    platforms: tuple[Platform, ...] = (),
) -> tuple[Copied, Control]:
    control = Control()
    task = CopyTask(reference, (reference,), platforms, referrers)
    done = await copy_image(
        task, source, target, leads or AloneLeads(), control, os.urandom(8).hex()
    )
    return done, control


def raw(place: str) -> bytes:
    words = [program("skopeo"), "inspect", "--raw", "--tls-verify=false", place]
    return subprocess.check_output(words)


async def filled(repository: RegistryRepository) -> Manifest:
    """An index of two images, with a signature, an SBOM of that, and cosign's tag."""
    children = [
        await image(repository, "", os.urandom(300_000), b"shared", note=arch)
        for arch in ("amd64", "arm64")
    ]
    listed = [
        {**child.descriptor.as_json(), "platform": {"os": "linux", "architecture": arch}}
        for child, arch in zip(children, ("amd64", "arm64"), strict=True)
    ]
    index = await manifest(repository, "1.2", mediaType=OCI_INDEX, manifests=listed)
    empty = await blob(repository, b"{}", "application/vnd.oci.empty.v1+json")
    signature = await manifest(
        repository,
        "",
        mediaType=OCI_MANIFEST,
        artifactType="application/x.signature",
        config=empty,
        layers=[await blob(repository, b"signed", "text/plain")],
        subject=index.descriptor.as_json(),
    )
    await manifest(
        repository,
        "",
        mediaType=OCI_MANIFEST,
        artifactType="application/x.sbom",
        config=empty,
        layers=[await blob(repository, b"bill", "text/plain")],
        subject=signature.descriptor.as_json(),
    )
    await image(repository, f"{fallback_tag(index.digest)}.sig", b"cosigned")
    return index


async def all_digests(source: ContentSource, reference: str) -> set[str]:
    """Digests of an image, of what it leads to and of what refers to it; blobs are read."""
    found = await source.manifest(reference)
    seen = {found.digest}
    for one in found.blobs:
        async with source.blob(one.digest) as reader:
            data = b"".join([piece async for piece in reader.pieces()])
        assert digests.digest_of(data) == one.digest
        seen.add(one.digest)
    for child in (*found.children, *(await source.referrers(found.digest)).manifests):
        seen |= await all_digests(source, child.digest)
    for head in (await source.cosign_tags(found.digest)).values():
        seen |= await all_digests(source, head.digest)
    return seen


async def test_from_a_registry_over_a_layout_to_a_registry_every_digest_is_equal(
    repository: Repositories,
    plain_registry: Registry,
    second_registry: Registry,
    folder: LayoutFolder,
    path: Path,
) -> None:
    name = f"acme/air-{os.urandom(4).hex()}"

    start, end = repository(plain_registry, name), repository(second_registry, name)
    index = await filled(start)
    for source, target in ((start, folder.target("acme/air")), (None, end)):
        given = source or await folder.source("acme/air")
        done, control = await copy(given, target, "1.2", referrers=True)
        assert (done.digest, done.tagged, done.skipped) == (index.digest, ("1.2",), False)
        assert control.sent > 600_000
        done, control = await copy(given, target, "1.2", referrers=True)
        assert (done.skipped, control.sent) == (True, 0)
    everything = await all_digests(start, "1.2")
    assert len(everything) == 16
    assert await all_digests(await folder.source("acme/air"), "1.2") == everything
    assert await all_digests(end, "1.2") == everything
    assert raw(f"oci:{path}/acme/air:1.2") == index.raw
    assert raw(f"docker://{second_registry.address}/{name}:1.2") == index.raw


async def test_a_layer_of_two_repositories_of_a_folder_is_sent_once(
    repository: Repositories, plain_registry: Registry, folder: LayoutFolder
) -> None:
    layer = os.urandom(1_000_000)
    name = f"acme/shared-{os.urandom(4).hex()}"

    start, leads = repository(plain_registry, name), AloneLeads()
    await image(start, "a", layer, note="a")
    await image(start, "b", layer, note="b")
    _, first = await copy(start, folder.target("one"), "a", leads=leads)
    _, second = await copy(start, folder.target("two"), "b", leads=leads)
    assert first.sent > len(layer) > second.sent > 0
    assert second.taken_over == len(layer)
    await all_digests(await folder.source("two"), "b")


async def test_many_copies_into_one_layout_at_once_lose_nothing(
    repository: Repositories, plain_registry: Registry, folder: LayoutFolder
) -> None:
    name = f"acme/many-{os.urandom(4).hex()}"
    tags = [f"t{number}" for number in range(20)]

    start, leads = repository(plain_registry, name), AloneLeads()
    for tag in tags:
        await image(start, tag, b"shared", tag.encode(), note=tag)
    targets = [folder.target(f"to/{number % 3}") for number in range(len(tags))]
    jobs = [copy(start, to, tag, leads=leads) for to, tag in zip(targets, tags, strict=True)]
    results = await asyncio.gather(*jobs)
    sent = sum(control.sent for _, control in results)
    seen = {digests.digest_of(b"shared"): len(b"shared")}
    for tag, to in zip(tags, targets, strict=True):
        found = await to.manifest(tag)
        seen |= {one.digest: one.size for one in found.blobs}
        await all_digests(to, tag)
    assert sent == sum(seen.values())


async def test_a_layout_that_lacks_a_platform_gives_the_others(
    repository: Repositories, plain_registry: Registry, folder: LayoutFolder, path: Path
) -> None:
    """As an engine saves it that pulled one platform of an index, and kept the index."""
    name = f"acme/partial-{os.urandom(4).hex()}"

    start, end = (
        repository(plain_registry, f"{name}/a"),
        repository(plain_registry, f"{name}/b"),
    )
    index = await filled(start)
    await copy(start, folder.target("partial"), "1.2")
    lost = index.children[1].digest.partition(":")[2]
    (path / "partial/blobs/sha256" / lost).unlink()
    source = await folder.source("partial")
    with pytest.raises(ImageNotFound):
        await copy(source, end, "1.2")
    assert await end.head("1.2") is None
    _, control = await copy(source, end, "1.2", platforms=(Platform.parse("linux/amd64"),))
    assert [child.digest for child in (await end.manifest("1.2")).children] == [
        index.children[0].digest
    ]
    assert control.warnings


@pytest.mark.engine
async def test_an_archive_of_an_engine_becomes_an_image_that_the_engine_pulls(
    repository: Repositories,
    docker_client: docker.DockerClient,
    plain_registry: Registry,
    folder: LayoutFolder,
    path: Path,
) -> None:
    image_id = make_image(docker_client, "acme/saved:3", layers=(400_000, 10))
    with (path / "app.tar").open("wb") as stream:
        stream.writelines(docker_client.api.get_image("acme/saved:3"))
    name = f"acme/from-archive-{os.urandom(4).hex()}"

    await copy(await folder.source("app.tar"), repository(plain_registry, name), "3")
    docker_client.images.remove("acme/saved:3")
    pulled = docker_client.images.pull(f"{plain_registry.address}/{name}", tag="3")
    assert pulled.id == image_id
