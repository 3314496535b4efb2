"""Rights of accounts on a real Redis: what is refused before a claim, and what is published."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.ledger.bench import BROKEN, Bells, Bench, push_request
from tests.support.ledger.played_migration import Planning as Played
from tests.support.workers.command_line import publish
from transship import Client, State, UsageError
from transship.errors import NotAllowed, RightMissing
from transship.model.components import PublicComponent
from transship.model.jobs import JobId, Kind
from transship.model.migration.request import MigrationRequest
from transship.model.push_request import PushRequest
from transship.model.records import ErrorInfo, ForWhom
from transship_config.settings import Settings
from transship_worker.catalog.file import Document
from transship_worker.catalog.model import Components, build
from transship_worker.handlers.push import Pushing
from transship_worker.jobs.claim_results import Answer
from transship_worker.jobs.heartbeat import Heart
from transship_worker.jobs.runner import JobFailure, Runner, Tools
from transship_worker.process.presence import Presence
from transship_worker.process.published_rights import PublishedRights

pytestmark = pytest.mark.redis

REFUSED = ErrorInfo(code="not_allowed", message="account a may not", retryable=False)
PROD = PublicComponent(name="prod", flavor="default", uri="registry.example.com")
CATALOG = """\
registries:
  prod: {flavor: default, uri: registry.example.com}
  hub: {flavor: default, uri: docker.io}
accounts:
  default: {push: ["prod/ml/**"], copy_from: [hub], labels: {team: a, always: set}}
  other: {push: [prod/web]}
  gateway: {acts_for: [default], labels: {via: gateway}}
"""


def catalog(text: str = CATALOG) -> Components:
    return build(Document.parse(Path("/nowhere/catalog.yaml"), text))


class Stage:
    """A worker whose catalog a test changes; engine and registry are not reached."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.components = catalog()
        self.bells = Bells()
        nothing = cast("Any", None)
        pushing = Pushing(
            lambda: self.components,
            cast("Any", SimpleNamespace(name="build-7")),
            lambda: None,
            *(nothing for _ in range(5)),
        )
        self.runner = Runner(
            Tools(
                settings=bench.settings,
                claims=bench.claims,
                heart=Heart(),
                work={Kind.PUSH: pushing}.get,
                doorbell=cast("Any", self.bells),
                stopping=threading.Event(),
            )
        )

    def refused(self, job: JobId) -> str:
        """What a worker says of a job that it does not claim."""
        with pytest.raises(JobFailure) as caught:
            self.runner.answer(job)
        return str(caught.value)


@pytest.fixture
def stage(bench: Bench) -> Stage:
    return Stage(bench)


def web(tag: str = "1", **changes: Any) -> PushRequest:
    return push_request(image=f"registry.example.com/web:{tag}", **changes)


REFUSAL = "account default may not push to prod/web; it may push to prod/ml/**"


def test_what_an_account_may_not_push_is_final_without_an_attempt(
    bench: Bench, stage: Stage
) -> None:
    job = bench.submit(web())
    behind = bench.submit(web(labels={"other": "request"}))

    assert stage.refused(job) == f"not_allowed: {REFUSAL}"

    record = bench.record(job)
    assert (record.state, record.attempts, record.image) == (
        *(State.FAILED, 0, "registry.example.com/web:1"),
    )
    assert record.error == ErrorInfo(code="not_allowed", message=REFUSAL, retryable=False)
    # It is counted with its account, and is no foreign message.
    assert bench.ledger.refused() == {}
    assert bench.redis.hget(bench.keys.refused_of("default"), "not_allowed") == "1"
    # Whoever waited for the same target is rung, and nothing is left to be rung for the job.
    assert stage.bells.rung == [behind]
    assert bench.redis.zscore(bench.keys.due("default", "push.*"), job) is None
    assert bench.redis.zscore(bench.keys.queued("default"), job) is None
    assert bench.redis.exists(bench.keys.reading(job)) == 0
    # Rung again it stays so, and is counted once.
    stage.refused(job)
    assert bench.redis.hget(bench.keys.refused_of("default"), "not_allowed") == "1"


def test_an_account_that_the_section_lacks_may_do_nothing(bench: Bench, stage: Stage) -> None:
    job = bench.submit(push_request(), "stranger")
    assert stage.refused(job) == (
        "not_allowed: account stranger may not push to prod/ml/train; it may do nothing: the "
        "section accounts of the workers' catalog lacks it"
    )


def test_rights_are_checked_at_each_retry(bench: Bench, stage: Stage) -> None:
    job = bench.submit(push_request())
    bench.claims.try_later(bench.claimed(job), BROKEN, 30)
    bench.let_retry_come_due(job)
    stage.components = catalog(CATALOG.replace("prod/ml/**", "prod/ml/other"))

    assert "may not push to prod/ml/train" in stage.refused(job)

    record = bench.record(job)
    assert (record.state, record.error and record.error.code) == (State.FAILED, "not_allowed")


def test_a_retry_by_hand_is_refused_with_its_own_reason(bench: Bench, stage: Stage) -> None:
    job = bench.submit(web())
    denied = ErrorInfo(code="denied", message="no", retryable=False)
    bench.claims.fail(bench.claimed(job), denied)
    bench.ledger.retry(job)
    assert bench.record(job).state is State.QUEUED

    stage.refused(job)

    record = bench.record(job)
    assert (record.state, record.error and record.error.message) == (State.FAILED, REFUSAL)
    # A final job that nobody asked to retry keeps its reason.
    done = bench.submit(web("2"))
    bench.claims.fail(bench.claimed(done), denied)
    stage.refused(done)
    assert bench.record(done).error == denied


def test_a_job_that_succeeded_or_runs_is_left_as_it_is(bench: Bench, stage: Stage) -> None:
    running, done = bench.submit(web("1")), bench.submit(web("2"))
    claim = bench.claimed(running)
    bench.succeed(bench.claimed(done))
    bench.ledger.retry(done)

    for job in (running, done):
        stage.refused(job)

    assert bench.record(running).state is State.RUNNING
    assert bench.record(done).state is State.SUCCEEDED
    assert bench.succeed(claim).accepted


def test_a_job_that_was_cancelled_is_cancelled_and_not_refused(bench: Bench, stage: Stage) -> None:
    job = bench.submit(web())
    bench.ledger.cancel(job)
    stage.refused(job)
    assert bench.record(job).state is State.CANCELLED
    assert bench.redis.exists(bench.keys.refused_of("default")) == 0


def test_a_record_of_another_type_ends_no_worker(bench: Bench, stage: Stage) -> None:
    job = bench.submit(web())
    bench.redis.set(bench.keys.job(job), "foreign")
    assert stage.refused(job).startswith("not_allowed: ")


def test_a_refused_row_makes_room_for_the_next_ones(bench: Bench, stage: Stage) -> None:
    migration = bench.submit(MigrationRequest(mode="run", name="x", rows=3))
    played = Played(bench, migration)
    jobs = played.images(3)
    played.end()

    request = bench.ledger.request(jobs[0])
    result = bench.claims.refuse(jobs[0], request, REFUSED)

    assert result.accepted
    fields: Any = bench.redis.hgetall(bench.keys.migration(migration))
    assert (fields["failed"], fields["queued"]) == ("1", "2")
    assert bench.record(jobs[0]).error == REFUSED


def test_labels_of_the_account_win_over_those_of_the_request(bench: Bench) -> None:
    job = bench.submit(push_request(labels={"team": "b", "mine": "1"}))
    request = bench.ledger.request(job)
    rights = catalog().rights_of("default")
    assert bench.record(job).labels == {"team": "b", "mine": "1"}
    result = bench.claims.claim(job, request, engine="e", flavor="default", labels=rights.labels)
    assert result.answer is Answer.CLAIMED
    assert bench.record(job).labels == {"team": "a", "mine": "1", "always": "set"}
    # The account can write over its request at any time, and not over the record.
    bench.redis.set(bench.keys.request(job), push_request(labels={"team": "c"}).to_stored())
    assert bench.record(job).labels == {"team": "a", "always": "set"}
    # The next attempt has the labels of its time.
    assert result.claim is not None
    bench.claims.try_later(result.claim, BROKEN, 30)
    bench.let_retry_come_due(job)
    assert bench.claim(job).answer is Answer.CLAIMED
    assert bench.record(job).labels == {"team": "c"}


def test_for_whom_a_job_is_says_the_worker_once_it_has_checked_it(
    bench: Bench, stage: Stage
) -> None:
    wanted = {"account": "default", "subject": "ann"}
    good = bench.submit(push_request(on_behalf_of=wanted), "gateway")
    record = bench.record(good)
    assert record.submitted_by == "gateway for default/ann"
    assert record.on_behalf_of == ForWhom(account="default", subject="ann")
    bench.claimed(good)
    bench.redis.set(bench.keys.request(good), push_request(on_behalf_of="other/eve").to_stored())
    assert bench.record(good).submitted_by == "gateway for default/ann"

    bad = bench.submit(push_request("2", on_behalf_of=wanted), "other")
    assert stage.refused(bad) == (
        "not_allowed: account other may not submit on behalf of default; it may for nobody"
    )
    record = bench.record(bad)
    assert (record.submitted_by, record.on_behalf_of) == ("other", None)


def test_what_a_record_says_of_labels_may_be_anything(bench: Bench) -> None:
    job = bench.submit(push_request(labels={"a": "b"}))
    bench.claimed(job)
    for foul in ("7", "[]", "no JSON", '{"x": 1}'):
        bench.redis.hset(bench.keys.job(job), mapping={"labels": foul, "on_behalf_of": foul})
        record = bench.record(job)
        assert record.labels == {"a": "b"} | ({"x": "1"} if foul.startswith("{") else {})
        assert record.on_behalf_of is None


# What workers publish, and what clients make of it.


def rights_of_workers(bench: Bench, *texts: str) -> None:
    """Live workers with these catalogs."""
    for number, text in enumerate(texts):
        components = catalog(text)
        name = f"transship@host.{number}"
        publish(
            bench,
            name,
            components=components.public(),
            rights_version=components.rights_version,
        )
        published = PublishedRights(lambda made=components: made, bench.keys)  # type: ignore[misc]
        pipe = bench.redis.pipeline()
        published.write(pipe)
        pipe.execute()


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    settings = {"TRANSSHIP_URL": bench.url, "TRANSSHIP_NAMESPACE": bench.namespace}
    with Client(settings=Settings.from_environment(settings)) as made:
        yield made


SPEC = {
    "version": 1,
    "name": "x",
    "rules": [
        {
            "from": {"registry": "hub", "repositories": ["library/alpine"]},
            "to": {"registry": "prod"},
            "tags": {"include": ["1"]},
        }
    ],
}
FORBIDDEN: dict[str, tuple[Callable[[Client], object], str]] = {
    "push": (lambda c: c.push("registry.example.com/web:1", registry="prod"), REFUSAL),
    "copy": (
        lambda c: c.copy("docker.io/library/alpine:1", "registry.example.com/ml/x:1"),
        "account default may not copy to prod/ml/x; it may copy to no repository",
    ),
    "migrate": (
        lambda c: c.migrate(SPEC),
        "account default may not copy to prod; it may copy to no repository",
    ),
    "plan": (
        lambda c: c.plan(SPEC),
        "account default may not copy to prod; it may copy to no repository",
    ),
    "on behalf": (
        lambda c: c.push("registry.example.com/ml/x:1", registry="prod", on_behalf_of="other/ann"),
        "account default may not submit on behalf of other; it may for nobody",
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_client_refuses_what_no_worker_would_accept(
    bench: Bench, client: Client, what: str
) -> None:
    rights_of_workers(bench, CATALOG)
    submit, message = FORBIDDEN[what]
    with pytest.raises(RightMissing) as caught:
        submit(client)
    assert (caught.value.message, caught.value.exit_status) == (message, 2)
    assert caught.value.code == NotAllowed.code
    assert list(bench.redis.scan_iter(f"{bench.keys.account('default')}*")) == []
    allowed = client.push("registry.example.com/ml/x:1", registry="prod")
    assert allowed.record().state is State.QUEUED


@pytest.mark.parametrize(
    "others",
    [
        [CATALOG.partition("accounts:")[0]],
        [CATALOG.replace("prod/ml/**", "prod")],
    ],
    ids=["no section", "other rights"],
)
def test_what_one_of_the_workers_accepts_is_submitted(
    bench: Bench, client: Client, others: list[str]
) -> None:
    rights_of_workers(bench, CATALOG, *others)
    job = client.push("registry.example.com/web:1", registry="prod")
    assert job.record().state is State.QUEUED


@pytest.mark.parametrize("foul", [None, "", "[]", '{"account": "default", "push": 7}', b"\xff"])
def test_rights_that_cannot_be_read_are_left_to_the_workers(
    bench: Bench, client: Client, foul: str | bytes | None
) -> None:
    rights_of_workers(bench, CATALOG)
    key = bench.keys.rights("default", catalog().rights_version)
    if foul is None:
        bench.redis.delete(key)
        bench.redis.rpush(key, "a list")
    else:
        bench.redis.set(key, foul)
    assert client.rights() == []
    job = client.push("registry.example.com/web:1", registry="prod")
    assert job.record().state is State.QUEUED


def test_a_client_reads_its_own_rights(bench: Bench, client: Client) -> None:
    assert client.rights() == []
    rights_of_workers(bench, CATALOG)
    (found,) = client.rights()
    assert found == catalog().rights_of("default")


def test_a_change_of_rights_counts_for_a_client_that_submits_often(
    bench: Bench, client: Client
) -> None:
    rights_of_workers(bench, CATALOG)
    with pytest.raises(RightMissing):
        client.push("registry.example.com/web:1", registry="prod")
    rights_of_workers(bench, CATALOG.replace("prod/ml/**", "prod"))
    client.push("registry.example.com/web:1", registry="prod")


def test_rights_are_written_again_while_a_worker_lives_and_not_at_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    components = catalog()
    version = components.rights_version
    published = PublishedRights(lambda: components, bench.keys)
    clock = [1000.0]
    monkeypatch.setattr(
        "transship_worker.process.published_rights.time.monotonic", lambda: clock[0]
    )

    def written() -> bool:
        bench.redis.delete(bench.keys.rights("default", version))
        pipe = bench.redis.pipeline()
        published.write(pipe)
        pipe.execute()
        return bool(bench.redis.exists(bench.keys.rights("default", version)))

    assert written()
    assert not written()
    clock[0] += 21
    assert written()
    assert not written()
    published.again()
    assert written()
    assert 0 < bench.redis.ttl(bench.keys.rights("default", version)) <= 120
    names: Any = bench.redis.get(bench.keys.rights_index(version))
    assert json.loads(names) == ["default", "gateway", "other"]


def test_presence_publishes_rights_with_the_view(bench: Bench) -> None:
    components = catalog()
    fields = {"name": "w", "engine": None, "rights_version": components.rights_version}
    view = SimpleNamespace(name="w", model_dump_json=lambda: json.dumps(fields))
    presence = Presence(
        bench.redis,
        bench.keys,
        cast("Any", lambda: view),
        lambda: None,
        rights=PublishedRights(lambda: components, bench.keys),
    )
    presence.publish()
    assert bench.redis.exists(bench.keys.rights("other", components.rights_version))


@pytest.mark.parametrize("value", [7, "", "a b", {"account": "a", "scope": {"pull": []}}])
def test_a_bad_on_behalf_of_is_a_usage_error(client: Client, value: Any) -> None:
    for submit in (
        lambda: client.push("registry.example.com/ml/x:1", registry="prod", on_behalf_of=value),
        lambda: client.copy("a.b/c:1", "registry.example.com/x:1", on_behalf_of=value),
        lambda: client.migrate(SPEC, on_behalf_of=value),
        lambda: client.plan(SPEC, on_behalf_of=value),
    ):
        with pytest.raises(UsageError, match="on_behalf_of: "):
            submit()
