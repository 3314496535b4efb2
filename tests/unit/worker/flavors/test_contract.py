"""What every flavor promises, one suite over all of them, the simplest custom one included."""

from __future__ import annotations

import ast
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from tests.support.flavors.minimal import DIGEST, Minimal, Recorder
from transship.errors import (
    CloudUnavailable,
    CredentialsMissing,
    Denied,
    InvalidReference,
    NotUnderRegistry,
    PushError,
)
from transship.model.references import ImageReference
from transship_worker import BaseContainerRegistry
from transship_worker.credentials.access import Access, Credentials
from transship_worker.flavors import BUILT_IN, built_in


@dataclass(frozen=True)
class Case:
    """How one flavor is tried."""

    kind: Callable[[], type[BaseContainerRegistry]]
    uri: str
    #: Images under the URI, and images that only look so.
    belonging: tuple[str, ...]
    foreign: tuple[str, ...]
    bad_uris: tuple[str, ...]
    #: A login that the flavor takes from the catalogue.
    login: tuple[str, str] = ("someone", "hunter22-secret")
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, **more: Any) -> BaseContainerRegistry:
        values = {"name": "prod", "uri": self.uri, **self.options, **more}
        return self.kind().model_validate(values)

    def with_login(self) -> BaseContainerRegistry:
        return self.make(username=self.login[0], password=self.login[1])


ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
CASES = {
    "default": Case(
        lambda: built_in("default"),
        "registry.example.com:5000/ml",
        ("registry.example.com:5000/ml/train:42", "registry.example.com:5000/ml/a/b"),
        ("registry.example.com:5000/ml-evil/x", "registry.example.com/ml/x", "train:42"),
        ("https://registry.example.com", "registry", "registry.example.com/ml:latest", ""),
    ),
    "dockerhub": Case(
        lambda: built_in("dockerhub"),
        "docker.io/acme",
        ("acme/train:42", "docker.io/acme/train", "index.docker.io/acme/train:1"),
        ("acme-evil/train", "train:42", "quay.io/acme/train"),
        ("quay.io/acme", "docker.io/acme/ml", "acme", "docker.io/library", "docker.io/-a"),
    ),
    "gcp": Case(
        lambda: built_in("gcp"),
        "gcr.io/my-acme",
        ("gcr.io/my-acme/train:42", "gcr.io/my-acme/a/b:1"),
        ("gcr.io/my-acme-evil/x", "eu.gcr.io/my-acme/x", "my-acme/x"),
        (
            "gcr.io",
            "gcr.io/x",
            "europe-docker.pkg.dev/my-acme",
            "evil-gcr.io/my-acme",
            "gcr.io.evil.com/my-acme",
            "docker.io/acme",
        ),
        login=("oauth2accesstoken", "hunter22-secret"),
    ),
    "azure": Case(
        lambda: built_in("azure"),
        "myregistry.azurecr.io/ml",
        ("myregistry.azurecr.io/ml/train:42",),
        ("myregistry.azurecr.io/mlx/train", "other.azurecr.io/ml/train", "ml/train"),
        ("azurecr.io", "my.azurecr.io", "myregistry.azurecr.io.evil.com", "myregistry.azurecr.com",
         "myregistry.azurecr.io:443"),
    ),
    "aws": Case(
        lambda: built_in("aws"),
        f"{ECR}/ml",
        (f"{ECR}/ml/train:42",),
        (f"{ECR}/mlx/train", f"{ECR.replace('eu', 'us')}/ml/train", "ml/train"),
        (
            "gallery.ecr.aws/acme",
            "12345.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.eu-central-1.evil.com",
            "ecr.eu-central-1.amazonaws.com",
        ),
        login=("AWS", "hunter22-secret"),
    ),
    "minimal": Case(
        lambda: Minimal,
        "registry.example.com/ml",
        ("registry.example.com/ml/train:42",),
        ("registry.example.com/mlx/train", "train:42"),
        ("https://registry.example.com",),
    ),
}  # fmt: skip


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def no_preparation(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a registry needs before a push is each flavor's own affair, tested there."""
    monkeypatch.setattr(case.kind(), "prepare_image_push", lambda self, image_name: None)


def test_the_suite_covers_every_built_in_flavor() -> None:
    # A folder has no login and takes no push; test_layout_flavor has what it promises.
    assert set(BUILT_IN) - {"layout"} == set(CASES) - {"minimal"}


def test_it_is_a_container_registry_with_the_name_of_the_table(case: Case) -> None:
    kind = case.kind()
    assert issubclass(kind, BaseContainerRegistry)
    assert kind.TYPE == "container_registry"
    assert next(name for name, other in CASES.items() if other is case) == kind.FLAVOR


def test_its_example_is_a_uri_that_it_takes(case: Case) -> None:
    example = case.kind().URI_EXAMPLE
    assert case.make(uri=example).uri == example


def test_trailing_slashes_of_the_uri_are_removed(case: Case) -> None:
    assert case.make(uri=f"{case.uri}//").uri == case.uri


def test_a_wrong_uri_is_refused_with_a_right_one(case: Case) -> None:
    for uri in case.bad_uris:
        with pytest.raises(ValidationError) as caught:
            case.make(uri=uri)
        message = str(caught.value)
        assert re.search(r"(write|for example|write for example) (uri: )?\S+", message), message


def test_it_requires_authentication_when_username_and_password_are_set(case: Case) -> None:
    assert case.make().requires_authentication is False
    assert case.with_login().requires_authentication is True


def test_it_takes_its_own_login_from_the_catalogue(case: Case) -> None:
    found = case.with_login().credentials()
    assert found is not None
    assert (found.username, found.password.get_secret_value()) == case.login


def test_a_secret_is_read_when_it_is_used_and_a_missing_one_is_named(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTRACT_PASSWORD", raising=False)
    registry = case.make(username=case.login[0], password={"env": "CONTRACT_PASSWORD"})
    with pytest.raises(CredentialsMissing) as caught:
        registry.credentials()
    assert "component 'prod'" in caught.value.message
    assert "password" in caught.value.message
    assert "CONTRACT_PASSWORD" in caught.value.message
    monkeypatch.setenv("CONTRACT_PASSWORD", "first")
    assert registry.credentials() == Credentials(case.login[0], SecretStr("first"))
    monkeypatch.setenv("CONTRACT_PASSWORD", "second")
    assert registry.credentials() == Credentials(case.login[0], SecretStr("second"))


def test_no_secret_is_shown(case: Case) -> None:
    registry = case.with_login()
    shown = f"{registry!r} {registry} {registry.model_dump_json()} {registry.credentials()!r}"
    assert case.login[1] not in shown
    with pytest.raises(ValidationError) as caught:
        case.make(username=case.login[0], password=case.login[1], nonsense=case.login[1])
    assert case.login[1] not in str(caught.value)


@pytest.mark.usefixtures("no_preparation")
def test_an_image_under_the_uri_is_handed_to_the_transport_with_login_and_access(
    case: Case,
) -> None:
    for name in case.belonging:
        transport = Recorder()
        registry = case.with_login()
        assert registry.push_image(name, transport=transport) == DIGEST
        [(image, credentials, access)] = transport.calls
        assert image == ImageReference.parse(name).tagged
        assert credentials is not None
        assert credentials.username == case.login[0]
        assert access == registry.access


def test_an_image_that_only_looks_as_if_it_belonged_is_a_value_error(case: Case) -> None:
    for name in case.foreign:
        transport = Recorder()
        with pytest.raises(NotUnderRegistry) as caught:
            case.make().push_image(name, transport=transport)
        assert isinstance(caught.value, ValueError)
        assert f"is not under {case.uri} (prod); write: transship push " in caught.value.message
        assert transport.calls == []


def test_the_error_for_a_foreign_image_shows_the_command_that_would_be_right() -> None:
    registry = CASES["minimal"].make()
    with pytest.raises(NotUnderRegistry) as caught:
        registry.push_image("train:42", transport=Recorder())
    assert caught.value.message == (
        "'train:42' means docker.io/library/train:42, which is not under registry.example.com/ml "
        "(prod); write: transship push registry.example.com/ml/train:42 --source train:42 "
        "--registry prod"
    )


def test_an_image_by_digest_cannot_be_pushed(case: Case) -> None:
    name = f"{ImageReference.parse(case.belonging[0]).name}@{DIGEST}"
    with pytest.raises(InvalidReference, match="a push needs a tag"):
        case.make().push_image(name, transport=Recorder())


@pytest.mark.parametrize("name", ["dockerhub", "gcp", "aws"])
def test_a_flavor_that_prepares_refuses_foreign_images_before_anything_is_asked(name: str) -> None:
    with pytest.raises(NotUnderRegistry):
        CASES[name].make().prepare_image_push(CASES[name].foreign[0])


@pytest.mark.parametrize("error", [ValueError("no scan for it"), KeyError("no scan for it")])
def test_what_preparing_raises_ends_the_push_with_that_message(
    case: Case, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: BaseContainerRegistry, image_name: str) -> None:
        raise error

    monkeypatch.setattr(case.kind(), "prepare_image_push", refuse)
    transport = Recorder()
    with pytest.raises(Exception, match="no scan for it") as caught:
        case.make().push_image(case.belonging[0], transport=transport)
    assert getattr(caught.value, "code", None) == "prepare_failed"
    assert getattr(caught.value, "retryable", None) is False
    assert transport.calls == []


def test_a_typed_error_of_preparing_stays_what_it_is(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: BaseContainerRegistry, image_name: str) -> None:
        raise CloudUnavailable("try later", retry_after_s=7)

    monkeypatch.setattr(case.kind(), "prepare_image_push", refuse)
    with pytest.raises(CloudUnavailable) as caught:
        case.make().push_image(case.belonging[0], transport=Recorder())
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("kind", [ValueError, Denied])
def test_a_secret_in_the_message_of_a_refusal_is_blotted_out(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
) -> None:
    def refuse(self: BaseContainerRegistry, image_name: str) -> None:
        raise kind(f"401 for https://u:{case.login[1]}@example.com")

    monkeypatch.setattr(case.kind(), "prepare_image_push", refuse)
    with (
        caplog.at_level(logging.DEBUG, logger="transship"),
        pytest.raises(PushError, match=r"401 for https://u:\*\*\*@example\.com"),
    ):
        case.with_login().push_image(case.belonging[0], transport=Recorder())
    assert case.login[1] not in caplog.text


def test_access_is_what_the_component_says(case: Case, tmp_path: Path) -> None:
    assert case.make().access == Access()
    assert case.make(insecure=True).access == Access(insecure=True)
    assert case.make(ca=str(tmp_path / "ca.pem")).access == Access(ca=tmp_path / "ca.pem")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    assert case.make(client_cert=str(certificate), client_key=str(key)).access == Access(
        client_cert=certificate, client_key=key
    )


def test_a_renewed_file_makes_another_access(case: Case, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("one")
    made = case.make(ca=str(ca))
    before = made.access
    assert made.access == before
    os.utime(ca, ns=(0, 0))
    assert made.access != before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"client_cert": "a.pem"}, "client_cert and client_key go together"),
        ({"client_key": "a.key"}, "client_cert and client_key go together"),
        ({"client_cert": "a", "client_key": "b", "insecure": True}, "name its authority with ca"),
    ],
)
def test_a_client_certificate_is_whole_and_for_a_registry_that_is_known(
    case: Case, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        case.make(**options)


def test_only_loopback_hosts_are_local() -> None:
    kind = built_in("default")
    for uri in ("localhost:5000", "127.0.0.1:5000/ml", "[::1]:5000", "registry.localhost:5000"):
        assert kind(name="a", uri=uri).is_local, uri
    for uri in ("registry.example.com", "10.0.0.1:5000", "localhost.example.com"):
        assert not kind(name="a", uri=uri).is_local, uri


def test_the_simplest_custom_flavor_rejects_one_image_and_lets_another_through() -> None:
    registry = CASES["minimal"].make(refuse="bad")
    transport = Recorder()
    with pytest.raises(Exception, match=r"registry\.example\.com/ml/bad:1 was not scanned"):
        registry.push_image("registry.example.com/ml/bad:1", transport=transport)
    assert registry.push_image("registry.example.com/ml/good:1", transport=transport) == DIGEST
    assert [str(image) for image, _, _ in transport.calls] == ["registry.example.com/ml/good:1"]


def test_without_a_transport_a_foreign_image_is_refused_before_the_engine_is_asked(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    for name in case.foreign:
        with pytest.raises(ValueError, match="is not under"):
            case.make().push_image(name)


def test_the_base_class_and_the_table_load_no_sdk() -> None:
    """Imported in a process of its own, where nothing else has loaded them."""
    script = (
        "import sys, json\n"
        "from transship_worker import BaseContainerRegistry\n"
        "from transship_worker.flavors import BUILT_IN, Flavors\n"
        "light = sorted(sys.modules)\n"
        "Flavors().rows()\n"
        "for name in BUILT_IN: Flavors().find(name)\n"
        "print(json.dumps([light, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    light, with_flavors = (set(names) for names in json.loads(done.stdout))
    assert not light & {"docker", "celery", "redis", "ruamel.yaml", "requests", "boto3"}
    assert not with_flavors & {"boto3", "botocore", "google.auth", "azure.identity", "docker"}


def test_no_flavor_imports_the_docker_sdk() -> None:
    """A flavor opens no Docker connection; that is a transport's work."""
    found = importlib.util.find_spec("transship_worker.flavors")
    assert found is not None
    assert found.submodule_search_locations is not None
    for file in Path(found.submodule_search_locations[0]).rglob("*.py"):
        names = {
            name
            for node in ast.walk(ast.parse(file.read_text()))
            for name in (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not {name for name in names if name.partition(".")[0] == "docker"}, file
