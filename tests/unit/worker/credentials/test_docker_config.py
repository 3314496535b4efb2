"""The host's Docker logins, for components that say ``credentials: docker-config``."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from transship.errors import CredentialsMissing
from transship_worker.credentials.docker_config import IDENTITY_USER
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.flavors.dockerhub import DockerHubRegistry


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Docker configuration folder of the test's own."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


def encoded(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def registry(uri: str = "registry.example.com:5000/ml", **options: Any) -> DefaultRegistry:
    options.setdefault("credentials", "docker-config")
    return DefaultRegistry(name="prod", uri=uri, **options)


def login(of: DefaultRegistry | DockerHubRegistry) -> tuple[str, str]:
    found = of.credentials()
    assert found is not None
    return found.username, found.password.get_secret_value()


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """A credential helper on the PATH: a shell script."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread key\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_hosts_logins_are_not_looked_at_unless_the_component_says_so(config: Path) -> None:
    config.write_text("not even JSON")
    assert DefaultRegistry(name="prod", uri="registry.example.com:5000/ml").credentials() is None


def test_a_login_in_the_file_is_found_by_host_and_port(config: Path) -> None:
    config.write_text(
        json.dumps(
            {
                "auths": {
                    "registry.example.com": {"auth": encoded("other", "no")},
                    "registry.example.com:5000": {"auth": encoded("me", "pass:with:colons")},
                }
            }
        )
    )
    assert login(registry()) == ("me", "pass:with:colons")


def test_an_old_entry_that_is_a_url_is_found(config: Path) -> None:
    entry = {"auth": encoded("a", "b")}
    key = "https://registry.example.com:5000/v1/"
    config.write_text(json.dumps({"auths": {key: entry}}))
    assert login(registry()) == ("a", "b")


def test_an_identity_token_is_marked_as_one(config: Path) -> None:
    entry = {"auth": encoded("me", ""), "identitytoken": "refresh-me"}
    config.write_text(json.dumps({"auths": {"registry.example.com:5000": entry}}))
    assert login(registry()) == (IDENTITY_USER, "refresh-me")


def test_docker_hubs_login_stands_under_its_old_url(config: Path) -> None:
    config.write_text(
        json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": encoded("acme", "pat")}}})
    )
    hub = DockerHubRegistry(name="hub", uri="docker.io/acme", credentials="docker-config")
    assert login(hub) == ("acme", "pat")


def test_the_helper_of_the_registry_comes_before_the_store_and_that_before_the_file(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        secret = f'{{\\"Username\\":\\"{name}\\",\\"Secret\\":\\"for $key\\"}}'
        helper(tmp_path, monkeypatch, name, f'[ "$1" = get ] && echo "{secret}"')
    content: dict[str, Any] = {
        "auths": {"registry.example.com:5000": {"auth": encoded("file", "x")}},
        "credsStore": "two",
        "credHelpers": {"registry.example.com:5000": "one"},
    }
    config.write_text(json.dumps(content))
    assert login(registry()) == ("one", "for registry.example.com:5000")
    del content["credHelpers"]
    config.write_text(json.dumps(content))
    assert login(registry()) == ("two", "for registry.example.com:5000")
    hub = DockerHubRegistry(name="hub", uri="docker.io", credentials="docker-config")
    assert login(hub) == ("two", "for https://index.docker.io/v1/")


def test_a_helper_without_a_login_leaves_the_file_to_answer(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "echo credentials not found in native keychain; exit 1"
    helper(tmp_path, monkeypatch, "empty", said)
    content: dict[str, Any] = {
        "auths": {"registry.example.com:5000": {"auth": encoded("file", "x")}},
        "credsStore": "empty",
    }
    config.write_text(json.dumps(content))
    assert login(registry()) == ("file", "x")
    # What docker writes when a store has the login.
    content["auths"] = {"registry.example.com:5000": {}}
    config.write_text(json.dumps(content))
    with pytest.raises(CredentialsMissing, match=r"has no login for registry\.example\.com:5000"):
        registry().credentials()


@pytest.mark.parametrize(
    ("script", "right"),
    [
        ("echo hunter22; exit 3", "docker-credential-broken failed with status 3"),
        ("echo hunter22", "docker-credential-broken gave no login that can be read"),
    ],
)
def test_a_helper_that_fails_is_named_and_not_quoted(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, right: str
) -> None:
    helper(tmp_path, monkeypatch, "broken", script)
    config.write_text(json.dumps({"credsStore": "broken"}))
    with pytest.raises(CredentialsMissing, match=right) as caught:
        registry().credentials()
    assert "component 'prod' says credentials: docker-config" in caught.value.message
    assert "hunter22" not in caught.value.message


def test_a_helper_that_never_answers_is_given_up(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_worker.credentials.docker_config.HELPER_TIMEOUT_S", 0.2)
    helper(tmp_path, monkeypatch, "asleep", "exec sleep 60")
    config.write_text(json.dumps({"credsStore": "asleep"}))
    with pytest.raises(CredentialsMissing, match=r"gave no answer in 0\.2 s"):
        registry().credentials()


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (None, "has no login for registry.example.com:5000; run: docker login registry"),
        ("hunter22", "config.json is not valid JSON"),
        ("[]", "must hold a JSON object"),
        ('{"auths": {"registry.example.com:5000": {"auth": "hunter22"}}}', "cannot be read"),
        ('{"credsStore": "absent"}', "docker-credential-absent is not on the PATH"),
    ],
)
def test_what_cannot_be_used_is_told_without_being_shown(
    config: Path, content: str | None, right: str
) -> None:
    if content is not None:
        config.write_text(content)
    with pytest.raises(CredentialsMissing, match=right) as caught:
        registry().credentials()
    assert "hunter22" not in caught.value.message


def test_a_helper_does_not_learn_where_the_queue_is(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_URL", "redis://:planted-redis-pw@h/0")
    monkeypatch.setenv("HELPER_SETTING", "kept")
    told = '{"Username": "u", "Secret": "%s"}'
    script = f"printf '{told}' \"${{HELPER_SETTING}}${{TRANSSHIP_URL:-,none}}\""
    helper(tmp_path, monkeypatch, "curious", script)
    config.write_text(json.dumps({"credsStore": "curious"}))
    assert login(registry()) == ("u", "kept,none")
