"""What replicas acknowledge, and what a failover forgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.support.ledger.bench import Bench, push_request
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.redis_accounts import GuardedRedis
from tests.support.servers.sentinel import ReplicatedRedis
from tests.support.workers.command_line import PROD, publish
from transship import Client, Job, NotReplicated, Push, RedisUnreachable, State
from transship.cli import main
from transship.errors import UnknownJob
from transship.ledger.connection import connect
from transship.model.jobs import JobId
from transship_config.settings import Settings

pytestmark = pytest.mark.redis

IMAGES = [f"{PROD.uri}/train:{number}" for number in range(3)]


@dataclass
class Pair:
    """A primary and its replica, behind an address that can lead to either."""

    primary: ReplicatedRedis
    replica: ReplicatedRedis
    proxy: TcpProxy
    #: What the replica reads from.
    link: TcpProxy

    @property
    def url(self) -> str:
        return f"redis://{self.proxy.address}/0"

    def bench(self, replicas: int = 1) -> Bench:
        environment = {"TRANSSHIP_WAIT_REPLICAS": str(replicas), "TRANSSHIP_URL": self.url}
        return Bench(self.url, Settings.from_environment(environment))

    def lag(self) -> None:
        """From now on the replica gets nothing more."""
        self.link.hang()

    def catch_up(self) -> None:
        """It gets all that it lacks."""
        self.link.resume()

    def fail_over(self) -> None:
        """The primary dies; what the replica has not read, it never gets."""
        self.primary.kill9()
        # First: what the link still holds must not go on.
        self.link.cut()
        self.link.close()
        self.replica.follow(None)
        self.proxy.lead_to(self.replica.port)
        self.primary, self.replica = self.replica, self.primary

    def join(self) -> None:
        """The old primary comes back, as a replica."""
        self.replica.start()
        self.replica.follow(self.primary)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with (
        ReplicatedRedis() as first,
        ReplicatedRedis() as second,
        TcpProxy(first.port) as proxy,
        TcpProxy(first.port) as link,
    ):
        second.follow(link)
        yield Pair(first, second, proxy, link)


@pytest.fixture
def bench(pair: Pair) -> Bench:
    """A ledger with a worker, which all replicas have."""
    made = pair.bench()
    publish(made)
    assert made.redis.wait(1, 10_000) == 1
    return made


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    """A client that asks for one replica."""
    settings = bench.settings.model_copy(update={"namespace": bench.namespace})
    with Client(settings=settings) as made:
        yield made


def test_a_submit_that_a_replica_has_outlives_the_primary(pair: Pair, client: Client) -> None:
    jobs = client.push_many([Push(image, "prod") for image in IMAGES])
    pair.lag()
    pair.fail_over()
    assert [one.id for one in jobs] == [client.job(one.id).id for one in jobs]


def test_a_submit_that_no_replica_acknowledges_is_told_with_its_ids(
    pair: Pair, client: Client
) -> None:
    pair.lag()
    with pytest.raises(NotReplicated, match=r"fewer than 1 replica.*it may run") as told:
        client.push_many([Push(image, "prod") for image in IMAGES])
    assert len(told.value.jobs) == 3
    assert told.value.exit_status == 3
    # It is written, and may run.
    assert [client.job(job).record().state for job in told.value.jobs] == [State.QUEUED] * 3
    # On the connection of now nothing is written; the earlier write counts all the same.
    with pytest.raises(NotReplicated):
        client.submit_again(told.value)
    pair.catch_up()
    again = eventually(lambda: _again(client, told.value), what="an acknowledged submit")
    assert tuple(job.id for job in again) == told.value.jobs
    assert len(client.jobs()) == 3


def _again(client: Client, error: NotReplicated) -> list[Job]:
    try:
        return client.submit_again(error)
    except NotReplicated:
        return []


def test_a_submit_that_a_failover_forgot_is_written_again_under_its_id(
    pair: Pair, client: Client
) -> None:
    pair.lag()
    with pytest.raises(NotReplicated) as told:
        client.push(IMAGES[0], registry="prod")
    pair.fail_over()
    pair.join()
    with pytest.raises(UnknownJob):
        client.job(told.value.jobs[0])
    (job,) = client.submit_again(told.value)
    assert job.id == told.value.jobs[0]
    assert job.record().state is State.QUEUED


def test_without_the_setting_a_submit_may_be_forgotten(pair: Pair) -> None:
    bench = pair.bench(0)
    bench.submit(push_request("0"))
    assert bench.redis.wait(1, 10_000) == 1
    pair.lag()
    job = bench.submit(push_request("1"))
    pair.fail_over()
    with pytest.raises(UnknownJob):
        bench.record(job)


def test_an_end_that_no_replica_acknowledges_is_known_to_the_worker(
    pair: Pair, bench: Bench
) -> None:
    claim = bench.claimed(bench.submit(push_request()))
    pair.lag()
    assert not bench.succeed(claim).replicated
    # The same end once more, after its answer was lost for example.
    again = bench.succeed(claim)
    assert again.accepted
    assert not again.replicated
    pair.catch_up()
    eventually(lambda: bench.succeed(claim).replicated, what="an acknowledged end")


def test_a_claim_that_a_failover_forgot_lets_the_job_run_twice_and_end_once(
    pair: Pair, bench: Bench
) -> None:
    job = bench.submit(push_request())
    pair.lag()
    first = bench.claimed(job)
    pair.fail_over()
    pair.join()
    # The new primary has never heard of the first claim.
    second = bench.claimed(job, bench.worker("worker-2"))
    assert (first.fence, first.attempt) == (second.fence, second.attempt)
    # The fence is the same number; the token is not.
    assert bench.claims.report(first) == (False, False)
    assert not bench.succeed(first).accepted
    assert bench.succeed(second).accepted
    assert bench.record(job).state is State.SUCCEEDED


def test_the_shipped_accounts_may_wait_for_replicas() -> None:
    with GuardedRedis() as server:
        settings = Settings.from_environment({"TRANSSHIP_WAIT_REPLICAS": "1"})
        worker = Bench(server.url_of("worker"), settings, namespace="transship")
        publish(worker)
        with closing(connect(server.url_of("worker"))), server.refusing_nothing():
            url = server.url_of("producer")
            environment = {"TRANSSHIP_WAIT_REPLICAS": "1", "TRANSSHIP_URL": url}
            worker.ledger._functions.ensure()
            with (
                Client(settings=Settings.from_environment(environment)) as client,
                pytest.raises(NotReplicated) as told,
            ):
                client.push(IMAGES[0], registry="prod")
            (job,) = told.value.requests
            assert not worker.succeed(worker.claimed(JobId(job))).replicated


def test_the_command_says_what_is_written_and_doctor_what_lacks(
    pair: Pair,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRANSSHIP_URL", pair.url)
    monkeypatch.setenv("TRANSSHIP_NAMESPACE", bench.namespace)
    monkeypatch.setenv("TRANSSHIP_WAIT_REPLICAS", "2")
    assert main(["push", IMAGES[0], "--registry", "prod"]) == 3
    line = capsys.readouterr().err
    assert "written, but fewer than 2 replica(s) acknowledged it within 1 s; it may run" in line
    assert isinstance(NotReplicated("x"), RedisUnreachable)
    assert main(["doctor"]) == 1
    assert "1 replica(s) are connected, and 2 must acknowledge" in capsys.readouterr().out
