"""The engine is looked for where the ``docker`` command looks for it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import missing
from transship_config.errors import UsageError
from transship_worker.transports.engine.endpoint import DEFAULT_URL, Endpoint, find_endpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ``DOCKER_CONFIG`` folder with two contexts, of which ``socket`` is the current one."""
    _context(tmp_path, "socket", {"Host": "unix:///run/other.sock"})
    _context(tmp_path, "far", {"Host": "tcp://build.lan:2376", "SkipTLSVerify": False})
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "socket"}))
    return tmp_path


def _context(folder: Path, name: str, endpoint: object) -> None:
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    text = json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}})
    (meta / "meta.json").write_text(text)


def _pem(folder: Path, *stems: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        (folder / f"{stem}.pem").write_text("a certificate")
    return folder


def test_without_anything_it_is_the_local_socket(tmp_path: Path) -> None:
    assert find_endpoint({"HOME": str(tmp_path)}) == Endpoint(DEFAULT_URL)


def test_docker_host_comes_before_every_context(folder: Path) -> None:
    environment = {
        "DOCKER_HOST": "unix:///run/mine.sock",
        "DOCKER_CONTEXT": "far",
        "DOCKER_CONFIG": str(folder),
    }
    assert find_endpoint(environment).url == "unix:///run/mine.sock"


def test_docker_context_comes_before_the_current_one(folder: Path) -> None:
    environment = {"DOCKER_CONTEXT": "far", "DOCKER_CONFIG": str(folder)}
    assert find_endpoint(environment).url == "tcp://build.lan:2376"


def test_the_current_context_comes_before_the_default(folder: Path) -> None:
    assert find_endpoint({"DOCKER_CONFIG": str(folder)}).url == "unix:///run/other.sock"


def test_the_config_folder_is_in_the_home_folder(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(folder, home / ".docker", ignore=shutil.ignore_patterns("home"))
    assert find_endpoint({"HOME": str(home)}).url == "unix:///run/other.sock"


def test_the_default_context_is_the_local_socket(folder: Path) -> None:
    environment = {"DOCKER_CONTEXT": "default", "DOCKER_CONFIG": str(folder)}
    assert find_endpoint(environment) == Endpoint(DEFAULT_URL)


def test_an_empty_variable_counts_as_unset(folder: Path) -> None:
    environment = {"DOCKER_HOST": "", "DOCKER_CONTEXT": "", "DOCKER_CONFIG": str(folder)}
    assert find_endpoint(environment).url == "unix:///run/other.sock"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"DOCKER_CONTEXT": "far"},
        {"DOCKER_CONTEXT": "default"},
        {"DOCKER_HOST": "unix:///run/mine.sock", "DOCKER_CONTEXT": "far"},
        {"DOCKER_HOST": "build.lan:99"},
        {"DOCKER_HOST": "tcp://build.lan"},
    ],
)
def test_the_docker_command_itself_goes_to_the_same_place(
    environment: dict[str, str], folder: Path
) -> None:
    docker = shutil.which("docker")
    if docker is None:
        missing("the docker command is not installed")
    environment = {"HOME": str(folder), "DOCKER_CONFIG": str(folder), **environment}
    # A context without TLS files would be reached without TLS; none of these answers.
    said = subprocess.run(
        [str(docker), "version"], env=environment, capture_output=True, text=True, timeout=60
    )
    url = find_endpoint(environment).url
    assert url in said.stderr or url.removeprefix("tcp://").partition(":")[0] in said.stderr


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("tcp://build.lan", "tcp://build.lan:2375"),
        ("tcp://build.lan:99", "tcp://build.lan:99"),
        ("build.lan:99", "tcp://build.lan:99"),
        ("tcp://[::1]:99/", "tcp://[::1]:99"),
        (" unix:///run/x.sock ", "unix:///run/x.sock"),
    ],
)
def test_an_address_is_completed_as_the_docker_command_does(host: str, url: str) -> None:
    assert find_endpoint({"DOCKER_HOST": host, "HOME": "/nowhere"}).url == url


def test_tls_needs_its_variables_and_takes_its_own_port(tmp_path: Path) -> None:
    certificates = _pem(tmp_path / "certs", "ca", "cert", "key")
    environment = {
        "DOCKER_HOST": "tcp://build.lan",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(certificates),
    }
    found = find_endpoint(environment)
    assert found.url == "tcp://build.lan:2376"
    assert found.tls is not None
    assert found.tls.verify
    assert found.tls.ca == certificates / "ca.pem"
    assert found.tls.certificate == certificates / "cert.pem"
    # The path alone turns nothing on, as with the docker command.
    assert find_endpoint({**environment, "DOCKER_TLS_VERIFY": ""}).tls is None


def test_tls_without_verification_needs_no_file(tmp_path: Path) -> None:
    environment = {"DOCKER_HOST": "tcp://build.lan", "DOCKER_TLS": "1", "HOME": str(tmp_path)}
    found = find_endpoint(environment)
    assert found.tls is not None
    assert not found.tls.verify


def test_a_contexts_tls_files_are_used(folder: Path) -> None:
    identity = hashlib.sha256(b"far").hexdigest()
    files = _pem(folder / "contexts" / "tls" / identity / "docker", "ca", "cert", "key")
    found = find_endpoint({"DOCKER_CONTEXT": "far", "DOCKER_CONFIG": str(folder)})
    assert found.tls is not None
    assert found.tls.verify
    assert found.tls.key == files / "key.pem"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DOCKER_HOST": "http://build.lan"}, "is not an engine's address; write unix://"),
        ({"DOCKER_HOST": "unix://"}, "is not an engine's address"),
        ({"DOCKER_HOST": "tcp://build.lan/path"}, "is not an engine's address"),
        ({"DOCKER_HOST": "tcp://build.lan:banana"}, "has a bad host or port"),
        ({"DOCKER_CONTEXT": "nope"}, "DOCKER_CONTEXT=nope: there is no such context"),
        (
            {"DOCKER_HOST": "tcp://build.lan", "DOCKER_TLS_VERIFY": "1"},
            "DOCKER_TLS_VERIFY is set and .*ca.pem does not exist",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_what_would_be_right(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        find_endpoint({"HOME": str(tmp_path), **environment})
    assert "\n" not in caught.value.message


def test_a_password_in_docker_host_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a password") as caught:
        find_endpoint({"DOCKER_HOST": "tcp://me:s3cret@build.lan:1", "HOME": str(tmp_path)})
    assert "s3cret" not in caught.value.message


def test_ssh_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_worker.transports.engine.endpoint.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"hint: .* install .*paramiko"):
        find_endpoint({"DOCKER_HOST": "ssh://me@build.lan", "HOME": str(tmp_path)})


@pytest.mark.parametrize("text", ["not json", "[]", '{"currentContext": 3}'])
def test_a_broken_config_file_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        find_endpoint({"DOCKER_CONFIG": str(tmp_path)})
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("endpoint", [None, [], {}, {"Host": ""}])
def test_a_broken_context_is_one_line(endpoint: object, tmp_path: Path) -> None:
    _context(tmp_path, "bad", endpoint)
    with pytest.raises(UsageError, match="DOCKER_CONTEXT=bad") as caught:
        find_endpoint({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "bad"})
    assert "\n" not in caught.value.message
