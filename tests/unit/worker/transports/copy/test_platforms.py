"""The part of an index that is for some platforms."""

from __future__ import annotations

import json

import pytest

from transship.errors import ImageNotFound
from transship.model.migration.platforms import Platform
from transship_worker.oci import digests
from transship_worker.oci.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest
from transship_worker.transports.copy.platforms import left_out, missing, platforms_of, subset

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


def test_what_is_no_index_is_returned_as_it_is() -> None:
    config = {"mediaType": "application/x", "digest": digests.digest_of(b""), "size": 0}
    data = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    image = parse_manifest(json.dumps(data).encode(), what="made here")
    assert subset(image, (AMD64,), "x") is image


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
