"""What the engine says, and the typed error that it means."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from transship.errors import (
    BodyTooLarge,
    Denied,
    EngineMisconfigured,
    EngineUnavailable,
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
    RegistryUnreachable,
    RegistryUntrusted,
    RepositoryMissing,
)
from transship.model.references import ImageReference
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.redaction import MESSAGE_LENGTH, clean
from transship_worker.transports.engine.push_errors import Spoken, translate

IMAGE = ImageReference.parse("registry.lan:5000/team/train:42")
LOGIN = Credentials("robot", SecretStr("s3cr3t/+word"))

#: Each as an engine said it: 20.10 unless noted.
SAID = [
    ("An image does not exist locally with the tag: registry.lan:5000/team/train", ImageNotFound),
    ("tag does not exist: registry.lan:5000/team/train:42", ImageNotFound),
    # Podman 5.8
    ("failed to find image registry.lan:5000/team/train:42: image not known", ImageNotFound),
    (
        (
            "trying to reuse blob sha256:0a at destination: checking whether a blob sha256:0a "
            "exists in registry.lan:5000/team/train: authentication required"
        ),
        Denied,
    ),
    (
        (
            "trying to reuse blob sha256:0a at destination: pinging container registry "
            'registry.lan:5000: Get "http://registry.lan:5000/v2/": dial tcp 10.0.0.1:5000: '
            "connect: connection refused"
        ),
        RegistryUnreachable,
    ),
    # containerd image store, 26.1
    (
        (
            "missing content: content digest sha256:0a: not found\nNote: You're trying to push a "
            "manifest list/index which references multiple platform specific manifests, but not "
            "all of them are available locally or available to the remote repository.\nMake sure "
            "you have all the referenced content and try again."
        ),
        ImageNotFound,
    ),
    (
        (
            "unexpected status from HEAD request to http://registry.lan:5000/v2/team/train/blobs/"
            "sha256:0a: 401 Unauthorized"
        ),
        Denied,
    ),
    # containerd image store, 28.5
    (
        (
            "image with reference registry.lan:5000/team/train:42 was found but does not provide "
            "the specified platform (linux/arm/v7)"
        ),
        ImageNotFound,
    ),
    ("multiple matching manifests found but no specific platform requested", ImageNotFound),
    ("no basic auth credentials", Denied),
    (
        'Head "http://registry.lan:5000/v2/team/train/manifests/1": no basic auth credentials',
        Denied,
    ),
    ("unauthorized: authentication required", Denied),
    ("unauthorized", Denied),
    ("denied: requested access to the resource is denied", Denied),
    (
        (
            "errors:\ndenied: requested access to the resource is denied\n"
            "unauthorized: authentication required\n"
        ),
        Denied,
    ),
    (
        (
            "denied: User: arn:aws:iam::1:user/x is not authorized to perform: "
            "ecr:InitiateLayerUpload on resource: y"
        ),
        Denied,
    ),
    (
        (
            "unauthorized: unauthorized to access repository: team/train, action: push: "
            "unauthorized to access repository: team/train, action: push"
        ),
        Denied,
    ),
    # containerd image store
    (
        (
            "push access denied, repository does not exist or may require authorization: "
            "server message: insufficient_scope: authorization failed"
        ),
        Denied,
    ),
    (
        (
            "error parsing HTTP 403 response body: invalid character '<' looking for beginning of "
            'value: "<html>no</html>"'
        ),
        Denied,
    ),
    # ECR
    (
        (
            "name unknown: The repository with name 'team/train' does not exist in the registry "
            "with id '123456789012'"
        ),
        RepositoryMissing,
    ),
    # Harbor
    ("unknown: project team not found", RepositoryMissing),
    ("unauthorized: project team not found: project team not found", RepositoryMissing),
    # Artifact Registry
    ('name unknown: Repository "team" not found', RepositoryMissing),
    # ECR, aws/containers-roadmap#862
    (
        (
            "tag invalid: The image tag '42' already exists in the 'team/train' repository and "
            "cannot be overwritten because the repository is immutable."
        ),
        ImmutableTag,
    ),
    # Harbor
    (
        "unknown: Failed to process request due to 'train:42' configured as immutable.",
        ImmutableTag,
    ),
    ("toomanyrequests: Rate exceeded", RateLimited),
    (
        (
            "error parsing HTTP 429 response body: invalid character '<' looking for beginning of "
            'value: "<html>slow</html>"'
        ),
        RateLimited,
    ),
    (
        'Get "https://registry.lan:5000/v2/": http: server gave HTTP response to HTTPS client',
        EngineMisconfigured,
    ),
    (
        'Get "https://registry.lan:5000/v2/": x509: certificate signed by unknown authority',
        EngineMisconfigured,
    ),
    (
        'Get "https://registry.lan:5000/v2/": x509: certificate has expired or is not yet valid',
        RegistryUntrusted,
    ),
    (
        (
            'Get "https://registry.lan:5000/v2/": x509: certificate is valid for other.lan, not '
            "registry.lan"
        ),
        RegistryUntrusted,
    ),
    (
        (
            "missing key client.key for client certificate client.cert. Note that CA certificates "
            "should use the extension .crt"
        ),
        EngineMisconfigured,
    ),
    (
        'Get "https://registry.lan:5000/v2/": remote error: tls: bad certificate',
        EngineMisconfigured,
    ),
    (
        'Get "https://registry.lan:5000/v2/": remote error: tls: certificate required',
        EngineMisconfigured,
    ),
    ('Get "https://registry.lan:5000/v2/": remote error: tls: internal error', RegistryUnreachable),
    (
        'Get "http://registry.lan:5000/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
        RegistryUnreachable,
    ),
    (
        (
            'Get "https://registry.lan:5000/v2/": dial tcp: lookup registry.lan on 10.0.0.1:53: '
            "no such host"
        ),
        RegistryUnreachable,
    ),
    (
        'Get "https://registry.lan:5000/v2/": dial tcp 10.0.0.9:5000: i/o timeout',
        RegistryUnreachable,
    ),
    (
        (
            'Get "https://registry.lan:5000/v2/": net/http: request canceled while waiting for '
            "connection (Client.Timeout exceeded while awaiting headers)"
        ),
        RegistryUnreachable,
    ),
    ('Get "https://registry.lan:5000/v2/": net/http: TLS handshake timeout', RegistryUnreachable),
    ('Get "https://registry.lan:5000/v2/": Bad Gateway', RegistryUnreachable),
    ("received unexpected HTTP status: 500 Internal Server Error", RegistryUnavailable),
    ("received unexpected HTTP status: 502 Bad Gateway", RegistryUnavailable),
    ("received unexpected HTTP status: 503 Service Unavailable", RegistryUnavailable),
    ("EOF", RegistryUnavailable),
    ("unexpected EOF", RegistryUnavailable),
    (
        (
            'Patch "http://registry.lan:5000/v2/x": write tcp 127.0.0.1:5->127.0.0.1:6: write: '
            "broken pipe"
        ),
        RegistryUnavailable,
    ),
    ("read tcp 127.0.0.1:5->127.0.0.1:6: read: connection reset by peer", RegistryUnavailable),
    ("blob upload unknown", RegistryUnavailable),
    ("unknown blob", RegistryUnavailable),
    ("context canceled", EngineUnavailable),
    ("manifest invalid: manifest invalid", ManifestInvalid),
    # nginx and other proxies with a limit
    (
        (
            "error parsing HTTP 413 response body: invalid character '<' looking for beginning of "
            'value: "<html>\\r\\n<head><title>413 Request Entity Too Large</title></head>"'
        ),
        BodyTooLarge,
    ),
    # containerd image store
    (
        (
            "unexpected status from PUT request to https://registry.lan:5000/v2/team/train/blobs/"
            "uploads/1: 413 Request Entity Too Large"
        ),
        BodyTooLarge,
    ),
    # Harbor, and Quay
    (
        (
            "denied: adding 1.0 MiB of storage resource, which when updated to current usage of "
            "9.5 MiB will exceed the configured upper limit of 10.0 MiB."
        ),
        QuotaExceeded,
    ),
    ("denied: Quota has been exceeded on namespace", QuotaExceeded),
    ("received unexpected HTTP status: 507 Insufficient Storage", QuotaExceeded),
    # A pull-through proxy of distribution, and Quay in maintenance
    ("unsupported: The operation is unsupported.", RegistryReadOnly),
    ("unsupported", RegistryReadOnly),
    (
        (
            "unsupported: System is currently read-only. Pulls will succeed but all write "
            "operations are currently suspended."
        ),
        RegistryReadOnly,
    ),
    ("received unexpected HTTP status: 415 Unsupported Media Type", MediaTypeUnsupported),
    ("something that nobody ever said", PushRejected),
]


@pytest.mark.parametrize(("text", "kind"), SAID)
def test_every_saying_has_its_type(text: str, kind: type[PushError]) -> None:
    assert type(translate(text, Spoken("build-7", IMAGE, LOGIN))) is kind


@pytest.mark.parametrize(("text", "kind"), SAID)
def test_every_message_is_one_printable_bounded_line(text: str, kind: type[PushError]) -> None:
    message = translate(text, Spoken("build-7", IMAGE)).message
    assert message.isprintable()
    assert len(message) < MESSAGE_LENGTH + 200


def test_a_name_that_sounds_like_an_error_is_none() -> None:
    image = ImageReference.parse("denied.lan:5000/unauthorized/immutable:1")
    text = 'Get "http://denied.lan:5000/v2/unauthorized/immutable/x": unexpected EOF'
    assert type(translate(text, Spoken("e", image))) is RegistryUnavailable


def test_a_denial_says_whether_there_was_a_login() -> None:
    without = translate("unauthorized", Spoken("e", IMAGE)).message
    assert without.startswith("registry.lan:5000 wants a login for registry.lan:5000/team/train")
    with_login = translate("unauthorized", Spoken("e", IMAGE, LOGIN)).message
    assert "refused the component's login" in with_login


def test_a_missing_setting_is_named_with_the_engine_and_the_registry() -> None:
    plain = translate("http: server gave HTTP response to HTTPS client", Spoken("build-7", IMAGE))
    assert "add registry.lan:5000 under insecure-registries" in plain.message
    assert "engine build-7" in plain.message
    unknown = translate("x509: certificate signed by unknown authority", Spoken("build-7", IMAGE))
    assert "/etc/docker/certs.d/registry.lan:5000/ca.crt" in unknown.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("toomanyrequests: retry-after: 985.86µs, allowed: 44000/minute", 985.86e-6),
        ("toomanyrequests: retry-after: 1m30s", 90.0),
        ("toomanyrequests: Retry-After: 17", 17.0),
        ("toomanyrequests: retry-after: 1.2.3s", None),
        ("toomanyrequests: Rate exceeded", None),
    ],
)
def test_a_stated_wait_is_kept(text: str, seconds: float | None) -> None:
    assert translate(text, Spoken("e", IMAGE)).retry_after_s == pytest.approx(seconds)


def test_an_unknown_refusal_keeps_the_engines_words_escaped_and_bounded() -> None:
    error = translate("a\x1b[31mred\n\n b\u202e" + "x" * 900, Spoken("e", IMAGE))
    assert type(error) is PushRejected
    assert not error.retryable
    assert r"a\x1b[31mred; b\u202e" in error.message
    assert error.message.endswith("…")
    assert len(error.message) < MESSAGE_LENGTH + 50


def test_no_spelling_of_a_password_stays_in_a_message() -> None:
    whole = base64.b64encode(b"robot:s3cr3t/+word").decode()
    text = f"PUT with s3cr3t/+word and s3cr3t%2F%2Bword and Basic {whole}: no"
    message = translate(text, Spoken("e", IMAGE, LOGIN)).message
    assert "s3cr3t" not in message
    assert whole not in message


def test_signatures_and_logins_in_urls_do_not_stay() -> None:
    text = 'Get "https://u:pw@s3.lan/blob?X-Amz-Signature=abc&token=def": EOF'
    message = clean(text)
    assert "abc" not in message
    assert "def" not in message
    assert "pw" not in message
    assert message.startswith('Get "https://***@s3.lan/blob?…"')


@given(
    st.text(max_size=2000),
    st.text(alphabet=string.ascii_letters + string.digits, min_size=6, max_size=30),
)
def test_whatever_is_said_becomes_one_line_without_the_password(text: str, password: str) -> None:
    credentials = Credentials("robot", SecretStr(password))
    middle = len(text) // 2
    said = text[:middle] + password + text[middle:]
    message = clean(said, credentials)
    assert message.isprintable()
    assert len(message) <= MESSAGE_LENGTH
    assert password not in message


@pytest.mark.parametrize(
    "text",
    [
        "missing content: content digest sha256:0a: not found",
        "multiple manifests found for platform",
    ],
)
def test_an_index_of_which_a_part_is_missing_is_final_and_names_the_option(text: str) -> None:
    error = translate(text, Spoken("build-7", IMAGE))
    assert not error.retryable
    assert "choose one that is there with --platform" in error.message
    older = translate(text, Spoken("build-7", IMAGE, takes_platform=False))
    assert "--platform from Docker Engine 27 or newer" in older.message


def test_podman_is_told_to_trust_a_registry_in_its_own_settings() -> None:
    text = "http: server gave HTTP response to HTTPS client"
    assert "registries.conf" in translate(text, Spoken("pod", IMAGE, is_podman=True)).message
    assert "daemon.json" in translate(text, Spoken("build-7", IMAGE)).message
