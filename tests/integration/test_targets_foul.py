"""Only jobs that are valid and not final count in a target's queue, whatever a producer writes."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.support.ledger.bench import BROKEN, Bells, Bench, push_request, sweep
from transship.model.jobs import JobId, State
from transship.model.request_fields import LONGEST_S
from transship.model.rights import all_rights
from transship_worker.jobs.claim_results import Answer
from transship_worker.jobs.claims import CLAIM_ROUNDS
from transship_worker.jobs.handler import Accepted, Outcome
from transship_worker.jobs.heartbeat import Heart
from transship_worker.jobs.runner import Runner, Tools

pytestmark = pytest.mark.redis

REFERENCE = "registry.example.com/ml/train:1"
#: What the account of the attacker is called.
EVIL = "evil"
LATE = 9e15
#: Entries that one bell has removed at most: 500 by each script.
LOOKED_AT = CLAIM_ROUNDS * 500


def target(bench: Bench, account: str = EVIL, reference: str = REFERENCE) -> str:
    return f"{bench.keys.account(account)}target:{reference}"


def written(bench: Bench, **parts: Any) -> JobId:
    """A job of which an account wrote some parts by hand."""
    job, base = JobId.new(EVIL), bench.keys.account(EVIL)
    bench.redis.sadd(bench.keys.accounts, EVIL)
    if parts.pop("request", True):
        bench.redis.set(bench.keys.request(job), json.dumps({"image": REFERENCE}))
    wish = parts.pop("retry", None)
    if wish is not None:
        bench.redis.set(bench.keys.retry(job), wish)
    for name, score in parts.items():
        bench.redis.zadd(base + name, {job: score})
    bench.redis.zadd(target(bench), {job: 1})
    return job


def now_ms(bench: Bench) -> int:
    seconds, _ = bench.redis.time()
    return int(seconds) * 1000


def counted(bench: Bench) -> int:
    return bench.ledger.refused().get("target_entry", 0)


@pytest.mark.parametrize("how", ["nothing", "a request", "a final job", "another's job"])
def test_a_score_for_what_is_no_job_supersedes_no_job(bench: Bench, how: str) -> None:
    mine = bench.submit(push_request())
    bench.submit(push_request("2"), EVIL)
    claim = bench.claimed(mine)
    junk = JobId.new(EVIL)
    if how == "a request":
        bench.redis.set(bench.keys.request(junk), "{}")
    elif how == "a final job":
        junk = bench.submit(push_request("3"), EVIL)
        bench.succeed(bench.claimed(junk))
    elif how == "another's job":
        junk = bench.submit(push_request("4"), "third")
    bench.redis.zadd(target(bench), {junk: LATE})

    assert bench.claims.try_later(claim, BROKEN, 1).state is State.RETRYING
    assert counted(bench) == 1
    bench.let_retry_come_due(mine)
    assert bench.succeed(bench.claimed(mine)).state is State.SUCCEEDED


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"queued": 1},
        {"expiry": 1},
        {"request": False, "queued": 1, "expiry": 1},
        {"queued": float("inf"), "expiry": 1},
        {"queued": 1, "expiry": float("inf")},
        {"queued": 1, "expiry": LATE},
        {"queued": 1, "retry": "soon"},
        {"queued": 1, "retry": "1"},
        {"queued": 1, "retry": "9000000000000000"},
    ],
)
def test_a_request_that_would_block_a_reference_for_ever_does_not_count(
    bench: Bench, parts: dict[str, Any]
) -> None:
    junk = written(bench, **parts)
    mine = bench.submit(push_request())

    assert bench.claim(mine).answer is Answer.CLAIMED
    assert bench.redis.zscore(target(bench), junk) is None
    assert counted(bench) == 1


@pytest.mark.parametrize("wish", [False, True])
def test_a_job_that_is_listed_and_ends_by_itself_counts(bench: Bench, wish: bool) -> None:
    now = now_ms(bench)
    place = {"retry": str(now)} if wish else {"expiry": now + (LONGEST_S - 60) * 1000}
    first = written(bench, queued=now, **place)
    mine = bench.submit(push_request())

    assert bench.claim(mine).detail == first
    assert first in {one.id for one in bench.ledger.newest(None, lambda _: True, 9)}
    assert counted(bench) == 0


def test_a_running_job_counts_for_its_own_target_only(bench: Bench) -> None:
    theirs = bench.submit(push_request("2"), EVIL)
    bench.claimed(theirs)
    bench.redis.zadd(target(bench), {theirs: 1})
    mine = bench.submit(push_request())

    assert bench.claim(mine).answer is Answer.CLAIMED
    # Its own place stays.
    assert bench.redis.zscore(target(bench, reference=REFERENCE[:-1] + "2"), theirs)
    again = bench.submit(push_request("2"))
    assert bench.claim(again).detail == theirs


def test_more_junk_than_one_script_removes_blocks_nobody(bench: Bench) -> None:
    theirs = bench.submit(push_request(), EVIL)
    bench.claimed(theirs)
    bench.redis.zadd(target(bench), {JobId.new(EVIL): 1 for _ in range(500)})
    mine = bench.submit(push_request())

    # Whoever writes junk loses its own place in the order, as long as the junk is there.
    assert bench.claim(mine).answer is Answer.CLAIMED
    assert 0 < counted(bench) < 500


def test_more_junk_than_one_script_removes_supersedes_nobody(bench: Bench) -> None:
    bench.submit(push_request("2"), EVIL)
    claim = bench.claimed(bench.submit(push_request()))
    bench.redis.zadd(target(bench), {JobId.new(EVIL): LATE for _ in range(500)})

    assert bench.claims.try_later(claim, BROKEN, 1).state is State.RETRYING
    assert 0 < counted(bench) < 500


class Accepting:
    """Accepts any job, and is never asked to run one."""

    def accept(self, request: Any, account: str) -> Accepted:
        return Accepted("build-7", "default", str, all_rights(account))

    def run(self, *_: Any) -> Outcome:
        raise AssertionError("nothing was claimed")


def junk_before(bench: Bench, count: int) -> None:
    for start in range(0, count, 5_000):
        names: dict[str, int] = {JobId.new(EVIL): 1 for _ in range(min(5_000, count - start))}
        bench.redis.zadd(target(bench), names)


@pytest.mark.parametrize("count", [50, 51, 500, 501, LOOKED_AT - 1])
def test_a_job_behind_junk_of_its_own_account_is_reached_by_one_bell(
    bench: Bench, count: int
) -> None:
    theirs = bench.submit(push_request(), EVIL)
    junk_before(bench, count)

    assert bench.claim(theirs).answer is Answer.CLAIMED
    assert counted(bench) == count


def test_more_junk_delays_the_jobs_of_its_own_account_only(bench: Bench) -> None:
    theirs = bench.submit(push_request(), EVIL)
    mine, after = bench.submit(push_request()), bench.submit(push_request(source="after"))
    junk_before(bench, 2 * LOOKED_AT + 400)

    assert bench.claim(theirs).answer is Answer.CLUTTERED
    claim = bench.claimed(mine)
    assert bench.claim(theirs).answer is Answer.CLUTTERED
    assert bench.succeed(claim).ring in {theirs, after}
    assert bench.claim(theirs).answer is Answer.CLAIMED
    assert bench.claim(after).detail == theirs


def test_a_job_that_junk_hides_supersedes_no_newer_one(bench: Bench) -> None:
    theirs = bench.submit(push_request(), EVIL)
    junk_before(bench, LOOKED_AT + 200)
    mine = bench.submit(push_request())
    assert bench.claims.try_later(bench.claimed(mine), BROKEN, 1).state is State.RETRYING

    assert bench.claim(theirs).answer is Answer.CLUTTERED
    assert bench.record(mine).state is State.RETRYING
    assert bench.claim(theirs).answer is Answer.CLAIMED
    assert bench.record(mine).state is State.RETRYING


def test_a_worker_is_told_again_soon_of_a_job_that_junk_hides(bench: Bench) -> None:
    theirs = bench.submit(push_request(), EVIL)
    junk_before(bench, LOOKED_AT)
    bench.redis.zadd(bench.keys.due(EVIL, "push.*"), {theirs: 1})
    work = Accepting()
    tools = Tools(
        settings=bench.settings,
        claims=bench.claims,
        heart=Heart(),
        work=lambda _: work,
        doorbell=Bells(),  # type: ignore[arg-type]
        stopping=threading.Event(),
    )

    assert "are being removed" in Runner(tools).answer(theirs)
    due = bench.redis.zscore(bench.keys.due(EVIL, "push.*"), theirs)
    assert due is not None
    assert 0 < due - now_ms(bench) < 10_000


def test_jobs_that_wait_for_an_engine_without_workers_keep_their_place(bench: Bench) -> None:
    first = bench.submit(push_request(engine="elsewhere"), EVIL)
    mine = bench.submit(push_request())

    assert bench.claim(mine).detail == first


@pytest.mark.parametrize("kind", ["string", "list"])
def test_a_record_of_another_type_is_listed_as_unreadable_and_hides_nothing(
    bench: Bench, kind: str
) -> None:
    foul, good = bench.submit(push_request()), bench.submit(push_request("2"))
    beside = bench.submit(push_request("3"))
    after = bench.submit(push_request(source="after"))
    held = [bench.claimed(foul), bench.claimed(good)]
    bench.redis.delete(bench.keys.job(foul))
    if kind == "string":
        bench.redis.set(bench.keys.job(foul), "no hash")
    else:
        bench.redis.rpush(bench.keys.job(foul), "no hash")
    ids = {foul, good, beside, after}
    assert {one.id for one in bench.ledger.newest(None, lambda _: True, 9)} == ids
    record = bench.record(foul)
    assert (record.state, record.error and record.error.code) == (State.FAILED, "unreadable")
    assert record.image == REFERENCE

    # A bell for it says so, and its target is free.
    assert bench.claim(foul).answer is Answer.FINAL
    assert bench.claim(after).answer is Answer.CLAIMED
    # The reaper looks after all others.
    for job in (foul, good):
        bench.redis.zadd(bench.keys.leases, {job: 1})
        bench.redis.zadd(bench.keys.expiry, {job: 1})
        bench.redis.zadd(bench.keys.retention, {foul: 1})
    bench.redis.hset(bench.keys.job(good), "lease", "1")
    bench.redis.zadd(bench.keys.due("default", "push.*"), {beside: 1, foul: 1})
    bench.redis.zadd(bench.keys.waiting("push.*"), {foul: 1})
    assert beside in sweep(bench)
    assert bench.record(good).state is State.QUEUED
    assert held[1].job == good


def test_a_request_of_another_type_is_listed_as_unreadable(bench: Bench) -> None:
    foul, good = JobId.new(), bench.submit(push_request("2"))
    bench.redis.hset(bench.keys.request(foul), "a", "b")
    bench.redis.zadd(bench.keys.account("default") + "queued", {foul: 1})

    assert {one.id for one in bench.ledger.newest(None, lambda _: True, 9)} == {foul, good}
    record = bench.record(foul)
    assert record.error
    assert (record.image, record.error.code) == ("?", "unreadable")
