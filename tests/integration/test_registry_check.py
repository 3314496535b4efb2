"""``transship registry check`` and ``prepare`` on a real engine and real registries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures import PASSWORD, USER
from tests.support.processes import free_port
from tests.support.scripted_servers.podman_socket import PodmanSocket
from tests.support.scripted_servers.registry import ScriptedRegistry, error
from tests.support.servers.registry import Registry
from transship.cli import main

pytestmark = [pytest.mark.engine, pytest.mark.registry]

Check = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def check(
    tmp_path: Path,
    docker_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Check:
    """Exit status and lines of a check of the one component that is given."""
    monkeypatch.setenv("DOCKER_HOST", docker_url)
    file = tmp_path / "catalog.yaml"

    def run(uri: str, *command: str, **options: Any) -> tuple[int, list[str]]:
        entry = {"flavor": "default", "uri": uri, **options}
        file.write_text(json.dumps({"registries": {"prod": entry}}))
        before = file.stat()
        words = command or ("check", "prod")
        status = main(["registry", *words, "--catalog", str(file)])
        captured = capsys.readouterr()
        assert file.stat().st_mtime_ns == before.st_mtime_ns
        assert PASSWORD not in captured.out + captured.err
        return status, (captured.out + captured.err).splitlines()

    return run


@pytest.fixture
def refusing() -> Iterator[ScriptedRegistry]:
    """Denies what does not exist, as some registries do, and takes any login."""
    with ScriptedRegistry() as registry:
        registry.script["* manifest"] = error(403, "DENIED", "requested access is denied")
        yield registry


def test_a_plain_registry_passes(check: Check, plain_registry: Registry) -> None:
    status, lines = check(plain_registry.address)
    assert [line.split()[:2] for line in lines] == [
        ["ok", "catalogue"],
        ["ok", "credentials"],
        ["ok", "engine"],
        ["ok", "settings"],
        ["ok", "registry"],
    ]
    assert lines[-1] == f"ok    registry     {plain_registry.address} answers"
    assert status == 0


def test_the_right_login_passes_and_is_not_shown(check: Check, basic_registry: Registry) -> None:
    status, lines = check(basic_registry.address, username=USER, password=PASSWORD)
    assert status == 0
    assert f"ok    credentials  user {USER}" in lines


def test_a_login_for_a_registry_with_tokens_passes(check: Check, token_registry: Registry) -> None:
    status, lines = check(token_registry.address, username=USER, password=PASSWORD)
    assert (status, lines[-1].split()[:2]) == (0, ["ok", "registry"])


@pytest.mark.parametrize("login", [{}, {"username": USER, "password": "wrong"}])
def test_no_login_and_a_wrong_one_fail_at_the_registry(
    check: Check, basic_registry: Registry, login: dict[str, str]
) -> None:
    status, lines = check(basic_registry.address, **login)
    assert status == 1
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["registry"]
    assert basic_registry.address in lines[-1]


def test_a_registry_that_denies_what_is_not_there_is_asked_for_the_login_alone(
    check: Check, refusing: ScriptedRegistry
) -> None:
    status, lines = check(refusing.address, username=USER, password=PASSWORD)
    assert status == 0
    assert lines[-1] == (
        f"ok    registry     {refusing.address} accepts the login; what it may push shows with "
        "the first push"
    )


def test_a_registry_that_is_not_there_fails(check: Check) -> None:
    address = f"127.0.0.1:{free_port()}"
    status, lines = check(address)
    assert status == 1
    assert lines[-1].startswith("FAIL  registry")
    assert address in lines[-1]


@pytest.mark.parametrize("right", [True, False])
def test_an_engine_that_cannot_ask_registries_does_not_hide_a_wrong_login(
    check: Check, basic_registry: Registry, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    password = PASSWORD if right else "wrong"
    with PodmanSocket() as podman:
        monkeypatch.setenv("DOCKER_HOST", podman.url)
        status, lines = check(basic_registry.address, username=USER, password=password)
    assert status == (0 if right else 1)
    verdict = "ok" if right else "FAIL"
    assert [line.split()[0] for line in lines if line.split()[1] == "registry"] == [verdict]
    assert any("Podman 5.8.6 (API 1.44, containers/storage, overlay)" in line for line in lines)
    assert not [path for path in podman.asked if path.startswith("/distribution")]


def test_a_registry_can_be_asked_without_an_engine(
    check: Check, token_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    login = {"username": USER, "password": PASSWORD}

    status, lines = check(token_registry.address, **login)
    assert status == 1
    assert "--no-engine asks it as copies do" in lines[-1]

    words = ("check", "prod", "--no-engine")
    status, lines = check(token_registry.address, *words, **login)
    assert (status, lines[-1]) == (
        0,
        f"ok    registry     {token_registry.address} answers, without an engine",
    )
    status, lines = check(token_registry.address, *words, **login | {"password": "wrong"})
    assert (status, lines[-1].split()[:2]) == (1, ["FAIL", "registry"])


def test_a_setting_that_the_engine_lacks_is_named_by_check_and_by_prepare(check: Check) -> None:
    uri = "registry.example.invalid:5000/ml"
    status, lines = check(uri, insecure=True)
    assert status == 1
    [settings] = [line for line in lines if line.startswith("FAIL  settings")]
    assert "does not list registry.example.invalid:5000 under insecure-registries" in settings
    status, lines = check(uri, "prepare", "prod", f"{uri}/x:1", insecure=True)
    assert status == 1
    assert "insecure-registries" in lines[-1]


def test_a_ca_file_that_holds_none_is_named(
    check: Check, plain_registry: Registry, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    status, lines = check(plain_registry.address, ca=str(empty))
    assert status == 1
    assert any(f"CA {empty} cannot be read" in line for line in lines)
