"""The ``azure`` flavor: login servers, and the token exchange with a fake of Azure."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.scripted_servers.cloud_tokens import Asked, FakeCloud, Reply
from transship.errors import CloudUnavailable, CredentialsMissing, Denied, PrepareFailed, PushError
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.azure import NULL_GUID_USER, AzureRegistry, expiry


def jwt(**claims: Any) -> str:
    """A token in form only; nobody here checks its signature."""
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".sig"


REFRESH = jwt(exp=int(time.time()) + 3 * 3600)


class Redirected(AzureRegistry):
    """The flavor with its one call sent to the fake; all else is as it is."""

    FLAVOR: ClassVar[str] = "azure-in-tests"
    exchange: str = ""

    def exchange_url(self) -> str:
        return self.exchange


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeCloud]:
    """The fake, which also is the host's managed identity (as in App Service)."""
    cache = TokenCache(margin=timedelta(minutes=15))
    monkeypatch.setattr("transship_worker.flavors.azure._TOKENS", cache)
    with FakeCloud() as cloud:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{cloud.url}/msi")
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        cloud.answers["/msi"] = Reply(
            body={
                "access_token": "entra-token",
                "expires_on": str(int(time.time()) + 3600),
                "resource": "x",
                "token_type": "Bearer",
            }
        )
        cloud.answers["/oauth2/exchange"] = Reply(body={"refresh_token": REFRESH})
        yield cloud


def registry(cloud: FakeCloud, **options: Any) -> Redirected:
    values = {"name": "prod", "uri": "myregistry.azurecr.io", **options}
    return Redirected.model_validate({**values, "exchange": f"{cloud.url}/oauth2/exchange"})


def exchanges(cloud: FakeCloud) -> list[Asked]:
    return [asked for asked in cloud.asked if asked.path == "/oauth2/exchange"]


@pytest.mark.parametrize(
    "uri",
    [
        "myregistry.azurecr.io",
        "myregistry-a1b2c3.azurecr.io/team",
        "myregistry.azurecr.cn",
        "myregistry.azurecr.us/ml",
    ],
)
def test_login_servers_of_every_cloud_are_taken(uri: str) -> None:
    assert AzureRegistry(name="prod", uri=uri).uri == uri


def test_the_exchange_is_asked_of_the_registry_itself() -> None:
    made = AzureRegistry(name="prod", uri="myregistry.azurecr.io/ml")
    assert made.exchange_url() == "https://myregistry.azurecr.io/oauth2/exchange"


def test_the_hosts_identity_is_exchanged_for_a_login_that_is_shared(azure: FakeCloud) -> None:
    found = registry(azure, tenant_id="11111111-1111-1111-1111-111111111111").credentials()
    assert found is not None
    assert found.username == NULL_GUID_USER == "00000000-0000-0000-0000-000000000000"
    assert found.password.get_secret_value() == REFRESH
    assert found.expires_at == expiry(REFRESH)
    [asked] = exchanges(azure)
    assert asked.method == "POST"
    assert asked.fields == {
        "grant_type": "access_token",
        "service": "myregistry.azurecr.io",
        "access_token": "entra-token",
        "tenant": "11111111-1111-1111-1111-111111111111",
    }
    again = registry(azure, tenant_id="11111111-1111-1111-1111-111111111111", name="other")
    assert again.credentials() == found
    assert len(exchanges(azure)) == 1


@pytest.mark.parametrize(
    ("uri", "resource"),
    [
        ("myregistry.azurecr.io", "https://containerregistry.azure.net"),
        ("myregistry.azurecr.cn", "https://management.chinacloudapi.cn"),
        ("myregistry.azurecr.us", "https://management.usgovcloudapi.net"),
    ],
)
def test_each_cloud_has_its_own_audience(azure: FakeCloud, uri: str, resource: str) -> None:
    registry(azure, uri=uri).credentials()
    identities = [asked for asked in azure.asked if asked.path == "/msi"]
    assert [asked.fields["resource"] for asked in identities] == [resource]


def test_a_login_near_its_end_is_replaced(azure: FakeCloud) -> None:
    ending = jwt(exp=int(time.time()) + 600)
    azure.answers["/oauth2/exchange"] = Reply(body={"refresh_token": ending})
    registry(azure).credentials()
    azure.answers["/oauth2/exchange"] = Reply(body={"refresh_token": REFRESH})
    found = registry(azure).credentials()
    assert found is not None
    assert found.password.get_secret_value() == REFRESH


@pytest.mark.parametrize(
    ("reply", "kind", "right"),
    [
        (Reply(401, {"errors": [{"code": "UNAUTHORIZED"}]}), Denied, "give it the role AcrPush"),
        (Reply(403, {}), Denied, "AcrPush"),
        (Reply(429, {}, {"Retry-After": "17"}), CloudUnavailable, "with 429"),
        (Reply(500, b"<html>"), CloudUnavailable, "with 500"),
        (Reply(200, b"<html>"), PrepareFailed, "is it an Azure"),
        (Reply(200, {"refresh_token": ""}), PrepareFailed, "gave no refresh token"),
        (Reply(200, [1]), PrepareFailed, "gave no refresh token"),
        (Reply(302, {}, {"Location": "http://127.0.0.1:1/"}), PrepareFailed, "status 302"),
    ],
)
def test_a_refused_exchange_is_typed_and_a_redirect_gets_no_token(
    azure: FakeCloud, reply: Reply, kind: type[PushError], right: str
) -> None:
    azure.answers["/oauth2/exchange"] = reply
    with pytest.raises(kind, match=right) as caught:
        registry(azure).credentials()
    assert type(caught.value) is kind
    assert "entra-token" not in caught.value.message
    assert caught.value.retry_after_s == (17 if reply.status == 429 else None)
    assert len(exchanges(azure)) == 1


def test_a_registry_that_does_not_answer_may_be_asked_again(azure: FakeCloud) -> None:
    made = registry(azure).model_copy(update={"exchange": "http://127.0.0.1:1/oauth2/exchange"})
    with pytest.raises(CloudUnavailable, match="did not answer the token exchange"):
        made.credentials()


def test_an_answer_without_end_is_not_read_to_its_end(azure: FakeCloud) -> None:
    body = b'{"refresh_token": "' + b"x" * 1_000_000 + b'"}'
    azure.answers["/oauth2/exchange"] = Reply(200, body)
    with pytest.raises(PrepareFailed, match="gave no refresh token"):
        registry(azure).credentials()


def test_a_host_without_identity_says_what_would_bring_one(
    azure: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.answers["/msi"] = Reply(400, {"message": "no identity"})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CredentialsMissing, match="run az login, or set username and password"):
        registry(azure).credentials()


def test_a_missing_sdk_names_its_extra(azure: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "azure.core.exceptions", None)
    with pytest.raises(PrepareFailed, match=r"needs the extra 'azure' .*hint: .*azure\]'"):
        registry(azure).credentials()


@pytest.mark.parametrize("token", ["", "a.b.c", "a", jwt(), jwt(exp="soon"), jwt(exp=1e99)])
def test_a_token_that_says_nothing_of_its_end_has_none(token: str) -> None:
    assert expiry(token) is None


def test_the_end_of_a_token_is_read_in_utc() -> None:
    assert expiry(jwt(exp=1_700_000_000)) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
