"""However much a producer writes into its sets, no script keeps Redis from others for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Final

import pytest
import redis

from tests.support.ledger.bench import BROKEN, Bench, push_request, sweep
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_time import script_times
from transship.model.jobs import JobId, State
from transship_config.lanes import queue_name
from transship_worker.jobs.claim_results import Answer
from transship_worker.jobs.sweep import FIXED_QUEUES

pytestmark = pytest.mark.redis

#: ``FULL_SIZE=1`` takes about 2 GB and some minutes.
FULL_SIZE: Final = bool(os.environ.get("FULL_SIZE"))
#: Names and entries of each set.
NAMES, ENTRIES = (100_000, 1_000_000) if FULL_SIZE else (20_000, 100_000)
#: What a script may take of Redis's time. Whoever reads a whole set takes more. Unit: ms.
LONGEST_MS: Final = 20.0 if FULL_SIZE else 10.0
ROUNDS: Final = 3

EVIL: Final = "evil"
REFERENCE: Final = "registry.example.com/ml/train:1"
ENGINE_QUEUE: Final = queue_name(bulk=False, engine="build-7")
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def junk(number: int) -> str:
    """What looks like a job of the account, and is none; every tenth does not even look so."""
    if number % 10 == 0:
        return f"nonsense {number}"
    digits = "".join(ALPHABET[number >> shift & 31] for shift in range(20, -1, -5))
    return f"{'0' * 15}{digits}-{EVIL}"


def fill(client: redis.Redis, add: Callable[[Any, list[int]], None], count: int) -> None:
    """Fill a key through pipelines."""
    for start in range(0, count, 50_000):
        pipe = client.pipeline(transaction=False)
        for first in range(start, min(count, start + 50_000), 1_000):
            add(pipe, list(range(first, min(count, first + 1_000))))
        pipe.execute()


def add_scores(key: str, pipe: Any, numbers: list[int]) -> None:
    pipe.zadd(key, {junk(number): number for number in numbers})


def add_names(key: str, pipe: Any, numbers: list[int]) -> None:
    pipe.sadd(key, *(f"name_{number}" for number in numbers))


@pytest.fixture(scope="module")
def flooded() -> Iterator[Bench]:
    """A ledger in which one account wrote as much as it could into all its sets."""
    with RedisServer(arguments=["--appendonly", "no"]) as server:
        bench = Bench(server.url)
        with closing(bench.redis):
            bench.submit(push_request("0"), EVIL)
            base = bench.keys.account(EVIL)
            due = [f"due:{queue}" for queue in (*FIXED_QUEUES, ENGINE_QUEUE)]
            for name in ("queued", "withdrawn", "expiry", f"target:{REFERENCE}", *due):
                fill(bench.redis, partial(add_scores, base + name), ENTRIES)
            for key in (bench.keys.accounts, base + "queues"):
                fill(bench.redis, partial(add_names, key), NAMES)
            # A worker listens to the engine's queue.
            bench.redis.zadd(bench.keys.listening, {ENGINE_QUEUE: 1e15})
            yield bench


def longest(bench: Bench, times: dict[str, list[float]]) -> dict[str, float]:
    """The longest call of each script by its name, the slowest first. Unit: ms."""
    names = {script.sha: name for name, script in bench.claims._scripts.items()}
    found = {names.get(name, name): round(max(calls), 1) for name, calls in times.items()}
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def everything(bench: Bench, number: int) -> None:
    """What producers and workers do, with the flooded reference and beside it."""
    same = {"image": REFERENCE}
    jobs = [bench.submit(push_request(source=f"{number}.{n}", **same)) for n in range(4)]
    bench.ledger.cancel(jobs[1])
    bench.ledger.cancel(jobs[2])
    bench.ledger.retry(jobs[2])
    bench.claims.defer(jobs[3], push_request(**same))
    bench.claims.leave(jobs[3])
    first = bench.claimed(jobs[0])
    assert bench.claim(jobs[3]).answer is Answer.BEHIND
    bench.claims.report(first)
    assert bench.claims.try_later(first, BROKEN, 1).state is State.CANCELLED
    assert bench.claim(jobs[1]).answer is Answer.CANCELLED
    done = bench.succeed(bench.claimed(jobs[3]))
    assert done.ring == jobs[2]
    bench.succeed(bench.claimed(jobs[2]))
    bad = bench.submit(push_request("bad", source=str(number)))
    assert bench.claims.reject(bad, BROKEN)
    evil = bench.submit(push_request(source=str(number), **same), EVIL)
    bench.producer(EVIL).cancel(evil)
    bench.claim(evil)
    sweep(bench)


def test_every_script_is_short_however_much_a_producer_wrote(flooded: Bench) -> None:
    with redis.Redis.from_url(flooded.url) as observer, script_times(observer) as times:
        for number in range(ROUNDS):
            everything(flooded, number)
    found = longest(flooded, times)
    print(found)  # noqa: T201 - what FULL_SIZE=1 is run for
    # All that the claims have, and the functions of producers.
    assert len(found) > 10
    assert {name: time for name, time in found.items() if time > LONGEST_MS} == {}


@pytest.mark.parametrize(
    "body",
    ['{"image":"a","more":[' + "[[],{}]," * 4_000 + "0]}", "[" * 32_000, "x" * 32_768],
    ids=["many", "deep", "nonsense"],
)
def test_long_requests_that_expire_together_are_not_read(bench: Bench, body: str) -> None:
    """Nor does their queue take long to find where nothing says it, and 1,000 engines live."""
    base, count = bench.keys.account(EVIL), 200
    bench.submit(push_request("0"), EVIL)
    queues = {queue_name(bulk=False, engine=f"build-{number}"): 1e15 for number in range(1_000)}
    bench.redis.zadd(bench.keys.listening, queues)
    jobs = [JobId.new(EVIL) for _ in range(count)]
    for job in jobs:
        bench.redis.set(bench.keys.request(job), body)
    bench.redis.zadd(base + "expiry", dict.fromkeys(jobs, 1))
    with redis.Redis.from_url(bench.url) as observer, script_times(observer) as times:
        assert bench.claims.sweep().expired == count
    found = longest(bench, times)
    assert {name: time for name, time in found.items() if time > LONGEST_MS} == {}


def test_what_is_no_job_is_removed_and_counted(flooded: Bench) -> None:
    base, before = flooded.keys.account(EVIL), flooded.ledger.refused()
    sizes = {
        name: flooded.redis.zcard(base + name)
        for name in ("queued", "withdrawn", "expiry", "due:push.*", f"due:{ENGINE_QUEUE}")
    }
    names = flooded.redis.scard(flooded.keys.accounts)
    sweep(flooded)
    for name, size in sizes.items():
        assert flooded.redis.zcard(base + name) < size - 1_000, name
    assert flooded.redis.scard(flooded.keys.accounts) < names - 1_000
    counted = flooded.ledger.refused()
    for reason in ("account_name", "queued_entry", "withdrawn_entry", "expiry_entry", "due_entry"):
        assert counted[reason] > before.get(reason, 0), reason
    assert counted["target_entry"] > 0


def test_a_job_of_others_is_found_and_rung_beside_it(flooded: Bench) -> None:
    """Also one whose account no worker ever heard of, because its bell was lost."""
    job = flooded.submit(push_request("fresh", source="x"), "newcomer")
    flooded.redis.zadd(flooded.keys.due("newcomer", "push.*"), {job: 1})
    for _ in range(NAMES // 500):
        if job in sweep(flooded):
            return
    pytest.fail("not rung")


def test_a_list_shows_the_jobs_of_others(flooded: Bench) -> None:
    jobs = {flooded.submit(push_request(str(n), source="list")) for n in range(3)}
    found = {JobId(one.id) for one in flooded.ledger.newest(None, lambda _: True, 50)}
    assert jobs <= found
