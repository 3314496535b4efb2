"""What registries answer instead of success, and the typed error that it means."""

from __future__ import annotations

import json

import pytest
from yarl import URL

from transship.errors import (
    BlobMissing,
    BodyTooLarge,
    Denied,
    DigestInvalid,
    ForeignLayersRefused,
    ImageNotFound,
    ImmutableTag,
    ManifestInvalid,
    MediaTypeUnsupported,
    PushError,
    PushRejected,
    QuotaExceeded,
    RateLimited,
    RegistryReadOnly,
    RegistryUnavailable,
    RepositoryMissing,
    UploadLost,
)
from transship_worker.oci import digests
from transship_worker.oci.errors import Speaker, error_of, refusal, refusal_of

DIGEST = digests.digest_of(b"{}")
STRONG = digests.digest_of(b"{}", "sha512")
UPLOAD = "/v2/team/app/blobs/uploads/1"
NGINX = b"<html><head><title>413 Request Entity Too Large</title></head></html>"


def said(code: str, message: str = "", detail: object = None) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


def error(request: str, status: int, body: bytes = b"") -> PushError:
    """The typed error for an answer to a request, such as ``PUT /v2/...``."""
    method, _, path = request.partition(" ")
    speaker = Speaker("registry.lan")
    answer = refusal(method, URL(f"https://registry.lan{path}"), status, {}, body, speaker)
    return error_of(answer, speaker, "team/app:1")


PUT, HEAD = "PUT /v2/team/app/manifests/1", f"HEAD /v2/team/app/blobs/{STRONG}"

#: Each as a registry said it, or as its documentation has it.
PERMANENT = [
    (f"PUT {UPLOAD}", 413, NGINX, BodyTooLarge),
    (f"PATCH {UPLOAD}", 413, b"", BodyTooLarge),
    (PUT, 413, NGINX, BodyTooLarge),
    # Harbor 2.x, and before
    (
        PUT,
        412,
        said(
            "PRECONDITION",
            "adding 1.0 MiB of storage resource, which when updated to current usage of 9.5 MiB "
            "will exceed the configured upper limit of 10.0 MiB.",
        ),
        QuotaExceeded,
    ),
    (
        f"PUT {UPLOAD}",
        403,
        said("DENIED", "Quota exceeded when processing the request of adding 1 MiB"),
        QuotaExceeded,
    ),
    # Quay
    (f"POST {UPLOAD}", 403, said("DENIED", "Quota has been exceeded on namespace"), QuotaExceeded),
    (f"PUT {UPLOAD}", 507, b"Insufficient Storage", QuotaExceeded),
    # distribution with sha512
    (f"PUT /v2/team/app/manifests/{STRONG}", 400, said("DIGEST_INVALID"), DigestInvalid),
    (f"PUT {UPLOAD}", 400, said("DIGEST_INVALID", "did not match"), DigestInvalid),
    # go-containerregistry's registry; the answer to a HEAD has no body
    (f"PUT {UPLOAD}", 400, said("NAME_INVALID", "invalid digest"), DigestInvalid),
    (PUT, 400, said("MANIFEST_INVALID", 'unsupported hash: "sha512"'), DigestInvalid),
    (HEAD, 400, b"", DigestInvalid),
    (PUT, 400, said("MANIFEST_INVALID", "manifest invalid"), ManifestInvalid),
    (PUT, 400, said("MANIFEST_UNVERIFIED"), ManifestInvalid),
    (PUT, 400, said("MANIFEST_INVALID", "unknown manifest type"), MediaTypeUnsupported),
    (PUT, 400, said("MANIFEST_INVALID", "unknown media type: application/x"), MediaTypeUnsupported),
    (PUT, 415, said("MANIFEST_INVALID", "schema version not supported"), MediaTypeUnsupported),
    # Amazon ECR
    (
        PUT,
        405,
        said(
            "UNSUPPORTED",
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON'",
        ),
        MediaTypeUnsupported,
    ),
    # A pull-through proxy of distribution, and one that says nothing
    (f"POST {UPLOAD}", 405, said("UNSUPPORTED", "The operation is unsupported."), RegistryReadOnly),
    (PUT, 405, b"", RegistryReadOnly),
    # Quay and Harbor in maintenance
    (
        PUT,
        405,
        said("UNSUPPORTED", "System is currently read-only. Pulls will succeed."),
        RegistryReadOnly,
    ),
    (PUT, 403, said("DENIED", "The system is in read only mode."), RegistryReadOnly),
    (PUT, 400, said("MANIFEST_INVALID", "foreign layers are not allowed"), ForeignLayersRefused),
]


@pytest.mark.parametrize(("request_", "status", "body", "kind"), PERMANENT)
def test_a_refusal_that_no_retry_changes_ends_under_its_cause(
    request_: str, status: int, body: bytes, kind: type[PushError]
) -> None:
    found = error(request_, status, body)
    assert type(found) is kind
    assert not found.retryable
    assert str(status) in found.message
    assert refusal_of(found) is not None


@pytest.mark.parametrize(
    ("request_", "status", "body", "kind"),
    [
        (PUT, 429, said("TOOMANYREQUESTS", "Quota exceeded"), RateLimited),
        (PUT, 400, said("TAG_INVALID", "the tag is immutable"), ImmutableTag),
        # Foreign layers, and a link that is just being rewritten: the copy tells them apart.
        (PUT, 500, said("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"), BlobMissing),
        # go-containerregistry's registry of an index without one of its manifests
        (PUT, 404, said("MANIFEST_UNKNOWN", "Sub-manifest not found"), BlobMissing),
        ("GET /v2/team/app/manifests/1", 404, said("MANIFEST_UNKNOWN"), ImageNotFound),
        ("GET /v2/team/app/manifests/1", 404, said("NAME_UNKNOWN"), RepositoryMissing),
        (PUT, 400, said("NAME_INVALID", "invalid repository name"), RepositoryMissing),
        (f"PUT {UPLOAD}", 400, said("SIZE_INVALID"), RegistryUnavailable),
        *((PUT, status, b"", RegistryUnavailable) for status in (408, 423, 425, 499)),
        (PUT, 500, said("UNKNOWN", "no space left on device"), RegistryUnavailable),
        (PUT, 500, said("UNKNOWN", "invalid checksum digest format"), RegistryUnavailable),
        (f"PATCH {UPLOAD}", 404, said("BLOB_UPLOAD_INVALID"), UploadLost),
        # A token that may only read is the login's business, not the registry's.
        (PUT, 403, said("DENIED", "access token has read-only scope"), Denied),
        # Only writes are refused by what takes no writes.
        ("GET /v2/team/app/manifests/1", 405, b"", PushRejected),
        ("HEAD /v2/team/app/blobs/" + DIGEST, 400, b"", PushRejected),
    ],
)
def test_other_refusals_keep_their_kind(
    request_: str, status: int, body: bytes, kind: type[PushError]
) -> None:
    assert type(error(request_, status, body)) is kind


def test_a_link_that_is_being_rewritten_is_no_invalid_digest() -> None:
    """distribution 2.8 answers both codes to a manifest whose blob is being mounted."""
    codes = ({"code": code} for code in ("DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"))
    body = json.dumps({"errors": list(codes)}).encode()
    assert type(error(PUT, 400, body)) is BlobMissing


def test_a_body_that_is_too_large_names_the_option_that_sends_smaller_ones() -> None:
    assert "set max_body of the component" in error(f"PUT {UPLOAD}", 413, NGINX).message
    assert "max_body" not in error(PUT, 413, NGINX).message


def test_the_digests_that_a_registry_names_are_kept() -> None:
    """distribution names what is missing in the detail, which is an object."""
    body = json.dumps(
        {
            "errors": [
                {"code": "UNKNOWN", "message": "unknown error", "detail": {}},
                {"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"Digest": DIGEST}},
                {"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"Digest": STRONG}},
                {"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"Digest": DIGEST}},
            ]
        }
    ).encode()
    found = refusal_of(error(PUT, 500, body))
    assert found is not None
    assert found.digests == (DIGEST, STRONG)


def test_digests_are_read_out_of_any_text_in_bounded_number() -> None:
    text = " ".join(digests.digest_of(str(number).encode()) for number in range(300))
    found = refusal_of(error(PUT, 500, text.encode()))
    assert found is not None
    assert len(found.digests) == 100
