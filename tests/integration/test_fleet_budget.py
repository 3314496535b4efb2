"""Budgets of a fleet on a real Redis: requests, bytes and transfers that several workers share."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.fleet.budgets import HOLDER, REGISTRY, Fleet, Worker, fleet_at
from tests.support.processes import free_port, soon
from tests.support.repository import ROOT
from tests.support.servers.redis import RedisServer
from transship.errors import RedisUnreachable
from transship_worker.fleet import budget, budget_permits
from transship_worker.fleet.budget import Governor, transfers
from transship_worker.fleet.budget_draw import BATCH_S, LIFE_S
from transship_worker.fleet.limits import Limits

pytestmark = pytest.mark.redis


def most(rate: float, span_s: float) -> float:
    """The most that the fleet may use of a rate in a span of time."""
    return rate * (span_s + LIFE_S) + max(1, rate * BATCH_S)


class Counter:
    """How many transfers run now, and what it was at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.by: dict[Governor, int] = {}

    async def transfer(self, governor: Governor) -> None:
        async with governor.transfer():
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            self.by[governor] = self.by.get(governor, 0) + 1


async def test_workers_share_one_budget_of_requests(fleet: Fleet) -> None:
    rate = 20.0

    limits = Limits(requests_per_second=rate)
    governors = [fleet.worker().governor(limits) for _ in range(3)]
    begin = fleet.now()
    await asyncio.gather(*(g.request() for g in governors for _ in range(22)))
    assert most(rate, fleet.now() - begin) >= 66


async def test_a_request_is_granted_once_although_all_workers_ask_at_once(fleet: Fleet) -> None:
    """A batch begins where the one before it ends: the waits add up to all that was drawn."""

    governors = [fleet.worker().governor(Limits(requests_per_second=1.0)) for _ in range(4)]
    begin = fleet.now()
    waits = await asyncio.gather(
        *(g._draw("requests", 1.0, 10) for g in governors for _ in range(5))
    )
    span = fleet.now() - begin
    # 20 batches of 10 s each, minus the time that went by while they were drawn.
    expected = [10.0 * number for number in range(20)]
    found = sorted(waits)
    assert all(e - span <= f <= e + 0.001 for e, f in zip(expected, found, strict=True))


async def test_requests_are_drawn_in_batches(fleet: Fleet) -> None:
    worker = fleet.worker()
    governor = worker.governor(Limits(requests_per_second=2000.0))
    for _ in range(1000):
        await governor.request()
    assert worker.fleet.calls < 100


async def test_workers_share_one_budget_of_bytes(fleet: Fleet) -> None:
    rate, piece = 1_000_000, 65_536

    limits = Limits(bytes_per_second=rate)
    governors = [fleet.worker().governor(limits) for _ in range(2)]
    begin = fleet.now()
    await asyncio.gather(*(g.bytes(piece) for g in governors for _ in range(25)))
    assert 50 * piece <= most(rate, fleet.now() - begin) + piece


async def test_without_limits_hardly_anything_is_asked_of_redis(fleet: Fleet) -> None:
    worker = fleet.worker()
    governor = worker.governor()
    for _ in range(5000):
        await governor.request()
        await governor.bytes(65_536)
        async with governor.transfer():
            await governor.answered(200)
    assert worker.fleet.calls < 50


async def test_each_login_and_each_registry_has_its_own_budget(fleet: Fleet) -> None:
    worker, one = fleet.worker(), Limits(transfers=1)
    async with (
        worker.governor(one).transfer(),
        worker.governor(one, user=None).transfer(),
        worker.governor(one, user="other").transfer(),
        worker.governor(one, registry="other.example.com").transfer(),
    ):
        keys = list(fleet.redis.scan_iter(f"{fleet.keys.prefix}permits:*"))
        assert len(keys) == 4
        assert not any("pusher" in key for key in keys)


async def test_no_more_transfers_run_than_are_allowed_in_all_workers(fleet: Fleet) -> None:
    governors = [fleet.worker().governor(Limits(transfers=4)) for _ in range(3)]
    counter = Counter()
    await asyncio.gather(*(counter.transfer(g) for g in governors * 60))
    assert counter.most <= 4
    assert counter.by == dict.fromkeys(governors, 60)


async def test_permits_that_are_not_used_come_back(fleet: Fleet) -> None:
    governor = fleet.worker().governor(Limits(transfers=4))
    counter = Counter()
    await asyncio.gather(*(counter.transfer(governor) for _ in range(8)))
    key = fleet.keys.permits(governor.login.registry, governor.login.name)

    async def given_back() -> bool:
        return not fleet.redis.exists(key, f"{key}:line")

    await soon(given_back, what="no permit held")


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_who_waits_is_served_although_others_never_stop(fleet: Fleet, limit: int) -> None:
    limits = Limits(transfers=limit)
    pressing = [fleet.worker().governor(limits) for _ in range(2)]
    counter, enough = Counter(), asyncio.Event()

    async def press(governor: Governor) -> None:
        while not enough.is_set():
            await counter.transfer(governor)

    async with asyncio.TaskGroup() as group:
        for governor in pressing * 8:
            group.create_task(press(governor))

        async def both() -> bool:
            return len(counter.by) == 2

        await soon(both, what="a turn of each that presses")
        for late in [fleet.worker().governor(limits) for _ in range(3)]:
            await counter.transfer(late)
        enough.set()
    assert counter.most <= limit


async def test_permits_of_a_killed_worker_come_back(fleet: Fleet, redis_url: str) -> None:
    program = [sys.executable, "-c", HOLDER, redis_url, fleet.keys.namespace, "2", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        said = await asyncio.to_thread(holder.stdout.readline)
        assert said == b"held\n"
        governor = fleet.worker(permit_s=1.0).governor(Limits(transfers=2))
        waiting = asyncio.create_task(Counter().transfer(governor))
        key = fleet.keys.permits(governor.login.registry, governor.login.name)

        async def in_line() -> bool:
            return bool(fleet.redis.hlen(f"{key}:line"))

        await soon(in_line, what="a worker in line")
        assert not waiting.done()
        assert fleet.redis.zcard(key) == 2
    finally:
        holder.kill()
        holder.communicate()
    await asyncio.wait_for(waiting, 30)


async def test_permits_outlast_their_life_as_long_as_their_worker_lives(fleet: Fleet) -> None:
    governor = fleet.worker(permit_s=0.4).governor(Limits(transfers=1))
    async with governor.transfer():
        key = fleet.keys.permits(governor.login.registry, governor.login.name)
        [permit] = fleet.redis.zrange(key, 0, -1)
        first = fleet.redis.zscore(key, str(permit)) or 0

        async def renewed() -> bool:
            end = fleet.redis.zscore(key, str(permit))
            assert end, "the permit expired"
            return end > first + 800

        await soon(renewed, what="a permit that was renewed")


async def test_a_wait_that_is_cancelled_takes_no_permit(fleet: Fleet) -> None:
    governor = fleet.worker().governor(Limits(transfers=1))
    counter = Counter()
    async with governor.transfer():
        tasks = [asyncio.create_task(counter.transfer(governor)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks[:4]:
            task.cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True] * 4 + [False]
    assert counter.by == {governor: 1}
    async with governor.transfer():
        assert counter.now == 0


async def test_a_worker_that_waits_no_longer_leaves_the_line(fleet: Fleet) -> None:
    one, two = (fleet.worker().governor(Limits(transfers=1)) for _ in range(2))
    line = f"{fleet.keys.permits(REGISTRY, one.login.name)}:line"

    async def waits(count: int) -> bool:
        return fleet.redis.hlen(line) == count

    async with one.transfer():
        task = asyncio.create_task(Counter().transfer(two))
        await soon(lambda: waits(1), what="a worker in line")
        task.cancel()
        await soon(lambda: waits(0), what="nobody in line")


@pytest.mark.parametrize("lost", [False, True], ids=["late", "lost"])
async def test_no_transfer_begins_on_a_permit_that_is_just_given_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    if lost:
        monkeypatch.setattr(budget_permits, "CALL_S", 0.1)

    workers = [fleet.worker() for _ in range(2)]
    one, two = (worker.governor(Limits(transfers=1)) for worker in workers)
    counter = Counter()
    await counter.transfer(one)
    # The worker gives its idle permit back, and does not hear that this was done.
    workers[0].fleet.arriving.clear()
    key = fleet.keys.permits(REGISTRY, one.login.name)

    async def given_back() -> bool:
        return not fleet.redis.exists(key)

    await soon(given_back, what="no permit held")
    async with two.transfer():
        calls = workers[0].fleet.calls
        waiting = asyncio.create_task(counter.transfer(one))

        async def called_again() -> bool:
            return workers[0].fleet.calls > calls

        if lost:
            await soon(called_again, what="another call")
        for _ in range(10):
            await asyncio.sleep(0)
        assert counter.by == {one: 1}
        workers[0].fleet.arriving.set()
    await asyncio.wait_for(waiting, 30)


async def test_transfers_both_ways_between_two_registries_do_not_wait_for_each_other(
    fleet: Fleet,
) -> None:
    def ends(worker: Worker) -> list[Governor]:
        names = ("a.example.com", "b.example.com")
        return [worker.governor(Limits(transfers=1), registry=name) for name in names]

    async def copy(*governors: Governor) -> None:
        async with transfers(*governors, None, governors[0]):
            await asyncio.sleep(0)

    both = [ends(fleet.worker()) for _ in range(2)]
    await asyncio.gather(
        *(copy(*pair) for a, b in both for pair in ((a, b), (b, a)) for _ in range(10))
    )


async def test_limits_that_change_count_at_once(fleet: Fleet) -> None:
    worker, counter = fleet.worker(), Counter()
    async with worker.governor(Limits(transfers=1)).transfer():
        waiting = asyncio.create_task(counter.transfer(worker.governor(Limits(transfers=2))))
        await asyncio.wait_for(waiting, 30)


async def test_permits_outlast_a_redis_that_is_killed_and_comes_back() -> None:
    with RedisServer() as server:
        async with fleet_at(server.url) as fleet:
            governors = [fleet.worker().governor(Limits(transfers=1)) for _ in range(2)]
            counter = Counter()
            async with governors[0].transfer():
                waiting = asyncio.create_task(counter.transfer(governors[1]))
                key = fleet.keys.permits(REGISTRY, governors[0].login.name)

                async def in_line() -> bool:
                    return bool(fleet.redis.hlen(f"{key}:line"))

                await soon(in_line, what="a worker in line")
                await asyncio.to_thread(server.kill9)
                await asyncio.to_thread(server.start)
                fleet.redis.delete(f"{key}:line")
                await soon(in_line, what="a worker in line again")
                assert not waiting.done()
                assert fleet.redis.zcard(key) == 1
            await asyncio.wait_for(waiting, 30)


async def test_a_redis_that_is_away_holds_only_what_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "PATIENCE_S", 0.2)

    fleet = Fleet(f"redis://127.0.0.1:{free_port()}/0")
    try:
        worker = fleet.worker()
        await worker.governor().request()
        with pytest.raises(RedisUnreachable):
            await worker.governor(Limits(requests_per_second=5)).request()
        waiting = asyncio.create_task(_once(worker.governor(Limits(transfers=1))))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        waiting.cancel()
        await asyncio.wait([waiting])
    finally:
        await fleet.close()


async def _once(governor: Governor) -> Any:
    async with governor.transfer():
        return None
