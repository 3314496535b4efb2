"""The hint that adds an extra repeats how and from what Transship was installed."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from transship.installation import Installation, extra_hint

GIT = {"vcs": "git", "commit_id": "c0ffee", "requested_revision": "v1"}


@dataclass(frozen=True)
class Environment:
    """An environment with folders of distributions as an installer would write them."""

    prefix: Path

    @property
    def installation(self) -> Installation:
        return Installation(self.prefix, str(self.prefix / "bin/python"), [str(self.site)])

    @property
    def site(self) -> Path:
        return self.prefix / "lib"

    def has(self, *names: str, direct_url: object = None) -> Environment:
        for name in names:
            folder = self.site / f"{name.replace('-', '_')}-1.0.dist-info"
            folder.mkdir(parents=True)
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            if direct_url:
                (folder / "direct_url.json").write_text(json.dumps(direct_url))
        return self

    def made_by(self, file: str, content: str = "") -> Environment:
        self.prefix.mkdir(exist_ok=True)
        (self.prefix / file).write_text(content)
        return self


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "transship")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    return folder


def of_folder(folder: Path, **info: bool) -> dict[str, Any]:
    return {"url": folder.as_uri(), "dir_info": info}


def test_a_pipx_environment_is_installed_again_from_the_same_checkout(
    environment: Environment, checkout: Path
) -> None:
    environment.has("transship", direct_url=of_folder(checkout)).made_by("pipx_metadata.json")
    hint = environment.installation.extra_hint("worker")
    assert hint == f"pipx install --force '{checkout}[worker]'"


def test_a_pipx_environment_for_all_users_or_with_a_suffix_is_told_apart(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment(tmp_path / "transship-next")
    environment.has("transship", direct_url=of_folder(checkout)).made_by("pipx_metadata.json")
    monkeypatch.setenv("PIPX_GLOBAL_HOME", str(tmp_path))
    hint = environment.installation.extra_hint("worker")
    assert hint == f"pipx install --force --global --suffix -next '{checkout}[worker]'"
    hint = environment.installation.library_hint("paramiko")
    assert hint == "pipx inject --global transship-next paramiko"


def test_a_uv_tool_is_installed_again_with_all_that_it_had(
    environment: Environment, checkout: Path
) -> None:
    environment.has("transship", direct_url=of_folder(checkout)).made_by(
        "uv-receipt.toml",
        "[tool]\nrequirements = [\n"
        "  {name = 'transship', directory = '/somewhere'},\n"
        "  {name = 'ours', specifier = '>=2'}, {name = 'docker', extras = ['ssh']},\n"
        "  {name = 'flavor', directory = '/src/flavor'}, {name = 'two', editable = '/src/two'},\n"
        "]\n",
    )
    more = "--with 'ours>=2' --with 'docker[ssh]' --with /src/flavor --with-editable /src/two"
    installation = environment.installation
    start = "uv tool install --force"
    assert installation.extra_hint("gcp") == f"{start} '{checkout}[gcp]' {more}"
    assert installation.library_hint("paramiko") == f"{start} '{checkout}' {more} --with paramiko"


@pytest.mark.parametrize("receipt", ["", "no toml", "[tool]\nrequirements = [{name = 'a', b = 1}]"])
def test_a_uv_tool_with_an_unknown_receipt_gets_no_command(
    receipt: str, environment: Environment, checkout: Path
) -> None:
    environment.has("transship", direct_url=of_folder(checkout)).made_by("uv-receipt.toml", receipt)
    hint = environment.installation.extra_hint("worker")
    assert hint == f"reinstall Transship in {environment.prefix} with the extra 'worker'"


def test_a_virtual_environment_is_named_by_its_python(
    environment: Environment, checkout: Path
) -> None:
    environment.has("transship", direct_url=of_folder(checkout))
    python = environment.installation.python
    hint = environment.installation.extra_hint("worker")
    assert hint == f"uv pip install --python {python} '{checkout}[worker]'"
    environment.has("pip")
    hint = environment.installation.extra_hint("worker")
    assert hint == f"{python} -m pip install '{checkout}[worker]'"
    hint = environment.installation.library_hint("paramiko")
    assert hint == f"{python} -m pip install paramiko"


def test_an_editable_checkout_stays_editable_with_the_extras_that_it_has(
    environment: Environment, checkout: Path
) -> None:
    environment.has("transship", direct_url=of_folder(checkout, editable=True))
    environment.has("pip", "docker", "google-auth")
    hint = environment.installation.extra_hint("azure")
    assert hint.endswith(f" -m pip install --editable '{checkout}[worker,gcp,azure]'")


@pytest.mark.parametrize(
    ("record", "source"),
    [
        (
            {"url": "https://git.example.com/transship", "vcs_info": GIT},
            "git+https://git.example.com/transship@v1",
        ),
        (
            {"url": "https://git.example.com/x", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "git+https://git.example.com/x@c0ffee",
        ),
        (
            {"url": "ssh://git@git.example.com/x", "vcs_info": GIT, "subdirectory": "a/b"},
            "git+ssh://git@git.example.com/x@v1#subdirectory=a/b",
        ),
        ({"url": "file:///srv/transship.git", "vcs_info": GIT}, "git+file:///srv/transship.git@v1"),
        (
            {"url": "https://example.com/transship-1.0.whl", "archive_info": {}},
            "https://example.com/transship-1.0.whl",
        ),
    ],
)
def test_a_repository_or_an_archive_is_named_with_its_address(
    record: dict[str, Any], source: str, environment: Environment
) -> None:
    environment.has("transship", direct_url=record).made_by("pipx_metadata.json")
    hint = environment.installation.extra_hint("worker")
    assert hint == f"pipx install --force 'transship[worker] @ {source}'"


@pytest.mark.parametrize(
    "url",
    [
        "https://S3CRET@git.example.com/x",
        "https://me:S3CRET@git.example.com/x",
        "https://git:S3CRET@git.example.com/x",
        "ssh://me:S3CRET@git.example.com/x",
        "https://me@S3CRET@git.example.com/x",
        "https://git.example.com/x?token=S3CRET",
    ],
)
@pytest.mark.parametrize("info", [{"vcs_info": GIT}, {"archive_info": {}}])
def test_the_login_in_an_address_is_not_repeated(
    url: str, info: dict[str, Any], environment: Environment
) -> None:
    environment.has("transship", direct_url={"url": url, **info})
    hint = environment.installation.extra_hint("worker")
    assert "S3CRET" not in hint
    assert "@git.example.com" not in hint


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {"url": 3},
        {"url": "file:///no/such/transship-1.0.whl", "archive_info": {}},
        {"url": "https://[git.example.com/x", "vcs_info": GIT},
        {"url": "https://git.example.com/x", "vcs_info": {"vcs": "git"}},
        {"url": "https://git.example.com/x", "vcs_info": {**GIT, "requested_revision": "a\x1b[1m"}},
    ],
)
def test_an_unknown_source_gets_no_command(record: object, environment: Environment) -> None:
    environment.has("transship", direct_url=record)
    hint = environment.installation.extra_hint("worker")
    assert hint == f"reinstall Transship in {environment.prefix} with the extra 'worker'"


def test_no_word_of_a_source_runs_as_a_command(environment: Environment) -> None:
    record = {"url": "https://git.example.com/x';reboot;'", "vcs_info": GIT}
    environment.has("transship", "pip", direct_url=record)
    words = shlex.split(environment.installation.extra_hint("worker"))
    assert words[-1] == "transship[worker] @ git+https://git.example.com/x';reboot;'@v1"


def test_the_running_installation_is_found() -> None:
    assert (
        "with the extra 'gcp'" in extra_hint("gcp") or "gcp" in shlex.split(extra_hint("gcp"))[-1]
    )
