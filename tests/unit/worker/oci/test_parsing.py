"""Headers and manifests of registries: read right, and never more than a typed error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.errors import AnswerMalformed, DigestMismatch, ManifestUnsupported
from transship_config.errors import TransshipError
from transship_worker.oci import digests
from transship_worker.oci.challenge import (
    Challenge,
    Scope,
    covers,
    merged,
    parse_challenges,
    parse_scopes,
    pull,
    push,
)
from transship_worker.oci.descriptors import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    FOREIGN_TYPES,
    MANIFEST_LIMIT,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    parse_manifest,
)
from transship_worker.oci.headers import (
    RateLimit,
    content_range,
    next_link,
    retry_after,
    unknown_links,
    upload_offset,
)
from transship_worker.oci.referrers import fallback_tag

DIGEST = digests.digest_of(b"{}")
BLOB = {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 2}
#: Texts like headers: the grammar's own characters come often.
HEADERISH = st.text(
    alphabet=st.one_of(
        st.sampled_from(list('Bearsicm <>;,="\\/:._-+ \t')),
        st.characters(blacklist_categories=["Cs"]),
    ),
    max_size=200,
)
JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(DIGEST),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("mediaType", "digest", "size", "config", "layers", "manifests", "blobs"),
                    *("platform", "os", "subject", "annotations", "urls", "artifactType"),
                    "schemaVersion",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


def test_a_bearer_challenge_is_read_as_docker_hub_writes_it() -> None:
    value = (
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
        'scope="repository:acme/app:pull,push",error="invalid_token"'
    )
    (challenge,) = parse_challenges([value])
    assert challenge.scheme == "bearer"
    assert challenge.parameters["realm"] == "https://auth.docker.io/token"
    assert parse_scopes(challenge.parameters["scope"]) == {push("acme/app")}


def test_several_challenges_are_told_apart() -> None:
    found = parse_challenges(
        [
            r'Negotiate, Basic realm="a \"quoted\", one" , Bearer realm=x ,service = "y"',
            "Digest q=1",
        ]
    )
    assert found == [
        Challenge("negotiate", {}),
        Challenge("basic", {"realm": 'a "quoted", one'}),
        Challenge("bearer", {"realm": "x", "service": "y"}),
        Challenge("digest", {"q": "1"}),
    ]


@pytest.mark.parametrize(
    "value", ['Bearer realm="open', "Bearer a=b, realm=", "\x00", "é", "B" * 20_000]
)
def test_a_challenge_that_breaks_the_grammar_is_a_typed_error(value: str) -> None:
    with pytest.raises(AnswerMalformed, match="WWW-Authenticate"):
        parse_challenges([value])


@given(st.lists(HEADERISH, max_size=3))
def test_no_challenge_raises_anything_but_a_typed_error(values: list[str]) -> None:
    try:
        found = parse_challenges(values)
    except AnswerMalformed:
        return
    for challenge in found:
        assert challenge.scheme == challenge.scheme.lower() != ""
        parse_scopes(challenge.parameters.get("scope", ""))


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=30)))
def test_what_is_quoted_comes_out_as_it_was(parameters: dict[str, str]) -> None:
    quoted = ", ".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in parameters.items()
    )
    assert parse_challenges([f"Bearer {quoted}"]) == [Challenge("bearer", parameters)]


def test_scopes_of_one_repository_become_one() -> None:
    found = merged([pull("a/b")], [push("a/b"), pull("c")], parse_scopes("nonsense a: ::"))
    assert found == {push("a/b"), pull("c")}
    assert covers(found, frozenset({pull("a/b")}))
    assert not covers(frozenset({pull("a/b")}), found)


def test_a_scope_may_name_a_port_and_a_catalogue() -> None:
    assert parse_scopes("repository:host:5000/a:pull registry:catalog:*") == {
        Scope("repository", "host:5000/a", frozenset({"pull"})),
        Scope("registry", "catalog", frozenset({"*"})),
    }


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', "/v2/a/tags/list?n=2&last=b"),
        ("</first>; rel=prev, </second>; title=x; rel=NEXT", "/second"),
        ('</a>; rel="prev next"', "/a"),
        ("</a>; rel=prev; rel=next", None),
        ("<https://cdn.example>; rel=preconnect; crossorigin", None),
        (' , </a>; rel="next"; , garbage', "/a"),
        ("<>; rel=next", ""),
        ("", None),
    ],
)
def test_the_next_page_is_the_one_that_says_so(value: str, target: str | None) -> None:
    assert next_link([value]) == target


@pytest.mark.parametrize(
    "value",
    [
        "/a; rel=next",
        "</a; rel=next",
        "<</a>; rel=next",
        "</a>",
        "</a>; title=next",
        '</a>; rel=prev </b>; rel="next"',
        "</a>; rel=prev, /b",
        '</a>; rel="prev',
        "next",
    ],
)
def test_a_link_header_that_breaks_the_grammar_is_a_typed_error(value: str) -> None:
    with pytest.raises(AnswerMalformed, match="a Link header that cannot be read"):
        next_link([value])


def test_the_next_page_may_be_in_any_of_several_headers() -> None:
    assert next_link(["</a>; rel=prev, </b>; rel=self", '</c>; rel="last next"']) == "/c"


def test_links_that_may_be_the_next_page_are_those_of_unknown_relations() -> None:
    known = ["</a>; rel=prev, </b>; rel=self", '</c>; rel="mine last"']
    assert unknown_links([*known, "</d>; rel=more, </e>; rel=page2", "</d>; rel=x"]) == ["/d", "/e"]
    with pytest.raises(AnswerMalformed):
        unknown_links(["</d>; rel=more", "</e>"])


@given(st.lists(HEADERISH, max_size=3))
def test_no_link_header_raises_anything_but_a_typed_error(values: list[str]) -> None:
    try:
        found = next_link(values)
    except AnswerMalformed:
        return
    assert found is None or ("<" not in found and ">" not in found)


@given(HEADERISH)
def test_no_other_header_raises(value: str) -> None:
    wait = retry_after({"Retry-After": value})
    assert wait is None or 0 <= wait <= 86_400
    assert content_range(value) is None or value.strip().startswith("bytes")
    assert upload_offset(value) is None or value.strip()
    RateLimit.of({"ratelimit-limit": value, "ratelimit-remaining": value})


def test_docker_hubs_pull_limit_is_data() -> None:
    headers = {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "192.0.2.1",
    }
    assert RateLimit.of(headers) == RateLimit(100, 76, 21_600.0, "192.0.2.1")
    assert RateLimit.of({}) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after({"Retry-After": "12"}) == 12
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}, now) == 30
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:00:30 GMT"}, now) == 0
    assert retry_after({"Retry-After": "9" * 12}) == 86_400


def test_the_fallback_tag_is_that_of_the_specification() -> None:
    assert fallback_tag("sha256:" + "a" * 64) == "sha256-" + "a" * 64
    assert fallback_tag("sha512:" + "a" * 128) == "sha512-" + "a" * 64


def manifest(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}, indent=3).encode()


def test_an_image_keeps_its_bytes_and_lists_each_blob_once() -> None:
    foreign = BLOB | {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    foreign["digest"] = digests.digest_of(b"elsewhere")
    layer = BLOB | {"digest": digests.digest_of(b"layer", "sha512")}
    raw = manifest(mediaType=DOCKER_MANIFEST, config=BLOB, layers=[layer, layer, foreign])

    found = parse_manifest(raw, what="a:1", digest=digests.digest_of(raw, "sha512"))

    assert found.raw == raw
    assert found.digest.startswith("sha512:")
    assert [blob.digest for blob in found.blobs] == [DIGEST, layer["digest"]]
    assert [blob.digest for blob in found.foreign_layers] == [foreign["digest"]]
    assert len(found.layers) == 3
    assert not found.is_index


def test_an_index_names_its_platforms() -> None:
    child = {
        "mediaType": OCI_MANIFEST,
        "digest": DIGEST,
        "size": 2,
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
    }
    found = parse_manifest(manifest(manifests=[child]), what="a:1")
    assert (found.media_type, str(found.children[0].platform)) == (OCI_INDEX, "linux/arm64/v8")
    assert found.blobs == ()


@pytest.mark.parametrize("media_type", sorted(FOREIGN_TYPES))
def test_a_foreign_layer_is_one_by_the_exact_name_of_its_type(media_type: str) -> None:
    layers = [BLOB | {"mediaType": media_type, "digest": digests.digest_of(b"base")}]
    found = parse_manifest(manifest(mediaType=OCI_MANIFEST, config=BLOB, layers=layers), what="a:1")
    assert [one.media_type for one in found.foreign_layers] == [media_type]
    assert [one.digest for one in found.blobs] == [DIGEST]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.acme.schema.foreign-keys.v1+json",
        "application/vnd.acme.nondistributable.report",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip.v2",
        "application/vnd.oci.image.layer.nondistributable.v2.tar",
    ],
)
def test_a_layer_whose_type_only_sounds_foreign_must_be_held(media_type: str) -> None:
    layers = [BLOB | {"mediaType": media_type, "digest": digests.digest_of(b"keys")}]
    found = parse_manifest(manifest(mediaType=OCI_MANIFEST, config=BLOB, layers=layers), what="a:1")
    assert found.foreign_layers == ()
    assert [one.media_type for one in found.blobs] == ["application/octet-stream", media_type]


def test_the_entries_of_an_index_that_are_no_manifests_are_its_blobs() -> None:
    """As BuildKit exports a cache to a registry without an image manifest."""
    layer = BLOB | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
    layer["digest"] = digests.digest_of(b"layer")
    config = BLOB | {"mediaType": "application/vnd.buildkit.cacheconfig.v0"}
    child = {"mediaType": OCI_MANIFEST, "digest": digests.digest_of(b"child"), "size": 2}
    raw = manifest(mediaType=OCI_INDEX, manifests=[layer, child, config])
    found = parse_manifest(raw, what="a:cache")
    assert [one.digest for one in found.blobs] == [layer["digest"], DIGEST]
    assert [one.digest for one in found.children] == [child["digest"]]
    assert {one.digest for one in found.entries} == {layer["digest"], DIGEST, child["digest"]}


OCI_CONFIG = BLOB | {"mediaType": "application/vnd.oci.image.config.v1+json"}
DOCKER_IMAGE_CONFIG = BLOB | {"mediaType": "application/vnd.docker.container.image.v1+json"}
OTHER_CONFIG = BLOB | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}


@pytest.mark.parametrize(
    "content_type", [DOCKER_MANIFEST, OCI_MANIFEST, "", "application/json", "text/plain"]
)
@pytest.mark.parametrize("config", [OCI_CONFIG, OTHER_CONFIG])
def test_a_manifest_without_its_type_is_ocis_if_its_config_is_not_dockers(
    content_type: str, config: dict[str, Any]
) -> None:
    raw = manifest(config=config, layers=[])
    assert parse_manifest(raw, what="a:1", content_type=content_type).media_type == OCI_MANIFEST


@pytest.mark.parametrize(
    ("fields", "content_type", "found"),
    [
        ({"config": DOCKER_IMAGE_CONFIG, "layers": []}, DOCKER_MANIFEST, DOCKER_MANIFEST),
        # Docker's format demands the type: what lacks it can only be taken as OCI's.
        ({"config": DOCKER_IMAGE_CONFIG, "layers": []}, "text/plain", OCI_MANIFEST),
        ({"manifests": [BLOB | {"mediaType": OCI_MANIFEST}]}, DOCKER_LIST, OCI_INDEX),
        ({"manifests": [BLOB | {"mediaType": DOCKER_MANIFEST}]}, DOCKER_LIST, DOCKER_LIST),
        ({"manifests": [BLOB | {"mediaType": DOCKER_MANIFEST}]}, "application/json", OCI_INDEX),
    ],
)
def test_what_a_manifest_names_tells_its_type_where_it_does_not(
    fields: dict[str, Any], content_type: str, found: str
) -> None:
    raw = manifest(**fields)
    assert parse_manifest(raw, what="a:1", content_type=content_type).media_type == found


def test_an_artifact_is_named_after_its_type_or_its_config() -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 2}
    raw = manifest(mediaType=OCI_MANIFEST, config=BLOB, layers=[], subject=subject)
    found = parse_manifest(raw, what="a:1")
    assert found.subject is not None
    assert found.descriptor.artifact_type == "application/octet-stream"
    raw = manifest(mediaType=OCI_ARTIFACT, artifactType="x/y", blobs=[BLOB], annotations={"k": "v"})
    found = parse_manifest(raw, what="a:1")
    assert (found.descriptor.artifact_type, found.descriptor.annotations) == ("x/y", {"k": "v"})
    assert [blob.digest for blob in found.blobs] == [DIGEST]


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b'{"schemaVersion": 1, "fsLayers": []}', ""),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws; charset=utf-8"),
    ],
)
def test_schema_1_is_refused_in_one_clear_line(raw: bytes, content_type: str) -> None:
    with pytest.raises(ManifestUnsupported, match=r"a:1 is a schema 1 manifest.*push it again"):
        parse_manifest(raw, what="a:1", content_type=content_type)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"<html>", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (manifest(mediaType=OCI_MANIFEST, config=BLOB, manifests=[]), "at once"),
        (manifest(mediaType=OCI_MANIFEST, layers=[]), "no config"),
        (manifest(mediaType=OCI_MANIFEST, config=BLOB | {"size": -1}), "no size"),
        (manifest(mediaType=OCI_MANIFEST, config=BLOB | {"size": True}), "no size"),
        (manifest(mediaType=OCI_MANIFEST, config=BLOB | {"digest": "sha256:../x"}), "no digest"),
        (manifest(mediaType=OCI_MANIFEST, config=BLOB | {"mediaType": "a\nb"}), "no media type"),
        (manifest(mediaType=OCI_MANIFEST, config=BLOB, layers={}), "not a list"),
        (b" " * (MANIFEST_LIMIT + 1), "at most"),
    ],
)
def test_a_manifest_that_breaks_the_format_is_named(raw: bytes, says: str) -> None:
    with pytest.raises(AnswerMalformed, match=f"a:1.*{says}"):
        parse_manifest(raw, what="a:1")


def test_a_manifest_that_is_two_kinds_at_once_is_refused() -> None:
    raw = manifest(mediaType=OCI_INDEX, manifests=[])
    with pytest.raises(AnswerMalformed, match="calls itself"):
        parse_manifest(raw, what="a:1", content_type=OCI_MANIFEST)


def test_bytes_that_are_not_the_digests_are_refused() -> None:
    with pytest.raises(DigestMismatch, match="a:1"):
        parse_manifest(manifest(), what="a:1", digest=DIGEST)


@given(JSONISH, st.sampled_from([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, OCI_ARTIFACT, ""]))
def test_no_manifest_raises_anything_but_a_typed_error(data: Any, content_type: str) -> None:
    try:
        found = parse_manifest(json.dumps(data).encode(), what="a:1", content_type=content_type)
    except TransshipError as error:
        assert error.message.isprintable()
    else:
        assert digests.is_digest(found.digest)
