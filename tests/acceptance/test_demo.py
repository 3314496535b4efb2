"""`./dev demo`, without its setting up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from tests.support.processes import program
from tests.support.repository import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.redis]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_demo_shows_one_digest_twice_and_cleans_up(
    tmp_path: Path, docker_url: str, docker_client: docker.DockerClient
) -> None:
    program("docker-registry")
    before = {image.id for image in docker_client.images.list()}
    done = run(
        sys.executable, "-m", "tests.demo", DOCKER_HOST=docker_url, TMPDIR=str(tmp_path)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    digests = re.findall(
        r"^(?:Transship's|the registry's own).*(sha256:\w{64})$", done.stdout, re.M
    )
    assert len(digests) == 2
    assert len(set(digests)) == 1
    assert list(tmp_path.iterdir()) == []
    assert {image.id for image in docker_client.images.list()} == before


def test_dev_says_what_it_can_do_and_refuses_the_rest() -> None:
    shown = run("./dev", "help")
    assert shown.returncode == 0
    assert "./dev COMMAND" in shown.stdout
    wrong = run("./dev", "tset")
    assert wrong.returncode == 2
    assert "no command 'tset'" in wrong.stderr
    extra = run("./dev", "lint", "everything")
    assert extra.returncode == 2
    assert "'lint' takes no arguments" in extra.stderr
