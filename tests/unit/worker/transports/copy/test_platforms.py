"""The part of an index that is for some platforms."""

from __future__ import annotations

import json

import pytest

from transship.errors import AnswerMalformed, ImageNotFound, PlatformMissing
from transship.model.migration.platforms import Platform
from transship_worker.oci import digests
from transship_worker.oci.descriptors import (
    DOCKER_CONFIG,
    IMAGE_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
)
from transship_worker.transports.copy.platforms import (
    for_platforms,
    left_out,
    missing,
    platforms_of,
    subset,
)

AMD64, ARM64, ARMV7 = map(Platform.parse, ("linux/amd64", "linux/arm64", "linux/arm/v7"))


def child(name: str, runs_on: str = "", **more: object) -> dict[str, object]:
    found: dict[str, object] = {
        "mediaType": OCI_MANIFEST,
        "digest": digests.digest_of(name.encode()),
        "size": 7,
        **more,
    }
    if runs_on:
        os, architecture, *variant = runs_on.split("/")
        found["platform"] = {"architecture": architecture, "os": os}
        if variant:
            found["platform"] = {"architecture": architecture, "os": os, "variant": variant[0]}
    return found


def proof(name: str, of: str) -> dict[str, object]:
    return child(
        name,
        "unknown/unknown",
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": digests.digest_of(of.encode()),
        },
    )


def make(*children: dict[str, object], **more: object) -> Manifest:
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children, **more}
    return parse_manifest(json.dumps(data, indent=3).encode(), what="made here")


def names(index: Manifest, *candidates: str) -> list[str]:
    """Which of these are in an index, in its order."""
    known = {digests.digest_of(name.encode()): name for name in candidates}
    return [known[one.digest] for one in index.children]


WHOLE = make(
    child("a", "linux/amd64"),
    child("b", "linux/arm64/v8"),
    child("c", "linux/arm/v7"),
    proof("pa", "a"),
    proof("pb", "b"),
    annotations={"org.example.note": "kept"},
    unknown={"also": "kept"},
)
ALL = ("a", "b", "c", "pa", "pb")


def test_a_subset_has_the_images_asked_for_and_what_attests_them() -> None:
    found = subset(WHOLE, (AMD64,), "x")
    assert names(found, *ALL) == ["a", "pa"]
    assert names(subset(WHOLE, (ARMV7, ARM64), "x"), *ALL) == ["b", "c", "pb"]


def test_a_subset_keeps_all_else_that_the_index_says() -> None:
    before, after = (json.loads(one.raw) for one in (WHOLE, subset(WHOLE, (AMD64,), "x")))
    assert after.pop("manifests") == [before["manifests"][0], before.pop("manifests")[3]]
    assert before == after
    assert subset(WHOLE, (AMD64,), "x").annotations == WHOLE.annotations


def test_the_same_subset_is_the_same_bytes_in_any_order_of_platforms() -> None:
    one, other = subset(WHOLE, (AMD64, ARM64), "x"), subset(WHOLE, (ARM64, AMD64), "y")
    assert one.raw == other.raw
    assert one.digest == digests.digest_of(one.raw) != WHOLE.digest


def test_an_index_of_which_nothing_is_left_out_keeps_its_bytes() -> None:
    assert subset(WHOLE, (AMD64, ARM64, ARMV7), "x") is WHOLE
    assert subset(WHOLE, (), "x") is WHOLE


class Images:
    """A fake source of manifests and configs."""

    def __init__(self, *images: Manifest, **configs: bytes) -> None:
        self.manifests = {one.digest: one for one in images}
        self.configs = {digests.digest_of(data): data for data in configs.values()}
        self.read: list[str] = []

    async def manifest(self, digest: str) -> Manifest:
        self.read.append(digest)
        return self.manifests[digest]

    async def config(self, blob: Descriptor) -> bytes:
        self.read.append(blob.digest)
        return self.configs[blob.digest]


def runs_on(os: str, architecture: str, **more: str) -> bytes:
    return json.dumps({"os": os, "architecture": architecture, **more}).encode()


def image(config: bytes, kind: str = IMAGE_CONFIG) -> Manifest:
    entry = {"mediaType": kind, "digest": digests.digest_of(config), "size": len(config)}
    data = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry, "layers": []}
    return parse_manifest(json.dumps(data).encode(), what="made here")


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        (runs_on("linux", "amd64"), "linux/amd64"),
        (runs_on("linux", "amd64"), "linux/x86_64"),
        (runs_on("linux", "arm64", variant="v8"), "linux/arm64"),
        (runs_on("linux", "arm64"), "linux/arm64/v8"),
        (runs_on("linux", "arm"), "linux/arm/v7"),
        (
            runs_on("windows", "amd64", **{"os.version": "10.0.17763.1"}),
            "windows/amd64:10.0.17763",
        ),
    ],
)
@pytest.mark.parametrize("kind", [IMAGE_CONFIG, DOCKER_CONFIG])
async def test_an_image_of_the_platform_that_its_config_states_is_returned_as_it_is(
    config: bytes, asked: str, kind: str
) -> None:
    one = image(config, kind)
    found = await for_platforms(one, (Platform.parse(asked),), "x", Images(config=config))
    assert found is one


@pytest.mark.parametrize("asked", ["linux/arm", "linux/amd64,linux/arm", "windows/amd64"])
async def test_an_image_of_another_platform_is_refused_and_its_own_is_named(asked: str) -> None:
    config = runs_on("linux", "amd64")
    platforms = tuple(map(Platform.parse, asked.split(",")))
    with pytest.raises(PlatformMissing, match=r"hub/app:v1 has no .*; it has linux/amd64$"):
        await for_platforms(image(config), platforms, "hub/app:v1", Images(config=config))


@pytest.mark.parametrize("config", [b"{}", b'{"os": 7}'])
async def test_an_image_that_states_no_platform_is_refused(config: bytes) -> None:
    with pytest.raises(PlatformMissing, match="it has no platforms"):
        await for_platforms(image(config), (AMD64,), "x", Images(config=config))


@pytest.mark.parametrize("config", [b"[]", b"\xff", b"[" * 50_000])
async def test_a_config_that_cannot_be_read_is_named(config: bytes) -> None:
    with pytest.raises(AnswerMalformed, match=f"its config {digests.digest_of(config)}"):
        await for_platforms(image(config), (AMD64,), "x", Images(config=config))


async def test_an_artifact_has_no_platform_and_is_returned_as_it_is() -> None:
    chart, reader = image(b"{}", "application/vnd.cncf.helm.config.v1+json"), Images()
    assert await for_platforms(chart, (AMD64,), "x", reader) is chart
    assert not reader.read


async def test_without_platforms_nothing_is_read() -> None:
    reader = Images()
    for one in (WHOLE, image(b"{}")):
        assert await for_platforms(one, (), "x", reader) is one
    assert not reader.read


async def test_entries_that_state_no_platform_are_read_where_one_is_not_found_otherwise() -> None:
    config = runs_on("linux", "arm64")
    bare = image(config)
    entry = {"mediaType": bare.media_type, "digest": bare.digest, "size": len(bare.raw)}
    index, reader = make(child("a", "linux/amd64"), entry), Images(bare, config=config)
    found = await for_platforms(index, (ARM64,), "x", reader)
    assert [one.digest for one in found.children] == [bare.digest]
    assert reader.read == [bare.digest, bare.config.digest if bare.config else ""]
    reader = Images()
    assert names(await for_platforms(index, (AMD64,), "x", reader), "a") == ["a"]
    assert not reader.read


async def test_an_index_within_that_states_no_platform_is_read_for_those_of_its_images() -> None:
    inner = make(child("b", "linux/arm64"))
    entry = {"mediaType": OCI_INDEX, "digest": inner.digest, "size": len(inner.raw)}
    outer = make(child("a", "linux/amd64"), entry)
    assert await for_platforms(outer, (AMD64, ARM64), "x", Images(inner)) is outer
    with pytest.raises(PlatformMissing, match="no linux/arm/v7; it has linux/amd64, linux/arm64"):
        await for_platforms(outer, (ARMV7,), "x", Images(inner))


def test_one_of_several_platforms_that_is_missing_is_named_alone() -> None:
    asked = (AMD64, Platform.parse("linux/s390x"))
    with pytest.raises(PlatformMissing, match=r"^x has no linux/s390x; it has linux/amd64, "):
        subset(WHOLE, asked, "x")


def test_an_index_within_that_says_no_platform_is_kept_whole() -> None:
    found = make(child("inner", mediaType=OCI_INDEX), child("a", "linux/amd64"), child("bare"))
    assert names(subset(found, (AMD64,), "x"), "inner", "a", "bare") == ["inner", "a"]


def test_no_platform_at_all_names_those_there_are() -> None:
    with pytest.raises(
        ImageNotFound,
        match=r"^hub/app:v1 has no linux/s390x; it has linux/amd64, linux/arm64, linux/arm/v7$",
    ):
        subset(WHOLE, (Platform.parse("linux/s390x"),), "hub/app:v1")


def test_a_message_names_only_some_of_many_platforms() -> None:
    many = make(*(child(str(n), f"linux/arch{n}") for n in range(50)))
    with pytest.raises(ImageNotFound, match=r"linux/arch19 and 30 more$"):
        subset(many, (AMD64,), "x")


def test_what_is_left_out_and_what_is_missing_are_told() -> None:
    kept = subset(WHOLE, (AMD64,), "x")
    assert [one.digest for one in left_out(WHOLE, kept)] == [
        digests.digest_of(name.encode()) for name in ("b", "c", "pb")
    ]
    assert missing(WHOLE, (AMD64, Platform.parse("linux/s390x"))) == (
        Platform.parse("linux/s390x"),
    )
    assert platforms_of(WHOLE) == (AMD64, ARM64, ARMV7)


def test_a_version_of_windows_is_asked_for_from_its_beginning() -> None:
    entries = []
    for name, version in (("old", "10.0.17763.1"), ("new", "10.0.20348.9")):
        platform = {"os": "windows", "architecture": "amd64", "os.version": version}
        entries.append(child(name, platform=platform))
    found = subset(make(*entries), (Platform.parse("windows/amd64:10.0.17763"),), "x")
    assert names(found, "old", "new") == ["old"]
