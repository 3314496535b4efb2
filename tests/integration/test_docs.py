"""What the documents show works as it stands there: the custom flavor, the Redis accounts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from longshore import Client, Push, State
from longshore_config.settings import Settings
from tests.support.migrating import SPEC, row
from tests.support.processes import missing
from tests.support.redis import RedisServer

DOCS = Path(__file__).parents[2] / "docs"


def block(page: str, kind: str, number: int = 0) -> str:
    """A fenced block of a page."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.M | re.S)
    return str(found[number])


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """The folder of the documented flavor."""
    folder = tmp_path / "acme"
    package = folder / "acme_flavors"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "named.py").write_text(block("custom-flavors.md", "python"))
    (folder / "test_named.py").write_text(block("custom-flavors.md", "python", 1))
    return folder


def test_the_documented_flavor_passes_its_documented_test(acme: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_named.py"],
        cwd=acme,
        env=os.environ | {"PYTHONPATH": str(acme)},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout
    assert "4 passed" in run.stdout


def test_the_documented_commands_register_and_use_the_flavor(acme: Path, tmp_path: Path) -> None:
    commands = block("custom-flavors.md", "sh").replace("/opt/acme", str(acme))
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LONGSHORE_", "XDG_"))}
    program = f"longshore() {{ '{sys.executable}' -m longshore \"$@\"; }}\nset -e\n"

    run = subprocess.run(
        ["sh", "-c", program + commands],
        cwd=home,
        env=kept | {"HOME": str(home)},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    assert re.search(
        r"^acme-named +acme_flavors.named.NamedRegistry +custom +yes$", run.stdout, re.M
    )
    assert "vision/train:42 can be pushed to acme" in run.stdout
    written = next(home.rglob("catalog.yaml")).read_text()
    documented = block("custom-flavors.md", "yaml")
    for line in ("- acme_flavors.named.NamedRegistry", "flavor: acme-named"):
        assert line in documented
        assert line in written


def grant_documented_accounts(server: RedisServer, namespace: str = "longshore") -> None:
    """Make the accounts ``ci`` and ``worker`` of the document, with the password ``pw``."""
    with server.client() as admin:
        if int(admin.info("server")["redis_version"].split(".")[0]) < 7:
            missing("Redis 7.0 or newer is needed for the accounts of the document")
        text = block("operations.md", "acl").replace("PASSWORD", "pw")
        for line in text.replace("longshore:", f"{namespace}:").split("\n\n"):
            # What stands in parentheses is one word.
            words = re.findall(r"\([^)]*\)|\S+", line)
            admin.execute_command("ACL", "SETUSER", *words[1:])


def _migrate(client: Client, server: RedisServer) -> None:
    """All that a producer does with migrations; the test is the worker that plans one."""
    plan = client.plan(SPEC)
    with server.client() as worker:
        worker.rpush(f"longshore:from:ci:plan:{plan.id}", row(plan.id, 1).to_json())
    rows = plan.rows()
    taken = [next(rows)]
    rows.close()
    assert plan.record().state is State.CANCELLED
    run = client.migrate(taken)
    assert run.id.endswith("-ci")
    assert [one.id for one in client.migrations()] == [run.id, plan.id]
    assert run.report().images == ()
    assert run.cancel().state is State.CANCELLED
    assert run.retry().state is State.QUEUED


@pytest.mark.redis
def test_the_documented_account_can_do_a_producers_work_and_no_more() -> None:
    with RedisServer() as server:
        grant_documented_accounts(server)
        url = server.url_of("ci", "pw")
        with Client(settings=Settings.from_environment({"LONGSHORE_REDIS_URL": url})) as client:
            image = "registry.example.com/ml/train"
            job = client.push(f"{image}:1", registry="prod")
            client.push_many(Push(f"{image}:{n}", registry="prod", bulk=True) for n in range(9))
            assert job.id.endswith("-ci")
            assert len(client.jobs()) == 10
            assert job.cancel().state is State.CANCELLED
            assert job.retry().state is State.QUEUED
            assert client.fleet().workers == []
            copy = client.copy(f"{image}:1", f"{image}:2", source_registry="a", target_registry="b")
            assert copy.cancel().state is State.CANCELLED
            _migrate(client, server)

        with redis.Redis.from_url(url) as ci:
            for command in (
                ["HSET", f"longshore:job:{job.id}", "state", "succeeded"],
                ["EVAL", "return redis.call('HSET', 'longshore:job:x', 'state', 'x')", 0],
                ["ZADD", "longshore:leases", 1, job.id],
                ["SET", "longshore:from:other:request:x", "{}"],
                ["SET", "longshore:celery:push.*", "x"],
                ["DEL", "longshore:celery:push.*"],
                ["RPOP", "longshore:celery:push.*"],
                ["LPOP", "longshore:celery:plan.*"],
                ["RPUSH", "longshore:from:other:rows:x", "{}"],
                ["HSET", "longshore:migration:x", "complete", "1"],
                ["EXPIRE", "longshore:accounts", "1"],
                ["DEL", "longshore:accounts"],
                ["FLUSHALL"],
                ["KEYS", "*"],
            ):
                with pytest.raises(redis.ResponseError, match=r"permission|can't (run|access)"):
                    ci.execute_command(*command)
