"""Who submitted what, as people see it; and what a narrow account sees, and says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.support.ledger.bench import Bench, push_request
from tests.support.ledger.played_migration import SPEC
from tests.support.servers.redis_accounts import GuardedRedis
from tests.support.workers.command_line import publish
from transship import Client
from transship.cli import main
from transship.ledger import indexes
from transship.ledger.functions import Functions
from transship.ledger.keys import Keys
from transship.ledger.notifications import Bell
from transship.model.jobs import State
from transship.model.requests import parse_request
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

KEYS = Keys("transship")
VERSION = "0123456789abcdef"
IMAGE = "registry.example.com/ml/train"
SAID = "transship: only {} of account {} are listed: it may not read those of others\n"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Iterator[GuardedRedis]:
    with GuardedRedis() as server:
        with closing(server.as_account("worker")) as worker:
            Functions(worker, KEYS).load()
        yield server


@pytest.fixture
def run(
    server: GuardedRedis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """``transship ARGUMENTS`` as one account: exit status, stdout, stderr."""

    def command(account: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("TRANSSHIP_URL", server.url_of(account))
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return command


def client_of(server: GuardedRedis, account: str) -> Client:
    return Client(settings=Settings.from_environment({"TRANSSHIP_URL": server.url_of(account)}))


def submit(server: GuardedRedis, account: str, tag: str = "1") -> str:
    with client_of(server, account) as client:
        return client.push(f"{IMAGE}:{tag}", registry="prod").id


def findings(run: Run, account: str) -> dict[str, str]:
    """What ``doctor`` says of accounts: code → message."""
    _, out, _ = run(account, "doctor", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    return {one["code"]: one["message"] for one in found if one["check"] == "accounts"}


def have_rights(server: GuardedRedis, version: str, *accounts: str) -> None:
    """A worker publishes the rights of these accounts."""
    bench = Bench(server.url_of(), namespace="transship")
    with closing(bench.redis):
        publish(bench, rights_version=version)
        bench.redis.set(KEYS.rights_index(version), json.dumps(accounts))
        for account in accounts:
            rights = {"account": account, "push": ["prod/ml/**"], "copy_from": [], "copy_to": []}
            bench.redis.set(KEYS.rights(account, version), json.dumps(rights))


def test_a_narrow_account_lists_its_own_and_says_so(server: GuardedRedis, run: Run) -> None:
    theirs, mine = submit(server, "team-a"), submit(server, "team-b")
    with client_of(server, "team-a") as client:
        plan = client.plan(SPEC).id
    said = SAID.format("jobs", "team-b")

    status, out, err = run("team-b", "jobs")
    assert (status, err) == (0, said)
    assert mine in out
    assert theirs not in out
    status, out, err = run("team-b", "jobs", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [mine]
    assert err == said
    status, out, err = run("team-c", "migrate", "list")
    assert (status, out) == (0, "")
    assert err == f"transship: no migrations\n{SAID.format('migrations', 'team-c')}"

    status, out, err = run("monitor", "jobs")
    assert (status, err) == (0, "")
    assert {theirs, mine} <= set(out.split())
    assert "SUBMITTED BY" in out
    assert plan in run("monitor", "migrate", "list")[1]


@pytest.mark.parametrize(
    "command", [["status"], ["watch"], ["cancel"], ["retry"], ["migrate", "report"]]
)
def test_a_job_of_another_account_is_refused_in_one_line(
    server: GuardedRedis, run: Run, command: list[str]
) -> None:
    job = submit(server, "team-a")

    status, out, err = run("team-b", *command, job)
    assert (status, out) == (2, "")
    assert err == (
        f"transship: job {job} was submitted by account 'team-a'; account 'team-b' may not read "
        "it\n"
    )


def test_people_see_for_whom_a_gateway_submitted(server: GuardedRedis, run: Run) -> None:
    with client_of(server, "ci-gateway") as client:
        job = client.push(f"{IMAGE}:1", registry="prod", on_behalf_of="team-a/ann").id
    who = "ci-gateway for team-a/ann"

    assert f" by {who}\n" in run("ci-gateway", "status", job)[1]
    for account in ("ci-gateway", "monitor"):
        head, row = run(account, "jobs")[1].splitlines()
        assert row[head.index("SUBMITTED BY") :].startswith(who)
    (found,) = (json.loads(line) for line in run("monitor", "jobs", "--json")[1].splitlines())
    assert found["submitted_by"] == who
    assert found["on_behalf_of"] == {"account": "team-a", "subject": "ann"}


@pytest.mark.parametrize(
    ("account", "whom", "suffix"),
    [
        ("default", None, ""),
        ("team-a", None, " by team-a"),
        ("ci-gateway", "team-a", " by ci-gateway for team-a"),
        ("ci-gateway", "team-a/ann", " by ci-gateway for team-a/ann"),
    ],
)
def test_flower_shows_who_submitted_at_first_and_when_it_is_rung_again(
    redis_url: str, account: str, whom: str | None, suffix: str
) -> None:
    bench = Bench(redis_url)
    with closing(bench.redis):
        job = bench.submit(push_request(on_behalf_of=whom), account)
        request = parse_request(bench.claims.read(job).text)
        claim = bench.claims.claim(job, request, engine="e", flavor="default").claim
        assert claim is not None
        bench.claims.release(claim, "stops")

        shown = f"{IMAGE}:1 → prod{suffix}"
        assert Bell.of(job, request).display == shown
        assert bench.claims.queue_of(job) == ("push.*", shown)


def test_doctor_says_that_everything_is_allowed_without_the_section(
    server: GuardedRedis, run: Run
) -> None:
    have_rights(server, "")

    for account in ("team-a", "monitor", "admin"):
        assert findings(run, account) == {
            "everything_allowed": "no catalogue has the section accounts: every Redis account may "
            "push and copy all"
        }


def test_doctor_compares_the_accounts_of_the_catalogue_with_those_of_redis(
    server: GuardedRedis, run: Run
) -> None:
    have_rights(server, VERSION, "team-a", "team-b", "ghost")

    assert findings(run, "monitor") == {
        "not_in_redis": "in the catalogue and not in Redis, so that nobody submits as: ghost",
        "not_in_catalog": "in Redis and not in the catalogue, so that nothing is allowed: "
        "admin, ci, ci-gateway, producer, team-c",
    }
    have_rights(
        *(server, VERSION, "admin", "ci", "ci-gateway", "producer"), *("team-a", "team-b", "team-c")
    )
    assert findings(run, "monitor") == {"ok": "7 in the catalogue, all of them in Redis"}


def test_doctor_of_a_narrow_account_shows_its_rights_and_says_what_it_cannot_see(
    server: GuardedRedis, run: Run
) -> None:
    have_rights(server, VERSION, "team-a")
    blind = (
        "account {} may not see all accounts, so those of the catalogue were not compared with "
        "those of Redis; `monitor` may"
    )

    found = findings(run, "team-a")
    assert found.pop("ok").startswith("account team-a may push to prod/ml/**, ")
    assert found == {"not_compared": blind.format("team-a")}
    assert findings(run, "team-b") == {
        "no_rights": "account team-b may push and copy nothing: no catalogue has it",
        "not_compared": blind.format("team-b"),
    }


@pytest.mark.parametrize("first_pages", [10_000, 1])
def test_a_list_merges_the_jobs_of_many_accounts_newest_first(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, first_pages: int
) -> None:
    """Also where so little of each index is read at first that each is read on."""
    monkeypatch.setattr(indexes, "FIRST_PAGES", first_pages)
    monkeypatch.setattr(indexes, "PAGE", 2)
    bench = Bench(redis_url)
    names = [f"team-{number}" for number in range(12)]
    with closing(bench.redis):
        jobs = []
        for turn in range(5):
            for name in names:
                jobs.append(bench.submit(push_request(f"{name}.{turn}"), name))
                # Some have a record, and others none.
                if turn % 2:
                    bench.succeed(bench.claimed(jobs[-1]))
        created = [bench.record(job).created_at for job in jobs]

        found = bench.ledger.newest(None, lambda _: True, 37)
        done = bench.ledger.newest(State.SUCCEEDED, lambda _: True, 100)

    assert [one.created_at for one in found] == sorted(created, reverse=True)[:37]
    assert {one.submitted_by for one in found} == set(names)
    assert sorted(one.id for one in done) == sorted(jobs[12:24] + jobs[36:48])
