"""The ``gcp`` flavor: hosts, keys, and access tokens by google-auth from a fake of Google."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from tests.support.scripted_servers.cloud_tokens import FakeCloud, Reply
from transship.errors import CloudUnavailable, CredentialsMissing, Denied, PrepareFailed
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.gcp import GcpRegistry, split_project

KEY = {"type": "service_account", "client_email": "ci@my-acme.example", "private_key": "PRIVATE"}


@pytest.fixture
def google() -> Iterator[FakeCloud]:
    with FakeCloud() as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token of another test, and no login of this machine."""
    cache = TokenCache(margin=timedelta(minutes=5))
    monkeypatch.setattr("transship_worker.flavors.gcp._TOKENS", cache)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    # No metadata server: the question would go to a link-local address.
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def application_default(google: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account's key as the host's application-default credentials."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = tmp_path / "adc.json"
    content = {**KEY, "private_key": pem.decode(), "token_uri": f"{google.url}/token"}
    file.write_text(json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    return file


def registry(**options: Any) -> GcpRegistry:
    return GcpRegistry.model_validate({"name": "prod", "uri": "gcr.io/my-acme", **options})


def secret_of(of: GcpRegistry) -> tuple[str, str]:
    found = of.credentials()
    assert found is not None
    return found.username, found.password.get_secret_value()


@pytest.mark.parametrize(
    "uri",
    [
        "gcr.io/my-acme",
        "eu.gcr.io/my-acme/team",
        "asia.gcr.io/example.com/my-acme",
        "europe-west3-docker.pkg.dev/my-acme/images",
        "us-docker.pkg.dev/my-acme/images/team",
        "northamerica-northeast1-docker.pkg.dev/example.com/my-acme/images",
    ],
)
def test_hosts_of_both_registries_are_taken_with_their_project(uri: str) -> None:
    assert registry(uri=uri).uri == uri


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("my-acme/x", ("my-acme", "x")),
        ("example.com/my-acme/x/y", ("example.com/my-acme", "x/y")),
        ("example.com", ("", "")),
        ("short", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_project_may_belong_to_an_organisation(path: str, right: tuple[str, str]) -> None:
    assert split_project(path) == right


def test_an_image_needs_a_name_below_the_repository() -> None:
    with pytest.raises(PrepareFailed, match=r"write gcr\.io/my-acme/NAME:1"):
        registry().prepare_image_push("gcr.io/my-acme:1")


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"username": "robot", "password": "x"}, "is none of Google's; known: oauth2accesstoken"),
        ({"username": "_json_kee", "password": "x"}, "did you mean '_json_key'"),
        ({"username": "_json_key"}, "password is missing"),
        ({"password": "x"}, "username is missing"),
    ],
)
def test_user_names_are_googles_three(options: dict[str, Any], right: str) -> None:
    with pytest.raises(ValidationError) as caught:
        registry(**options)
    assert right in str(caught.value)


def test_a_key_is_checked_and_handed_on_as_it_is() -> None:
    text = json.dumps(KEY)
    assert secret_of(registry(username="_json_key", password=text)) == ("_json_key", text)
    encoded = base64.encodebytes(text.encode()).decode()
    user = "_json_key_base64"
    assert secret_of(registry(username=user, password=encoded)) == (user, encoded)


@pytest.mark.parametrize(
    ("user", "key", "right"),
    [
        ("_json_key", "hunter22", "it must be the JSON file's content"),
        ("_json_key", "[]", "it has no type and no client_email and no private_key"),
        ("_json_key", '{"type": "x", "client_email": "hunter22"}', "it has no private_key"),
        ("_json_key_base64", json.dumps(KEY), "it must be base64 of the JSON file"),
        ("_json_key_base64", "aHVudGVyMjI=", "it must be base64 of the JSON file"),
    ],
)
def test_what_is_no_key_is_told_before_google_is_asked(user: str, key: str, right: str) -> None:
    with pytest.raises(CredentialsMissing, match=right) as caught:
        registry(username=user, password=key).credentials()
    assert "hunter22" not in caught.value.message


@pytest.mark.usefixtures("application_default")
def test_without_a_login_the_hosts_credentials_give_an_access_token_that_is_shared(
    google: FakeCloud,
) -> None:
    google.answers["/token"] = Reply(body={"access_token": "ya29.first", "expires_in": 3600})
    assert secret_of(registry()) == ("oauth2accesstoken", "ya29.first")
    assert secret_of(registry(name="other", username="oauth2accesstoken"))[1] == "ya29.first"
    assert len(google.asked) == 1
    found = registry().credentials()
    assert found is not None
    assert found.expires_at is not None
    assert timedelta(minutes=50) < found.expires_at - datetime.now(UTC) <= timedelta(hours=1)


@pytest.mark.usefixtures("application_default")
def test_an_access_token_near_its_end_is_replaced(google: FakeCloud) -> None:
    google.answers["/token"] = Reply(body={"access_token": "ya29.first", "expires_in": 240})
    assert secret_of(registry())[1] == "ya29.first"
    google.answers["/token"] = Reply(body={"access_token": "ya29.second", "expires_in": 3600})
    assert secret_of(registry())[1] == "ya29.second"


@pytest.mark.usefixtures("application_default")
def test_a_refusal_of_google_is_final_and_an_outage_is_not(
    google: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.answers["/token"] = Reply(
        400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    )
    with pytest.raises(Denied, match="Invalid JWT Signature"):
        registry().credentials()
    # google-auth waits between its own tries.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    google.answers["/token"] = Reply(503, {"error": "backend"})
    with pytest.raises(CloudUnavailable):
        registry().credentials()


def test_a_host_without_credentials_says_what_would_bring_them() -> None:
    with pytest.raises(CredentialsMissing, match="set GOOGLE_APPLICATION_CREDENTIALS"):
        registry().credentials()


def test_a_missing_sdk_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "google.auth", None)
    with pytest.raises(PrepareFailed, match=r"needs the extra 'gcp' .*hint: .*gcp.*\]'"):
        registry().credentials()
