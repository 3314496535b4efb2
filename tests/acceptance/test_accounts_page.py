"""docs/accounts.md: its commands work as they stand there, with other addresses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.images.corpus import KIB, Corpus, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.processes import free_port
from tests.support.repository import ROOT
from tests.support.servers.redis import redis_binary
from tests.support.servers.redis_accounts import PASSWORDS, TEAMS, made
from tests.support.servers.registry import Registry

pytestmark = [pytest.mark.redis, pytest.mark.registry]

PAGE = (ROOT / "docs" / "accounts.md").read_text("utf-8")
#: Ends the output of each block.
END = "=== end of a block ==="


def section(title: str) -> str:
    """A section of the page."""
    return re.split(r"^## ", PAGE, flags=re.M)[
        [part.partition("\n")[0] for part in re.split(r"^## ", PAGE, flags=re.M)].index(title)
    ]


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of one kind."""
    return [str(one) for one in re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine's folder with the part of the repository that the page uses."""
    folder = tmp_path / "machine"
    shutil.copytree(ROOT / "config" / "redis", folder / "config" / "redis")
    (folder / "bin").mkdir()
    command = folder / "bin" / "transship"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m transship "$@"\n')
    command.chmod(0o755)
    (folder / "bin" / "redis-server").symlink_to(redis_binary())
    return folder


@pytest.fixture
def hub() -> Iterator[Registry]:
    """The registry that all teams copy from, with one image."""
    corpus = shared_layers(1, 1, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="page")
    image = replace(corpus.images[0], repository="base/python", tag="3")
    with Registry() as registry:
        fill(registry.base, Corpus("page", (image,)))
        yield registry


def run(folder: Path, script: str) -> list[str]:
    """The output of each block of a script, errors included."""
    kept = {
        key: text
        for key, text in os.environ.items()
        if not key.startswith(("TRANSSHIP_", "REDIS_", "XDG_"))
    }
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env=kept | {"HOME": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split(END)[:-1]


def test_three_teams_and_a_gateway_from_an_empty_machine(folder: Path, hub: Registry) -> None:
    text = section("Set up three teams and a gateway")
    with Registry() as prod:
        for old, new in (
            ("hub.example.com", hub.address),
            ("prod.example.com", prod.address),
            ("6379", str(free_port())),
        ):
            text = text.replace(old, new)
        (folder / "catalog.yaml").write_text(blocks(text, "yaml")[0])
        stop = "trap 'kill ${!:-} $(cat redis.pid 2>/dev/null) 2>/dev/null; wait' EXIT\n"
        found = run(folder, stop + "".join(f"{one}\necho '{END}'\n" for one in blocks(text, "sh")))

        digest = hub.digest("base/python", "3")
        assert prod.digest("ml/python", "3") == prod.digest("ml/nightly", "3") == digest
        assert prod.get("_catalog").json()["repositories"] == ["ml/nightly", "ml/python"]

    made_files, started, team_a, refused, team_b, gateway, not_for_c, monitor = found
    assert made_files == ""
    assert re.search(
        r"^ok +accounts +in Redis and not in the catalogue, .*: producer$", started, re.M
    )
    assert re.search(r"-team-a +succeeded .*/ml/python:3 +prod +team-a ", team_a)
    assert "only jobs of account team-a are listed" in team_a
    assert "exit status 2\n" in refused
    assert "prod/ml/**" in refused
    assert "no jobs\n" in team_b
    assert re.search(
        r"-ci-gateway +succeeded .*/ml/nightly:3 +prod +ci-gateway for team-a/ann ", gateway
    )
    assert "team-a " not in gateway.replace("for team-a/ann", "")
    assert "may not submit on behalf of team-c" in not_for_c
    assert "exit status 2\n" in not_for_c
    assert {"-team-a ", "-ci-gateway "} <= set(re.findall(r"-[a-z-]+ ", monitor))


def test_compose_loads_accounts_of_the_catalogue_without_variables(folder: Path) -> None:
    (folder / "catalog").mkdir()
    (folder / "catalog" / "catalog.yaml").write_text(blocks(PAGE, "yaml")[0])
    (script,) = blocks(section("With docker compose"), "sh")
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert "accounts.sh /etc/accounts/*.acl >" in compose

    run(folder, re.sub(r"^docker compose .*$", f"echo '{END}'", script, flags=re.M))

    users = "".join(one.read_text() for one in sorted((folder / "config/redis").glob("*.acl")))
    done = made(users, PASSWORDS)
    assert done.stderr == ""
    names = [line.split()[1] for line in done.stdout.splitlines()]
    assert sorted(names) == sorted(["default", *PASSWORDS, *TEAMS])


def test_the_page_names_every_key_of_the_section() -> None:
    from transship_worker.catalog import accounts

    keys = {*accounts._ACCOUNT_KEYS, *accounts._LIMITS}
    assert all(f"`{key}`" in section("Rights") for key in keys)
