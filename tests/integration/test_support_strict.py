"""The strict registry does what its rules say, asked as plainly as can be."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.strict_registry.registry import Rules, StrictRegistry
from tests.support.strict_registry.requests import (
    DATA,
    IMAGE,
    INDEX,
    ask,
    blob_path,
    code,
    digest_of,
    layer,
    opened,
    put_blob,
    put_manifest,
)


@pytest.fixture
def registry() -> Iterator[StrictRegistry]:
    with StrictRegistry() as made:
        yield made


def test_a_blob_is_put_counted_and_read_back(registry: StrictRegistry) -> None:
    assert put_blob(registry).status_code == 201
    assert ask(registry, "GET", blob_path()).content == DATA
    assert ask(registry, "HEAD", blob_path()).headers["Content-Length"] == str(len(DATA))
    assert code(ask(registry, "GET", blob_path(b"other"))) == (404, "BLOB_UNKNOWN")
    assert registry.counts.uploaded == {digest_of(DATA): len(DATA)}
    assert registry.counts.received == len(DATA)
    assert registry.counts.of("blob") == 3
    assert registry.counts.of("upload", "PUT") == 1
    assert registry.blob("a/b", digest_of(DATA)) == DATA
    assert not registry.has_blob("c/d", digest_of(DATA))


def test_an_upload_moves_with_each_request_and_its_old_address_is_refused(
    registry: StrictRegistry,
) -> None:
    first = opened(registry)
    assert first.startswith("/v2/a/b/blobs/uploads/")
    second = ask(registry, "PATCH", first, data=DATA).headers["Location"]
    assert second != first
    assert code(ask(registry, "PUT", f"{first}&digest={digest_of(DATA)}"))[0] == 404
    decoded = second.replace("%2B%3D", "+=")
    assert ask(registry, "PUT", f"{decoded}&digest={digest_of(DATA)}").status_code == 404
    assert ask(registry, "PUT", f"{second}&digest={digest_of(DATA)}").status_code == 201


def test_a_blob_with_another_digest_is_refused(registry: StrictRegistry) -> None:
    place = opened(registry)
    wrong = ask(registry, "PUT", f"{place}&digest={digest_of(b'other')}", data=DATA)
    assert code(wrong) == (400, "DIGEST_INVALID")
    assert not registry.has_blob("a/b", digest_of(b"other"))


def test_chunks_are_taken_in_order_only(registry: StrictRegistry) -> None:
    place = opened(registry)
    first = ask(registry, "PATCH", place, data=DATA[:100], headers={"Content-Range": "0-99"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-99")
    place = first.headers["Location"]
    gap = ask(registry, "PATCH", place, data=DATA[200:300], headers={"Content-Range": "200-299"})
    assert (gap.status_code, gap.headers["Range"]) == (416, "0-99")
    told = ask(registry, "GET", gap.headers["Location"])
    assert (told.status_code, told.headers["Range"]) == (204, "0-99")
    rest = f"100-{len(DATA) - 1}"
    place = f"{told.headers['Location']}&digest={digest_of(DATA)}"
    done = ask(registry, "PUT", place, data=DATA[100:], headers={"Content-Range": rest})
    assert done.status_code == 201


def test_a_sha512_upload_says_so_when_it_is_opened(registry: StrictRegistry) -> None:
    digest = f"sha512:{hashlib.sha512(DATA).hexdigest()}"
    unsaid = ask(registry, "PUT", f"{opened(registry)}&digest={digest}", data=DATA)
    assert code(unsaid) == (400, "DIGEST_INVALID")
    place = opened(registry, query="?digest-algorithm=sha512")
    assert ask(registry, "PUT", f"{place}&digest={digest}", data=DATA).status_code == 201


def test_without_chunks_only_one_body_is_taken() -> None:
    with StrictRegistry(Rules(chunks=False)) as registry:
        first = ask(registry, "PATCH", opened(registry), data=DATA[:100])
        second = ask(registry, "PATCH", first.headers["Location"], data=DATA[100:])
        assert (first.status_code, second.status_code) == (202, 405)
        ranged = {"Content-Range": "0-99"}
        place = opened(registry)
        assert ask(registry, "PATCH", place, data=DATA[:100], headers=ranged).status_code == 405
        assert put_blob(registry).status_code == 201


def test_bodies_without_a_length_can_be_refused() -> None:
    with StrictRegistry(Rules(lengths=True)) as registry:
        place = f"{opened(registry)}&digest={digest_of(DATA)}"
        assert ask(registry, "PUT", place, data=iter([DATA])).status_code == 411
        assert put_blob(registry).status_code == 201
    with StrictRegistry() as registry:
        place = f"{opened(registry)}&digest={digest_of(DATA)}"
        assert ask(registry, "PUT", place, data=iter([DATA])).status_code == 201


@pytest.mark.parametrize(
    ("rules", "statuses"),
    [
        (Rules(), (201, 201)),
        (Rules(mounts=False), (202, 202)),
        (Rules(mounts_need_manifest=True), (202, 201)),
    ],
    ids=["granted", "refused", "needs-manifest"],
)
def test_mounts_follow_the_rules(rules: Rules, statuses: tuple[int, int]) -> None:
    with StrictRegistry(rules) as registry:
        put_blob(registry)
        query = f"?mount={digest_of(DATA)}&from=a/b"
        before = ask(registry, "POST", f"/v2/c/d/blobs/uploads/{query}")
        assert put_manifest(registry, "v1", layers=[layer()]).status_code == 201
        after = ask(registry, "POST", f"/v2/e/f/blobs/uploads/{query}")
        assert (before.status_code, after.status_code) == statuses
        assert registry.has_blob("e/f", digest_of(DATA)) is (statuses[1] == 201)
        assert sum(registry.counts.mounts.values()) == statuses.count(201)
        assert registry.counts.refused_mounts == statuses.count(202)


def test_two_mounts_at_once_are_a_violation() -> None:
    with StrictRegistry(Rules(mount_s=0.5)) as registry:
        put_blob(registry)
        path = f"/v2/c/d/blobs/uploads/?mount={digest_of(DATA)}&from=a/b"
        threads = [
            threading.Thread(target=ask, args=(registry, "POST", path), daemon=True)
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert registry.violations == [f"two mounts at once of {digest_of(DATA)} into c/d"]
        registry.violations.clear()


def leak(registry: StrictRegistry) -> None:
    put_blob(registry)
    place = ask(registry, "GET", blob_path()).headers["Location"]
    requests.get(place, headers={"Authorization": "Bearer leaked"}, timeout=30)


def test_a_violation_fails_the_test_that_has_it() -> None:
    registry = StrictRegistry(Rules(redirect=True))
    with pytest.raises(AssertionError, match="credentials were sent to the storage"), registry:
        leak(registry)


def test_a_blob_lies_at_another_port_behind_a_signature() -> None:
    with StrictRegistry(Rules(redirect=True)) as registry:
        put_blob(registry)
        answer = ask(registry, "GET", blob_path())
        place = answer.headers["Location"]
        assert answer.status_code == 307
        assert registry.address not in place
        assert requests.get(place, timeout=30).content == DATA
        assert requests.get(place.partition("?")[0], timeout=30).status_code == 403
        assert registry.counts.of("storage") == 2


def test_the_first_requests_are_throttled() -> None:
    with StrictRegistry(Rules(throttle_first=2, retry_after_s=7)) as registry:
        answers = [ask(registry, "GET", "/v2/") for _ in range(3)]
        assert [one.status_code for one in answers] == [429, 429, 200]
        assert answers[0].headers["Retry-After"] == "7"
        registry.rules = Rules(throttle_every=2)
        answers = [ask(registry, "GET", "/v2/") for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 429, 200, 429]
        assert registry.counts.throttled == 4


def test_a_manifest_needs_its_parts_here_and_of_the_right_size(registry: StrictRegistry) -> None:
    fields: dict[str, Any] = {"layers": [layer()]}
    assert code(put_manifest(registry, "v1", **fields)) == (400, "MANIFEST_BLOB_UNKNOWN")
    put_blob(registry, repository="elsewhere/x")
    assert code(put_manifest(registry, "v1", **fields)) == (400, "MANIFEST_BLOB_UNKNOWN")
    put_blob(registry)
    wrong = [{**layer(), "size": 1}]
    assert code(put_manifest(registry, "v1", layers=wrong)) == (400, "MANIFEST_INVALID")
    child = put_manifest(registry, "v1", **fields)
    assert child.status_code == 201
    digest = child.headers["Docker-Content-Digest"]
    size = len(registry.manifest_bytes("a/b", "v1"))
    children = [{"mediaType": IMAGE, "digest": digest, "size": size}]
    assert put_manifest(registry, "all", mediaType=INDEX, manifests=children).status_code == 201
    children[0]["digest"] = digest_of(b"no child")
    unknown = put_manifest(registry, "all", mediaType=INDEX, manifests=children)
    assert code(unknown) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert registry.list_tags("a/b") == ["all", "v1"]
    assert registry.manifest("a/b", digest)["layers"] == [layer()]


def test_a_manifest_is_put_under_its_own_digest_only(registry: StrictRegistry) -> None:
    assert code(put_manifest(registry, digest_of(b"x"))) == (400, "DIGEST_INVALID")
    body = json.dumps({"schemaVersion": 2, "mediaType": IMAGE}).encode()
    assert put_manifest(registry, digest_of(body)).status_code == 201
    read = ask(registry, "GET", f"/v2/a/b/manifests/{digest_of(body)}")
    assert (read.content, read.headers["Content-Type"]) == (body, IMAGE)
    assert registry.list_tags("a/b") == []


def test_an_immutable_tag_takes_the_same_digest_again_and_no_other() -> None:
    with StrictRegistry(Rules(immutable_tags=True)) as registry:
        assert put_manifest(registry, "v1").status_code == 201
        assert put_manifest(registry, "v1").status_code == 201
        moved = put_manifest(registry, "v1", annotations={"a": "b"})
        assert code(moved) == (400, "TAG_INVALID")


def test_referrers_are_listed_where_there_is_the_api(registry: StrictRegistry) -> None:
    subject = {"mediaType": IMAGE, "digest": digest_of(b"subject"), "size": 7}
    signature = put_manifest(registry, "sig", subject=subject, artifactType="a/signature")
    put_manifest(registry, "bom", subject=subject, artifactType="a/bom", annotations={"k": "v"})
    assert signature.headers["OCI-Subject"] == subject["digest"]
    path = f"/v2/a/b/referrers/{subject['digest']}"
    listed = ask(registry, "GET", path).json()["manifests"]
    assert {one["artifactType"] for one in listed} == {"a/signature", "a/bom"}
    some = ask(registry, "GET", f"{path}?artifactType=a/bom")
    assert [one["annotations"] for one in some.json()["manifests"]] == [{"k": "v"}]
    assert some.headers["OCI-Filters-Applied"] == "artifactType"

    registry.rules = Rules(referrers=False)
    assert ask(registry, "GET", path).status_code == 404
    assert "OCI-Subject" not in put_manifest(registry, "sig", subject=subject).headers


def test_lists_come_in_small_pages() -> None:
    with StrictRegistry(Rules(page_size=2)) as registry:
        for number in range(5):
            put_manifest(registry, f"v{number}")
            put_manifest(registry, "v1", repository=f"r/{number}")
        assert pages(registry, "/v2/a/b/tags/list", "tags") == [
            ["v0", "v1"],
            ["v2", "v3"],
            ["v4"],
        ]
        names = [name for page in pages(registry, "/v2/_catalog", "repositories") for name in page]
        assert names == ["a/b", "r/0", "r/1", "r/2", "r/3", "r/4"]
        assert code(ask(registry, "GET", "/v2/no/such/tags/list")) == (404, "NAME_UNKNOWN")


def pages(registry: StrictRegistry, path: str, key: str) -> list[list[str]]:
    found = []
    while path:
        answer = ask(registry, "GET", path)
        found.append(answer.json()[key])
        path = answer.links.get("next", {}).get("url", "")
    return found
