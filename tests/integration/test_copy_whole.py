"""Nothing of an image is dropped: odd layers, indexes of blobs, manifests without a type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_images import (
    WatchedControl,
    delete_manifest,
    describe,
    entry,
    image,
    index,
    made,
    noise,
    put_blob,
    put_image,
    repository,
)
from tests.support.images.two_registries import Sides, repository_of
from tests.support.servers.registry import Registry
from tests.support.strict_registry.registry import Rules, StrictRegistry
from transship.errors import (
    BlobMissing,
    ForeignLayersRefused,
    ImageNotFound,
    MediaTypeUnsupported,
    RegistryReadOnly,
)
from transship.model.migration.specification import ForeignLayers
from transship_worker.oci import blobs, manifests
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Manifest
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

pytestmark = pytest.mark.registry

NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
URLS = ["https://example.com/base.tar.gz"]


@pytest.fixture(scope="module")
def strict() -> Iterator[StrictRegistry]:
    """A registry that takes foreign layers, and no index whose entries are blobs."""
    with StrictRegistry(Rules(index_of_blobs=False)) as registry:
        yield registry


class Copies:
    """Copies from one repository to another."""

    def __init__(self, source: Repository, target: Repository) -> None:
        self.source, self.target = source, target
        self.leads = AloneLeads()
        self.control = WatchedControl()

    async def copy(self, reference: str = "v1", **task: Any) -> Copied:
        self.control = WatchedControl()
        return await copy_image(
            CopyTask(reference, ("v1",), **task),
            RegistryRepository(self.source),
            RegistryRepository(self.target),
            self.leads,
            self.control,
            f"copy of {reference}",
        )

    async def arrived(self, manifest: Manifest, *contents: bytes) -> None:
        """The target has the manifest's bytes, and these blobs."""
        assert (await manifests.get(self.target, "v1")).raw == manifest.raw
        for data in contents:
            found = await blobs.head(self.target, describe(data)["digest"])
            assert found is not None
            assert found.size == len(data)


@pytest.fixture
def strict_to_strict(
    pool: ClientPool, strict: StrictRegistry, request: pytest.FixtureRequest
) -> Copies:
    """Copies within the strict registry, which does not tell that it is one."""
    name = repository_of(request)
    return Copies(
        repository(pool, strict.address, f"{name}/from"),
        repository(pool, strict.address, f"{name}/to"),
    )


@pytest.fixture
def strict_to_distribution(
    pool: ClientPool,
    strict: StrictRegistry,
    registries: tuple[Registry, Registry],
    request: pytest.FixtureRequest,
) -> Copies:
    """Copies from the strict registry to distribution 2.8."""
    name = repository_of(request)
    return Copies(
        repository(pool, strict.address, name), repository(pool, registries[1].address, name)
    )


def with_layers(*layers: dict[str, Any]) -> Manifest:
    """An image of these layers, with an empty config."""
    return made(json.loads(image(config=b"{}").raw) | {"layers": list(layers)})


async def test_an_artifact_whose_layers_only_sound_foreign_is_copied_whole(side: Sides) -> None:
    schema = noise(3_000, side.name)
    keys = describe(schema, "application/vnd.acme.schema.foreign-keys.v1+json")
    artifact = await put_image(side.source(), with_layers(keys), schema, b"{}", tag="v1")
    assert (await side.copy("v1", "v1")).digest == artifact.digest
    await side.has_same("v1")
    assert side.control.bytes["moved"] == len(schema) + 2


@pytest.mark.parametrize("media_type", [NONDISTRIBUTABLE, FOREIGN])
@pytest.mark.parametrize("urls", [[], URLS])
async def test_a_foreign_layer_that_the_source_holds_is_copied(
    strict_to_strict: Copies, media_type: str, urls: list[str]
) -> None:
    base = noise(3_000, f"{strict_to_strict.source}")
    layer = describe(base, media_type) | ({"urls": urls} if urls else {})
    wanted = await put_image(strict_to_strict.source, with_layers(layer), base, b"{}", tag="v1")
    assert (await strict_to_strict.copy()).digest == wanted.digest
    await strict_to_strict.arrived(wanted, base, b"{}")
    assert not strict_to_strict.control.warnings


async def test_a_foreign_layer_that_the_source_lacks_stays_a_reference(
    strict_to_strict: Copies,
) -> None:
    layer = describe(b"elsewhere", FOREIGN, urls=URLS)
    wanted = await put_image(strict_to_strict.source, with_layers(layer), b"{}", tag="v1")
    await strict_to_strict.copy()
    await strict_to_strict.arrived(wanted, b"{}")
    assert await blobs.head(strict_to_strict.target, layer["digest"]) is None
    assert any(layer["digest"] in one for one in strict_to_strict.control.warnings)


async def test_foreign_layers_stay_references_where_that_is_asked_for(
    strict_to_strict: Copies,
) -> None:
    base = noise(3_000, f"{strict_to_strict.source}")
    layer = describe(base, FOREIGN, urls=URLS)
    wanted = await put_image(strict_to_strict.source, with_layers(layer), base, b"{}", tag="v1")
    await strict_to_strict.copy(foreign_layers=ForeignLayers.REFERENCE)
    await strict_to_strict.arrived(wanted, b"{}")
    assert await blobs.head(strict_to_strict.target, layer["digest"]) is None
    assert any(layer["digest"] in one for one in strict_to_strict.control.warnings)


def windows(layer: dict[str, Any]) -> Manifest:
    """An image in Docker's format."""
    config = describe(b"{}", "application/vnd.docker.container.image.v1+json")
    data = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": [layer]}
    return made(data)


@pytest.mark.parametrize("policy", list(ForeignLayers))
@pytest.mark.parametrize(
    ("of", "media_type"), [(windows, FOREIGN), (with_layers, NONDISTRIBUTABLE)]
)
async def test_a_refusal_of_foreign_layers_is_final_and_says_why(
    strict_to_distribution: Copies,
    policy: ForeignLayers,
    of: Callable[[dict[str, Any]], Manifest],
    media_type: str,
) -> None:
    base = noise(3_000, f"{strict_to_distribution.source}")
    layer = describe(base, media_type, urls=URLS)
    await put_image(strict_to_distribution.source, of(layer), base, b"{}", tag="v1")
    with pytest.raises(ForeignLayersRefused, match=layer["digest"]) as caught:
        await strict_to_distribution.copy(foreign_layers=policy)
    assert not caught.value.retryable
    assert "validation.manifests.urls.allow" in caught.value.message
    assert await manifests.head(strict_to_distribution.target, "v1") is None


async def test_a_foreign_layer_that_nobody_holds_is_an_error(
    strict_to_strict: Copies, strict: StrictRegistry
) -> None:
    base = noise(3_000, f"{strict_to_strict.source}")
    layer = describe(base, NONDISTRIBUTABLE)
    await put_image(strict_to_strict.source, with_layers(layer), base, b"{}", tag="v1")
    strict.store.repositories[strict_to_strict.source.name].blobs.remove(layer["digest"])
    with pytest.raises(BlobMissing, match=f"does not hold .*{layer['digest']}"):
        await strict_to_strict.copy()
    assert await manifests.head(strict_to_strict.target, "v1") is None


async def cached(source: Repository, layer: bytes) -> Manifest:
    """A cache as BuildKit exports it: an index whose entries are blobs."""
    config = b'{"layers":[{"blob":"%b"}]}' % describe(layer)["digest"].encode()
    for data in (layer, config):
        await put_blob(source, data)
    wanted = index(
        describe(layer, annotations={"buildkit/createdat": "2026-11-01T00:00:00Z"}),
        describe(config, "application/vnd.buildkit.cacheconfig.v0"),
    )
    return await put_image(source, wanted, tag="v1")


async def test_an_index_whose_entries_are_blobs_is_copied_where_the_target_takes_it(
    side: Sides,
) -> None:
    layer = noise(3_000, side.name)
    cache = await cached(side.source(), layer)
    assert (await side.copy("v1", "v1")).digest == cache.digest
    await side.has_same("v1")
    assert side.control.done == 2


async def test_a_target_that_takes_no_index_of_blobs_refuses_it_for_good(
    pool: ClientPool,
    strict: StrictRegistry,
    registries: tuple[Registry, Registry],
    request: pytest.FixtureRequest,
) -> None:
    name = repository_of(request)
    copies = Copies(
        repository(pool, registries[0].address, name), repository(pool, strict.address, name)
    )
    await cached(copies.source, noise(3_000, name))
    with pytest.raises(MediaTypeUnsupported, match="index whose entries are blobs"):
        await copies.copy()
    assert await manifests.head(copies.target, "v1") is None


async def test_a_manifest_without_its_type_keeps_its_bytes_and_is_ocis(side: Sides) -> None:
    layer, config = noise(3_000, side.name), b'{"os":"linux","architecture":"amd64"}'
    data = json.loads(image(layer, config=config).raw)
    del data["mediaType"]
    bare = made(data)
    await put_image(side.source(), bare, layer, config)
    whole = made({"schemaVersion": 2, "manifests": [entry(bare, "linux/amd64")]})
    await put_image(side.source(), whole, tag="v1")
    assert (await side.copy("v1", "v1")).digest == whole.digest
    await side.has_same("v1", bare.digest)
    head = await manifests.head(side.target(), bare.digest)
    assert head is not None
    assert head.media_type == OCI_MANIFEST
    head = await manifests.head(side.target(), "v1")
    assert head is not None
    assert head.media_type == OCI_INDEX


async def test_unknown_parts_and_embedded_data_of_a_manifest_are_kept(side: Sides) -> None:
    empty = describe(b"{}", "application/vnd.oci.empty.v1+json") | {"data": "e30="}
    wanted = made(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.acme.report",
            "config": empty,
            "layers": [empty],
            "annotations": {"org.example": "kept"},
            "unknown": {"also": ["kept"]},
        }
    )
    await put_image(side.source(), wanted, b"{}", tag="v1")
    assert (await side.copy("v1", "v1")).digest == wanted.digest
    await side.has_same("v1")


async def pair(side: Sides) -> tuple[Manifest, Manifest, Manifest]:
    """Two images of an index, and the index, at the source."""
    source, found = side.source(), []
    for number in (1, 2):
        layer = noise(3_000, f"{side.name}{number}")
        found.append(await put_image(source, image(layer), layer, b"{}"))
    whole = index(entry(found[0], "linux/amd64"), entry(found[1], "linux/arm64"))
    return found[0], found[1], await put_image(source, whole, tag="v1")


async def test_an_index_whose_source_lacks_a_manifest_fails_and_names_both(side: Sides) -> None:
    _, lost, whole = await pair(side)
    await delete_manifest(side.source(), lost.digest)
    with pytest.raises(ImageNotFound, match=f"{whole.digest} lists the manifest {lost.digest}"):
        await side.copy("v1", "v1")
    assert await manifests.head(side.target(), "v1") is None


@pytest.mark.parametrize("referrers", [False, True])
async def test_an_index_whose_target_lost_a_manifest_is_copied_again(
    side: Sides, referrers: bool
) -> None:
    _, lost, whole = await pair(side)
    await side.copy("v1", "v1")
    await delete_manifest(side.target(), lost.digest)
    copied = await side.copy("v1", "v2", referrers=referrers)
    assert copied == Copied(whole.digest, tagged=("v2",))
    await side.has_same(lost.digest)
    assert (await manifests.get(side.target(), "v2")).digest == whole.digest


async def test_a_registry_that_takes_no_writes_says_so_at_once(
    pool: ClientPool, registries: tuple[Registry, Registry], request: pytest.FixtureRequest
) -> None:
    name = repository_of(request)
    source = repository(pool, registries[0].address, name)
    await put_image(source, image(b"layer"), b"layer", b"{}", tag="v1")
    with Registry(maintenance_read_only=True) as closed:
        copies = Copies(source, repository(pool, closed.address, name))
        with pytest.raises(RegistryReadOnly, match="takes no writes"):
            await copies.copy()
