"""The copy of whole images between two real registries: what arrives, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_images import (
    describe,
    entry,
    image,
    index,
    made,
    noise,
    put_blob,
    put_image,
)
from tests.support.images.two_registries import Sides, multi_arch
from transship.errors import ImageNotFound, ImmutableTag, ManifestUnsupported, PlatformMissing
from transship.model.migration.platforms import Platform
from transship.model.migration.specification import OnConflict
from transship_worker.fleet.port import Found, Place
from transship_worker.oci import manifests
from transship_worker.oci.descriptors import DOCKER_MANIFEST
from transship_worker.transports.copy.port import Copied
from transship_worker.transports.copy.tree import DEPTH_MOST

pytestmark = pytest.mark.registry


async def test_an_index_arrives_with_all_its_images_and_keeps_its_digest(side: Sides) -> None:
    made = await multi_arch(side)
    copied = await side.copy("v1", "v1", "latest")
    assert copied == Copied(made["index"].digest, tagged=("v1", "latest"))
    await side.has_same("v1", *(one.digest for one in made.values()))
    assert (await manifests.get(side.target(), "latest")).digest == made["index"].digest
    said = side.control.bytes
    assert said["planned"] == said["moved"] > 120_000
    assert side.control.done == side.control.layers == 11


async def test_a_copy_that_is_there_sends_nothing(side: Sides) -> None:
    made = await multi_arch(side)
    await side.copy("v1", "v1")
    again = await side.copy("v1", "v1")
    assert again == Copied(made["index"].digest, skipped=True)
    assert not any(side.control.bytes.values())
    by_digest = await side.copy(made["index"].digest, "v1")
    assert by_digest.skipped


async def test_a_tag_more_costs_no_blob(side: Sides) -> None:
    made = await multi_arch(side)
    await side.copy("v1", "v1")
    copied = await side.copy(made["index"].digest, "v1", "v2", "v3")
    assert copied == Copied(made["index"].digest, tagged=("v2", "v3"))
    assert not any(side.control.bytes.values())
    for tag in ("v2", "v3"):
        assert (await manifests.get(side.target(), tag)).digest == copied.digest


async def test_without_a_tag_an_image_is_copied_by_its_digest(side: Sides) -> None:
    made = await multi_arch(side)
    copied = await side.copy(made["linux/amd64"].digest)
    assert copied == Copied(made["linux/amd64"].digest)
    await side.has_same(made["linux/amd64"].digest)
    assert await manifests.head(side.target(), "v1") is None


async def test_a_nested_index_arrives_from_the_inside_out(side: Sides) -> None:
    source = side.source()
    leaf = await put_image(source, image(b"leaf"), b"leaf", b"{}")
    inner = await put_image(source, index(entry(leaf, "linux/amd64")))
    middle = await put_image(source, index(entry(inner), entry(leaf)))
    outer = await put_image(source, index(entry(inner), entry(middle), entry(leaf)), tag="v1")
    assert (await side.copy("v1", "v1")).digest == outer.digest
    await side.has_same("v1", outer.digest, middle.digest, inner.digest, leaf.digest)


async def test_indexes_deeper_than_any_use_are_refused(side: Sides) -> None:
    source = side.source()
    one = await put_image(source, image(b"leaf"), b"leaf", b"{}")
    for _ in range(DEPTH_MOST + 1):
        one = await put_image(source, index(entry(one)))
    with pytest.raises(ManifestUnsupported, match="deep"):
        await side.copy(one.digest, "v1")


async def test_127_layers_arrive(side: Sides) -> None:
    layers = [noise(2_000, n) for n in range(127)]
    made = await put_image(side.source(), image(*layers), *layers, b"{}", tag="v1")
    assert (await side.copy("v1", "v1")).digest == made.digest
    await side.has_same("v1")
    assert side.control.done == 128


async def test_a_layer_listed_twice_and_an_empty_layer_are_sent_once(side: Sides) -> None:
    layer, config = noise(5_000, side.name), side.name.encode()
    wanted = image(layer, b"", layer, b"", config=config)
    made = await put_image(side.source(), wanted, layer, b"", config, tag="v1")
    assert (await side.copy("v1", "v1")).digest == made.digest
    await side.has_same("v1")
    assert side.control.bytes["moved"] == len(layer) + len(config)
    assert side.control.done == 3


async def test_a_docker_image_keeps_its_format(side: Sides) -> None:
    layer = noise(5_000, side.name)
    raw = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": describe(b"{}", "application/vnd.docker.container.image.v1+json"),
        "layers": [describe(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
    }
    await put_image(side.source(), made(raw), layer, b"{}", tag="v1")
    await side.copy("v1", "v1")
    await side.has_same("v1")
    assert (await manifests.get(side.target(), "v1")).media_type == DOCKER_MANIFEST


async def test_sha512_layers_arrive(side: Sides) -> None:
    layer = noise(5_000, side.name)
    strong = describe(layer, algorithm="sha512")
    wanted = made(json.loads(image(config=b"{}").raw) | {"layers": [strong]})
    await put_blob(side.source(), layer, algorithm="sha512")
    await put_image(side.source(), wanted, b"{}", tag="v1")
    await side.copy("v1", "v1")
    await side.has_same("v1")


async def test_a_subset_keeps_the_attestations_of_its_platforms(side: Sides) -> None:
    whole = await multi_arch(side)
    amd64 = Platform.parse("linux/amd64")
    copied = await side.copy("v1", "v1", platforms=(amd64,))
    found = await manifests.get(side.target(), "v1")
    assert found.digest == copied.digest != whole["index"].digest
    kept = {child.digest for child in found.children}
    assert kept == {whole["linux/amd64"].digest, whole["proof/linux/amd64"].digest}
    await side.has_same(*kept)
    assert await manifests.head(side.target(), whole["linux/arm64"].digest) is None
    told = " ".join(side.control.warnings)
    assert copied.digest in told
    assert whole["index"].digest in told
    assert (await side.copy("v1", "v1", platforms=(amd64,))).skipped


async def test_a_platform_that_an_image_has_not_names_those_that_it_has(side: Sides) -> None:
    await multi_arch(side)
    with pytest.raises(ImageNotFound, match="no linux/s390x; it has linux/amd64, linux/arm64"):
        await side.copy("v1", "v1", platforms=(Platform.parse("linux/s390x"),))
    asked = tuple(map(Platform.parse, ("linux/amd64", "linux/s390x")))
    with pytest.raises(PlatformMissing, match="no linux/s390x; it has linux/amd64, linux/arm64"):
        await side.copy("v1", "v1", platforms=asked)
    assert await manifests.head(side.target(), "v1") is None


async def test_an_image_of_one_platform_is_refused_for_another(side: Sides) -> None:
    config = b'{"os":"linux","architecture":"amd64"}'
    one = await put_image(side.source(), image(b"1", config=config), b"1", config, tag="v1")
    with pytest.raises(PlatformMissing, match="has no linux/arm/v7; it has linux/amd64"):
        await side.copy("v1", "v1", platforms=(Platform.parse("linux/arm"),))
    assert await manifests.head(side.target(), "v1") is None
    copied = await side.copy("v1", "v1", platforms=(Platform.parse("linux/amd64"),))
    assert copied.digest == one.digest


async def test_an_image_that_is_not_there_is_named(side: Sides) -> None:
    with pytest.raises(ImageNotFound, match=f"there is no .*{side.name}:v9"):
        await side.copy("v9", "v9")


@pytest.mark.parametrize("policy", list(OnConflict))
async def test_a_tag_that_is_another_image_follows_the_policy(
    side: Sides, policy: OnConflict
) -> None:
    old = await put_image(side.target(), image(b"old"), b"old", b"{}", tag="v1")
    new = await put_image(side.source(), image(b"new"), b"new", b"{}", tag="v1")
    if policy is OnConflict.FAIL:
        with pytest.raises(ImmutableTag, match=f"v1 is {old.digest} already"):
            await side.copy("v1", "v1", "v2", on_conflict=policy)
        assert await manifests.head(side.target(), new.digest) is None
        return
    copied = await side.copy("v1", "v1", "v2", on_conflict=policy)
    kept = policy is OnConflict.SKIP
    assert copied.kept == (("v1",) if kept else ())
    assert set(copied.tagged) == ({"v2"} if kept else {"v1", "v2"})
    assert (await manifests.get(side.target(), "v2")).digest == new.digest
    now = (await manifests.get(side.target(), "v1")).digest
    assert now == (old if kept else new).digest


class _OverTaken(AloneLeads):
    """Somebody else writes another image under a tag while this one's blobs are brought."""

    def __init__(self, side: Sides) -> None:
        super().__init__()
        self._side = side

    async def take(self, place: Place, holder: str, digests: Iterable[str]) -> dict[str, Found]:
        await put_image(self._side.target(), image(b"theirs"), b"theirs", b"{}", tag="v1")
        return await super().take(place, holder, digests)


@pytest.mark.parametrize("policy", list(OnConflict))
async def test_a_tag_that_became_another_image_meanwhile_follows_the_policy(
    side: Sides, policy: OnConflict
) -> None:
    new = await put_image(side.source(), image(b"new"), b"new", b"{}", tag="v1")
    copying = side.copy("v1", "v1", "v2", on_conflict=policy, leads=_OverTaken(side))
    if policy is OnConflict.FAIL:
        with pytest.raises(ImmutableTag, match="on_conflict is fail"):
            await copying
    else:
        copied = await copying
        assert copied.kept == (("v1",) if policy is OnConflict.SKIP else ())
        assert (await manifests.get(side.target(), "v2")).digest == new.digest
    now = await manifests.get(side.target(), "v1")
    assert (now.digest == new.digest) is (policy is OnConflict.OVERWRITE)


async def test_nothing_is_copied_where_all_tags_are_to_be_left_alone(side: Sides) -> None:
    await put_image(side.target(), image(b"old"), b"old", b"{}", tag="v1")
    new = await put_image(side.source(), image(b"new"), b"new", b"{}", tag="v1")
    copied = await side.copy("v1", "v1", on_conflict=OnConflict.SKIP)
    assert copied == Copied(new.digest, skipped=True, kept=("v1",))
    assert await manifests.head(side.target(), new.digest) is None
