"""``transship accounts list`` and ``show``, on a Redis with the accounts that are shipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger.bench import Bench, push_request
from tests.support.servers.redis_accounts import GuardedRedis
from tests.support.workers.command_line import publish
from transship.cli import main
from transship.model.records import ErrorInfo
from transship_worker.catalog.file import Document
from transship_worker.catalog.model import build
from transship_worker.process.published_rights import PublishedRights

pytestmark = pytest.mark.redis

CATALOG = """\
registries:
  prod: {flavor: default, uri: registry.example.com}
  hub: {flavor: default, uri: docker.io}
accounts:
  team-a:
    push: ["prod/ml/**", prod/web]
    copy_from: [hub]
    limits: {queued: 5}
    weight: 3
    labels: {team: a}
  team-b: {}
  ci-gateway: {acts_for: [team-a, team-b]}
"""
NO_SECTION = CATALOG.partition("accounts:")[0]
REFUSED = ErrorInfo(code="not_allowed", message="account team-b may not", retryable=False)
HEAD = ["ACCOUNT", "PUSH", "COPY", "FROM", "COPY", "TO", "RUNNING", "QUEUED", "SHARE", "REFUSED"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Iterator[GuardedRedis]:
    with GuardedRedis() as server:
        yield server


@pytest.fixture
def admin(server: GuardedRedis) -> Iterator[Bench]:
    bench = Bench(server.url_of(), namespace="transship")
    with closing(bench.redis):
        yield bench


@pytest.fixture
def run(
    server: GuardedRedis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """``transship accounts …`` as one account: exit status, stdout, stderr."""

    def command(account: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("TRANSSHIP_URL", server.url_of(account))
        status = main(("accounts", *arguments))
        out, err = capsys.readouterr()
        return status, out, err

    return command


def live(bench: Bench, text: str, name: str = "transship@host.1") -> None:
    """A live worker with this catalog."""
    components = build(Document.parse(Path("/nowhere/catalog.yaml"), text))
    version = components.rights_version
    publish(bench, name, components=components.public(), rights_version=version)
    pipe = bench.redis.pipeline()
    PublishedRights(lambda: components, bench.keys).write(pipe)
    pipe.execute()


def busy(bench: Bench) -> None:
    """``team-a`` has one that runs and two that wait, ``team-b`` a refused one, a stranger one."""
    for tag in ("1", "2", "3"):
        job = bench.submit(push_request(tag), "team-a")
        if tag == "1":
            bench.claimed(job)
    refused = bench.submit(push_request("4"), "team-b")
    assert bench.claims.refuse(refused, push_request("4"), REFUSED).accepted
    bench.submit(push_request("5"), "stranger")


def objects(run: Run, account: str, *arguments: str) -> dict[str, dict[str, Any]]:
    status, out, _ = run(account, *arguments, "--json")
    assert status == 0
    return {one["name"]: one for one in map(json.loads, out.splitlines())}


def test_monitor_sees_all_accounts_with_rights_jobs_and_refusals(admin: Bench, run: Run) -> None:
    live(admin, CATALOG)
    busy(admin)

    found = objects(run, "monitor", "list")
    assert sorted(found) == ["ci-gateway", "stranger", "team-a", "team-b"]
    team_a = found["team-a"]
    assert team_a["rights"] == [
        {
            "push": ["prod/ml/**", "prod/web"],
            "copy_from": ["hub"],
            "copy_to": [],
            "limits": {"queued": 5, "running": None},
            "weight": 3,
            "labels": {"team": "a"},
            "acts_for": [],
        }
    ]
    assert (team_a["in_catalog"], team_a["running"], team_a["queued"]) == (True, 1, 2)
    # The stranger has a job, too; what has none would share with those that have some.
    assert (team_a["share"], found["stranger"]["share"]) == (0.75, 0.25)
    assert found["team-b"]["share"] == 0.2
    assert (found["team-b"]["refused"], team_a["refused"]) == ({"not_allowed": 1}, {})
    assert (found["stranger"]["in_catalog"], found["stranger"]["rights"]) == (False, [])

    status, out, err = run("monitor", "list")
    head, *rows = out.splitlines()
    assert (status, err, head.split()) == (0, "", HEAD)
    assert [row.split() for row in rows] == [
        ["ci-gateway", *["nothing"] * 3, "0", "0", "20%", "0"],
        ["stranger", *["nothing"] * 3, "0", "1", "25%", "0"],
        ["team-a", "prod/ml/**,", "prod/web", "hub", "nothing", "1", "2", "75%", "0"],
        ["team-b", *["nothing"] * 3, "0", "0", "20%", "1"],
    ]


def test_a_narrow_account_sees_itself_alone_and_says_so(admin: Bench, run: Run) -> None:
    live(admin, CATALOG)
    busy(admin)

    status, out, err = run("team-a", "list")
    (row,) = out.splitlines()[1:]
    assert row.split() == [
        "team-a",
        "prod/ml/**,",
        "prod/web",
        "hub",
        "nothing",
        "1",
        "2",
        "-",
        "0",
    ]
    assert (status, err) == (
        *(0, "transship: account team-a sees itself alone; `monitor` sees all accounts\n"),
    )
    (own,) = objects(run, "team-b", "show").values()
    assert (own["name"], own["in_catalog"], own["refused"]) == (
        *("team-b", True, {"not_allowed": 1}),
    )
    for name in ("team-a", "nobody"):
        assert run("team-b", "show", name) == (
            2,
            "",
            f"transship: account team-b may see its own rights and jobs, not those of {name}\n",
        )
    (missing,) = objects(run, "team-c", "show").values()
    assert (missing["in_catalog"], missing["rights"], missing["queued"]) == (None, [], 0)


def test_one_account_is_shown_in_full(admin: Bench, run: Run) -> None:
    live(admin, CATALOG)
    busy(admin)

    status, out, err = run("monitor", "show", "team-a")
    assert (status, err) == (0, "")
    fields = dict(line.split("  ", 1) for line in out.splitlines())
    assert {name: text.strip() for name, text in fields.items()} == {
        "account": "team-a",
        "in the catalogue": "yes",
        "push to": "prod/ml/**, prod/web",
        "copy from": "hub",
        "copy to": "nothing",
        "acts for": "-",
        "labels": "team=a",
        "weight": "3",
        "limit of queued": "5",
        "limit of running": "-",
        "running": "1",
        "queued": "2",
        "share": "75%",
        "refused": "0",
    }
    assert run("monitor", "show", "team-x")[2].startswith(
        "transship: no account 'team-x'; did you mean 'team-b'? known: ci-gateway, "
    )
    assert "no: it may do nothing" in run("monitor", "show", "stranger")[1]


def test_without_the_section_everything_is_allowed(admin: Bench, run: Run) -> None:
    live(admin, NO_SECTION)
    busy(admin)

    _, out, err = run("monitor", "list")
    rows = {row.split()[0]: row.split()[1:4] for row in out.splitlines()[1:]}
    assert rows == dict.fromkeys(("stranger", "team-a", "team-b"), ["everything"] * 3)
    said = "transship: no catalogue has the section accounts: every account may push and copy all\n"
    assert err == said
    assert "everything is allowed" in run("team-a", "show")[1]


def test_workers_that_differ_are_both_shown(admin: Bench, run: Run) -> None:
    live(admin, CATALOG)
    live(admin, CATALOG.replace("weight: 3", "weight: 4"), "transship@host.2")
    (found,) = objects(run, "team-a", "list").values()
    assert sorted(one["weight"] for one in found["rights"]) == [3, 4]
    assert run("team-a", "show")[1].count("weight") == 2
