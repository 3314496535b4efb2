"""``index.json`` of a layout: what is a tag, how tags move, what stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.images.registry_client import make_manifest
from transship.errors import AnswerMalformed, ImageNotFound
from transship_worker.layouts.index import CONTAINERD_NAME, REF_NAME, Index, tag_of
from transship_worker.oci.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest


def note(text: str) -> Manifest:
    return make_manifest(annotations={"note": text})


def entry(manifest: Manifest, **annotations: str) -> dict[str, Any]:
    return {
        "mediaType": OCI_MANIFEST,
        "digest": manifest.digest,
        "size": len(manifest.raw),
        "annotations": annotations,
    }


def index(*entries: object, **more: object) -> Index:
    return Index.parse(json.dumps({**more, "manifests": entries}).encode(), "here")


def listed(found: Index) -> list[tuple[str, str]]:
    return [(one.tag, one.digest) for one in found.entries]


ONE, TWO, THREE = note("1"), note("2"), note("3")


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("1.2", "1.2"),
        ("latest", "latest"),
        ("docker.io/library/alpine:3.18", "3.18"),
        ("localhost:5000/app", "latest"),
        ("localhost:5000/app:v1", "v1"),
        ("alpine:3.18", "3.18"),
        (f"example.com/app@sha256:{'a' * 64}", ""),
        (f"example.com/app:1@sha256:{'a' * 64}", "1"),
        ("a b", ""),
        ("example.com/app:-1", ""),
        ("", ""),
    ],
)
def test_the_tag_part_of_a_name_counts(name: str, tag: str) -> None:
    assert tag_of(name) == tag


def test_a_name_of_containerd_counts_where_there_is_no_other() -> None:
    found = index(entry(ONE, **{CONTAINERD_NAME: "docker.io/library/cat:7"}))
    assert list(found.tags) == ["7"]


def test_a_tag_of_two_images_names_none_and_says_so() -> None:
    found = index(entry(ONE, **{REF_NAME: "a/x:1"}), entry(TWO, **{REF_NAME: "b/y:1"}))
    with pytest.raises(ImageNotFound) as caught:
        found.find("1", "here:1")
    assert caught.value.message == (
        f"here:1 may be any of 2 images: a/x:1 ({ONE.digest}), b/y:1 ({TWO.digest}); "
        "name one by its digest"
    )


def test_one_image_under_one_tag_of_two_names_is_not_ambiguous() -> None:
    found = index(entry(ONE, **{REF_NAME: "a/x:1"}), entry(ONE, **{REF_NAME: "b/y:1"}))
    one = found.find("1", "here:1")
    assert one is not None
    assert one.digest == ONE.digest


def test_a_tag_that_moves_leaves_its_image_without_one() -> None:
    found = Index(()).with_manifest(ONE, "1").with_manifest(TWO, "1")
    assert listed(found) == [("", ONE.digest), ("1", TWO.digest)]
    assert "annotations" not in found.entries[0].raw


def test_an_image_with_another_tag_is_not_kept_twice() -> None:
    found = Index(()).with_manifest(ONE, "1").with_manifest(ONE, "2").with_manifest(TWO, "1")
    assert listed(found) == [("2", ONE.digest), ("1", TWO.digest)]


def test_a_tag_moves_from_an_entry_with_a_full_reference() -> None:
    found = index(entry(ONE, **{REF_NAME: "a/x:1", "other": "kept"})).with_manifest(TWO, "1")
    assert listed(found) == [("", ONE.digest), ("1", TWO.digest)]
    assert found.entries[0].raw["annotations"] == {"other": "kept"}


def test_a_manifest_without_a_tag_is_kept_until_it_has_one() -> None:
    found = Index(()).with_manifest(ONE, "")
    assert listed(found) == [("", ONE.digest)]
    assert found.with_manifest(ONE, "") is found
    assert listed(found.with_manifest(ONE, "1")) == [("1", ONE.digest)]


def test_what_an_index_leads_to_needs_no_entry_of_its_own() -> None:
    children = [one.descriptor.as_json() for one in (ONE, TWO)]
    raw = json.dumps({"mediaType": OCI_INDEX, "schemaVersion": 2, "manifests": children})
    parent = parse_manifest(raw.encode(), what="made here")
    found = Index(()).with_manifest(ONE, "").with_manifest(TWO, "own").with_manifest(THREE, "")
    found = found.with_manifest(parent, "1")
    assert listed(found) == [("own", TWO.digest), ("", THREE.digest), ("1", parent.digest)]


def test_nothing_to_change_changes_nothing() -> None:
    found = Index(()).with_manifest(ONE, "1").with_manifest(TWO, "2")
    assert found.with_manifest(ONE, "1") is found
    assert found.with_manifest(ONE, "") is found


def test_what_is_not_understood_stays_in_the_file() -> None:
    strange = {**entry(ONE, **{REF_NAME: "1"}), "x": [1]}
    found = index(strange, schemaVersion=2, y={"z": 1}).with_manifest(TWO, "2")
    data = json.loads(found.dump())
    assert (data["y"], data["manifests"][0]) == ({"z": 1}, strange)
    assert listed(Index.parse(found.dump(), "here")) == listed(found)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "here is not JSON"),
        (b"[" * 100_000, "here is not JSON"),
        (b"[]", "here is no index"),
        (b'{"manifests": {}}', "here is no index"),
        (b'{"manifests": [1]}', r"here: manifests\[0\] is not an object"),
        (b'{"manifests": [{"digest": "sha256:../../etc"}]}', "has no digest that can be verified"),
    ],
)
def test_what_breaks_the_format_is_refused_in_one_line(raw: bytes, said: str) -> None:
    with pytest.raises(AnswerMalformed, match=said) as caught:
        Index.parse(raw, "here")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "change", [{"size": -1}, {"size": True}, {"mediaType": 1}, {"annotations": {"a": 1}}]
)
def test_a_descriptor_that_breaks_the_format_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(AnswerMalformed, match=r"manifests\[0\] has"):
        index({**entry(ONE), **change})
