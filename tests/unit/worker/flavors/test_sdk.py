"""Vendors' libraries and the proxies that the environment names."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from transship.errors import PrepareFailed
from transship_config.errors import InvalidSettings
from transship_worker.flavors import sdk
from transship_worker.flavors.aws.client import Clients, Endpoint, Identity
from transship_worker.flavors.gcp import GcpRegistry
from transship_worker.flavors.web import Api

URL = "https://oauth2.googleapis.com/token"
ECR = Endpoint("eu-central-1")


@pytest.fixture(autouse=True)
def no_proxy_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_library_that_speaks_no_socks_is_not_asked_to_go_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sdk.check_proxy("google-auth", URL)
    monkeypatch.setenv("ALL_PROXY", "socks5h://me:hunter22@proxy:1080")
    monkeypatch.setattr(sdk, "installed", lambda _: False)
    with pytest.raises(PrepareFailed) as caught:
        sdk.check_proxy("google-auth", URL)
    assert caught.value.message == (
        "ALL_PROXY names a proxy for oauth2.googleapis.com, and google-auth speaks no SOCKS; set "
        "https_proxy to an HTTP proxy, or add oauth2.googleapis.com to no_proxy"
    )
    with pytest.raises(PrepareFailed, match="requests speaks no SOCKS"):
        Api("Docker Hub", "https://hub.docker.com").ask("https://hub.docker.com/v2/", about="x")
    # With PySocks they speak it.
    monkeypatch.setattr(sdk, "installed", lambda _: True)
    sdk.check_proxy("google-auth", URL)
    monkeypatch.setattr(sdk, "installed", lambda _: False)
    monkeypatch.setenv("NO_PROXY", "googleapis.com")
    sdk.check_proxy("google-auth", URL)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ALL_PROXY", "socks5h://proxy", "boto3 speaks no SOCKS"),
        ("https_proxy", "socks5://proxy", "boto3 speaks no SOCKS"),
        ("all_proxy", "http://proxy:3128", "boto3 does not read this variable"),
    ],
)
def test_boto3_is_not_used_past_a_proxy(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    identity = Identity("AKIA0000", "secret")
    with pytest.raises(PrepareFailed, match=reason) as caught:
        Clients("prod").ecr(identity, ECR)
    assert "api.ecr.eu-central-1.amazonaws.com to no_proxy" in caught.value.message
    role = Identity("AKIA0000", "secret", role_arn="arn:aws:iam::123456789012:role/x")
    monkeypatch.setenv("NO_PROXY", "ecr.eu-central-1.amazonaws.com")
    with pytest.raises(PrepareFailed, match="a proxy for sts"):
        Clients("prod").ecr(role, ECR)
    monkeypatch.setenv("NO_PROXY", ".amazonaws.com")
    Clients("prod").ecr(identity, ECR)


def test_boto3_uses_an_http_proxy_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5h://other")
    Clients("prod").ecr(Identity("AKIA0000", "secret"), ECR)
    monkeypatch.setenv("HTTPS_PROXY", "quic://proxy")
    with pytest.raises(InvalidSettings, match="the kind 'quic'"):
        Clients("prod").ecr(Identity("AKIA0000", "secret"), ECR)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "https_proxy"])
def test_google_auth_names_the_proxy_that_it_cannot_use(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "socks5h://me:hunter22@127.0.0.1:1")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = {
        "type": "service_account",
        "client_email": "me@my-project.iam.gserviceaccount.com",
        "private_key": pem,
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    component = GcpRegistry.model_validate(
        {
            "name": "g",
            "uri": "gcr.io/my-project",
            "username": "_json_key",
            "password": json.dumps(key),
        }
    )
    login = component.credentials()
    assert login is not None
    with pytest.raises(PrepareFailed, match="google-auth speaks no SOCKS") as caught:
        component._token_of_key(login)
    assert "hunter22" not in caught.value.message
