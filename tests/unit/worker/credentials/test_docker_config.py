"""The host's Docker logins, for components that say ``credentials: docker-config``."""

from __future__ import annotations

import base64
import json
import os
import time
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
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


def entries(logins: dict[str, str]) -> dict[str, Any]:
    """Entries of a file, of logins written ``user:password``."""
    return {
        key: {"auth": base64.b64encode(login.encode()).decode()} for key, login in logins.items()
    }


def write(file: Path, logins: dict[str, str], **more: Any) -> None:
    """A file of logins, with its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"auths": entries(logins), **more}))


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


H = "registry.example.com:5000"


@pytest.mark.parametrize(
    ("uri", "logins", "user"),
    [
        # containers-auth.json(5): the longest path, by whole segments, else the registry.
        (f"{H}/app", {f"{H}/other": "x:y", H: "u:p"}, "u"),
        (f"{H}/app", {f"{H}/other": "x:y", H: "u:p", f"{H}/app": "a:b"}, "a"),
        (f"{H}/app/deep", {H: "u:p", f"{H}/app": "a:b", f"{H}/app/deep/er": "no:no"}, "a"),
        (f"{H}/app/deep", {f"{H}/app/deep": "d:e", f"{H}/app": "a:b"}, "d"),
        (f"{H}/apple", {f"{H}/app": "a:b", H: "u:p"}, "u"),
        (H, {f"{H}/app": "a:b", H: "u:p"}, "u"),
        # An empty entry is a mark of a credential helper.
        (f"{H}/app", {f"{H}/app": "", H: "u:p"}, "u"),
        # The host itself before URLs of it, https before http.
        (f"{H}/app", {f"http://{H}/v1/": "old:old", H: "u:p"}, "u"),
        (f"{H}/app", {f"https://{H}/v1/": "old:old", H: "u:p"}, "u"),
        (f"{H}/app", {f"http://{H}/v1/": "old:old", f"https://{H}": "new:new"}, "new"),
        (f"{H}/app", {f"{H}/v1/": "old:old"}, "old"),
        # A URL is one of the whole registry, whatever its path.
        (f"{H}/app", {f"https://{H}/other": "x:y"}, "x"),
        # Docker Hub has several names.
        ("docker.io/acme", {"https://index.docker.io/v1/": "h:h"}, "h"),
        ("docker.io/acme", {"docker.io": "h:h"}, "h"),
        ("docker.io/acme", {"index.docker.io": "h:h"}, "h"),
        ("docker.io/acme", {"https://registry-1.docker.io": "h:h"}, "h"),
        ("docker.io/acme", {"docker.io/acme": "a:b", "https://index.docker.io/v1/": "h:h"}, "a"),
        ("docker.io/acme", {"docker.io": "d:d", "https://index.docker.io/v1/": "h:h"}, "d"),
    ],
)
def test_the_login_of_the_longest_path_counts(
    config: Path, uri: str, logins: dict[str, str], user: str
) -> None:
    content = entries({key: text for key, text in logins.items() if text})
    content |= {key: {} for key, text in logins.items() if not text}
    # In the order of the case, and the other way round: the order in the file says nothing.
    for names in (list(logins), list(reversed(logins))):
        config.write_text(json.dumps({"auths": {name: content[name] for name in names}}))
        assert login(registry(uri))[0] == user


def test_a_component_whose_registry_has_logins_of_paths_alone_is_told_of_them(config: Path) -> None:
    write(config, {f"{H}/app": "a:hunter22", f"{H}/other": "x:y"})
    with pytest.raises(CredentialsMissing) as caught:
        registry(H).credentials()
    assert caught.value.message == (
        f"component 'prod' says credentials: docker-config, but this host has no login for {H}, "
        f"only for paths below it ({H}/app, {H}/other); set uri: to such a path"
    )


def test_files_are_read_in_the_order_of_containers_image(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_CONFIG")
    files = [
        tmp_path / "run/containers/auth.json",
        tmp_path / ".config/containers/auth.json",
        tmp_path / ".docker/config.json",
    ]
    # From the last to the first: each comes before those that are there already.
    for number, file in reversed(list(enumerate(files))):
        write(file, {H: f"user{number}:p"})
        assert login(registry())[0] == f"user{number}"
    # A file without a login of this registry leaves it to the next.
    write(files[0], {"other.example.com": "no:no"})
    assert login(registry())[0] == "user1"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert login(registry())[0] == "user2"
    # What a variable names comes first.
    monkeypatch.setenv("DOCKER_CONFIG", str(config.parent))
    write(files[0], {H: "podman:p"})
    assert login(registry())[0] == "podman"
    write(config, {H: "docker:p"})
    assert login(registry())[0] == "docker"
    named = tmp_path / "named.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    with pytest.raises(CredentialsMissing, match=rf"\(looked in {named}\)"):
        registry().credentials()
    write(named, {f"{H}/ml": "named:p"})
    assert login(registry())[0] == "named"


def test_a_login_of_a_path_comes_before_the_store_and_a_helper_before_both(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        secret = f'{{\\"Username\\":\\"{name}\\",\\"Secret\\":\\"for $key\\"}}'
        helper(tmp_path, monkeypatch, name, f'echo "{secret}"')
    write(config, {f"{H}/ml": "path:p", H: "host:p"}, credsStore="two")
    assert login(registry())[0] == "path"
    # A helper knows registries only, and is asked by the registry's name (containers/image).
    write(config, {f"{H}/ml": "path:p"}, credsStore="two", credHelpers={H: "one"})
    assert login(registry()) == ("one", f"for {H}")
    write(config, {}, credHelpers={"docker.io": "one"})
    hub = DockerHubRegistry(name="hub", uri="docker.io/acme", credentials="docker-config")
    assert login(hub) == ("one", "for docker.io")


def test_a_helper_that_writes_without_end_is_ended(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, "loud", "while :; do echo hunter22hunter22hunter22; done")
    config.write_text(json.dumps({"credsStore": "loud"}))
    with pytest.raises(CredentialsMissing, match="wrote more than 65536 bytes") as caught:
        registry().credentials()
    assert "hunter22" not in caught.value.message


def test_a_helper_whose_child_keeps_its_output_open_is_ended_with_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_worker.credentials.docker_config.HELPER_TIMEOUT_S", 0.5)
    pid = tmp_path / "pid"
    helper(tmp_path, monkeypatch, "forks", f"sleep 60 & echo $! >{pid}; exit 0")
    config.write_text(json.dumps({"credsStore": "forks"}))
    with pytest.raises(CredentialsMissing, match=r"gave no answer in 0\.5 s"):
        registry().credentials()
    child = int(pid.read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        # It is ended, and may wait for its status to be collected.
        if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize(
    ("content", "right"),
    [
        ({"auths": ["hunter22"]}, "config.json: auths must be a JSON object"),
        ({"credHelpers": "hunter22"}, "config.json: credHelpers must be a JSON object"),
        ({"auths": {H: "hunter22"}}, f"the login for {H} cannot be read: it must be a JSON object"),
        ({"auths": {f"{H}/ml": {"auth": "hunter22!"}}}, f"the login for {H} cannot be read; run"),
        ({"credsStore": ["hunter22"]}, "the name of a credential helper must be a text"),
        ({"credsStore": "../hunter"}, "is not on the PATH"),
    ],
)
def test_a_malformed_file_is_told_in_one_line(
    config: Path, content: dict[str, Any], right: str
) -> None:
    config.write_text(json.dumps(content))
    with pytest.raises(CredentialsMissing) as caught:
        registry().credentials()
    assert right in caught.value.message
    assert "hunter22" not in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_nests_too_deep_or_is_too_large_is_refused(config: Path) -> None:
    config.write_text("[" * 100_000)
    with pytest.raises(CredentialsMissing, match="is not valid JSON"):
        registry().credentials()
    config.write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(CredentialsMissing, match="is larger than 4194304 bytes"):
        registry().credentials()
