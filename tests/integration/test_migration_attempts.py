"""What an attempt of a migration's image sent stays counted, however the attempt ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.ledger.bench import BROKEN, Bench
from tests.support.ledger.played_migration import DENIED, SPEC, Planning, copied
from tests.support.workers.command_line import publish
from transship import Client
from transship.model.components import PublicComponent
from transship.model.records import ErrorInfo, Progress
from transship_config.settings import Settings
from transship_worker.jobs.claim_results import Claim, Finished
from transship_worker.jobs.claims import Claims

pytestmark = pytest.mark.redis

PAUSED = ErrorInfo(code="registry_paused", message="wait a little", retryable=True)
#: Told by the end of the attempt and never before. Unit: bytes.
SENT = Progress(bytes_done=60, bytes_total=100)
COMPONENTS = [
    PublicComponent(name="hub", flavor="dockerhub", uri="docker.io"),
    PublicComponent(name="prod", flavor="default", uri="registry.example.com/ml"),
]

End = Callable[[Claims, Claim], Finished]
PASSES: dict[str, End] = {
    "pause": lambda claims, claim: claims.pause(claim, PAUSED, 30, progress=SENT),
    "try_later": lambda claims, claim: claims.try_later(claim, BROKEN, 30, progress=SENT),
    "release": lambda claims, claim: claims.release(claim, "stops", progress=SENT),
}
ENDS: dict[str, End] = {
    "fail": lambda claims, claim: claims.fail(claim, DENIED, progress=SENT),
    "cancelled": lambda claims, claim: claims.cancelled(claim, progress=SENT),
}


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    publish(made, components=COMPONENTS, copy_slots=8)
    yield made
    made.redis.close()


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    settings = {"TRANSSHIP_URL": bench.url, "TRANSSHIP_NAMESPACE": bench.namespace}
    with Client(settings=Settings.from_environment(settings)) as made:
        yield made


@pytest.mark.parametrize("kind", PASSES)
def test_what_was_sent_before_another_attempt_is_not_counted_as_having_been_there(
    bench: Bench, client: Client, kind: str
) -> None:
    migration = client.migrate(SPEC)
    (job,) = Planning(bench, migration.id).images(1)

    assert PASSES[kind](bench.claims, bench.claimed(job)).accepted
    assert migration.record().bytes.moved == 60
    bench.let_retry_come_due(job)
    copied(bench, job, moved=40, present=60)

    found = migration.record().bytes
    assert (found.planned, found.moved, found.mounted, found.present) == (100, 100, 0, 0)


@pytest.mark.parametrize("kind", ENDS)
def test_what_was_sent_in_vain_is_counted(bench: Bench, client: Client, kind: str) -> None:
    migration = client.migrate(SPEC)
    (job,) = Planning(bench, migration.id).images(1)

    assert ENDS[kind](bench.claims, bench.claimed(job)).accepted

    assert migration.record().bytes.moved == 60
