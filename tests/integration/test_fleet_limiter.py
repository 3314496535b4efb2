"""The rate that a registry serves, found and kept by several workers on a real Redis."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress

import pytest

from tests.support.fleet.budgets import Fleet
from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, client, make_manifest
from tests.support.processes import free_port, soon
from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import RateLimited, RegistryPaused
from transship_worker.fleet.budget import Governor
from transship_worker.fleet.limits import Limits
from transship_worker.oci import blobs, manifests, retry
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import OCI_MANIFEST
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.waiting import patient

pytestmark = pytest.mark.redis

MANIFEST = make_manifest()
GOOD = Reply(200, MANIFEST.raw, {"Content-Type": OCI_MANIFEST})
SLOW = Reply(429, b"", {"Retry-After": "0"})
TAG = "/v2/acme/app/manifests/1"
BLOB = f"/v2/acme/app/blobs/{EMPTY_DIGEST}"
TOKEN = "/token?service=r&scope=repository:acme/app:pull&client_id=transship"


def key_of(fleet: Fleet, governor: Governor) -> str:
    """Where its rate limiter stands."""
    return fleet.keys.limiter(governor.login.registry, governor.login.name)


def state(fleet: Fleet, governor: Governor) -> dict[str, float]:
    """The rate limiter's numbers."""
    found = fleet.redis.hgetall(key_of(fleet, governor))
    return {str(name): float(str(value)) for name, value in found.items()}


def put(fleet: Fleet, governor: Governor, fields: Mapping[str, float]) -> None:
    """Set some of them."""
    for name, value in fields.items():
        fleet.redis.hset(key_of(fleet, governor), name, f"{value:.6f}")


def at(fleet: Fleet, governor: Governor, rate: float, **fields: float) -> None:
    """Make a rate limiter that is past its start; times are those of Redis. Unit: s."""
    now = fleet.now()
    times = {"since": now - 60, "started": now - 60, "seen": now, "grown": 0.0} | fields
    put(fleet, governor, {"limit": rate / 0.8, "base": rate, "good": rate * 60})
    put(fleet, governor, {name: value * 1e6 for name, value in times.items()})
    fleet.redis.pexpire(key_of(fleet, governor), 60_000)


def let_a_second_pass(fleet: Fleet, governor: Governor) -> None:
    """Make the last refusal older, so that the next one lowers the rate again."""
    fleet.redis.hincrbyfloat(key_of(fleet, governor), "since", -1e6)


def governed(pool: ClientPool, server: HostileServer, governor: Governor) -> Repository:
    """A repository of a scripted server, whose client asks a governor."""
    made = client(pool, server, None)
    return pool.client(made.endpoint, governor=governor).repository("acme/app")


async def test_nothing_is_asked_of_redis_before_the_first_refusal(fleet: Fleet) -> None:
    worker = fleet.worker()
    governor = worker.governor()
    await governor.request()
    calls = worker.fleet.calls
    for _ in range(100):
        await governor.request()
        assert not await governor.answered(200)
    # The look at pauses, which is due twice a second.
    assert worker.fleet.calls - calls <= 2
    assert not fleet.redis.exists(key_of(fleet, governor))


async def test_the_first_refusal_makes_all_workers_share_the_rate_that_was_served(
    fleet: Fleet,
) -> None:
    first, second = (fleet.worker().governor() for _ in range(2))
    for governor in (first, second):
        await governor.request()
        for _ in range(10):
            await governor.answered(200)
    assert await first.answered(429, 1.0)
    assert first.is_limited

    async def heard() -> bool:
        await second.request()
        return second.is_limited

    await soon(heard, what="the rate limiter of another worker")
    await second.request()
    begin = fleet.now()
    served = state(fleet, first)
    # In one or two seconds 10 each, of which the second worker told within its first draw.
    assert 10 <= served["base"] <= 20
    await asyncio.gather(*(g.request() for g in (first, second) for _ in range(15)))
    span = fleet.now() - begin
    # It doubles within 4 s of demand; twice the rate is never reached here.
    assert span >= 30 / (2 * served["base"]) - 0.1


async def test_the_rate_goes_down_by_a_fifth_at_most_once_a_second(fleet: Fleet) -> None:
    governors = [fleet.worker().governor() for _ in range(2)]
    at(fleet, governors[0], 100.0)
    granted = {"second": int(fleet.now()), "g0": 100, "g1": 100}
    put(fleet, governors[0], granted)
    for governor in governors * 5:
        assert await governor.answered(429, 1.0)
    assert state(fleet, governors[0])["base"] == pytest.approx(80, rel=0.01)
    put(fleet, governors[0], {"good": 64})
    let_a_second_pass(fleet, governors[0])
    assert await governors[0].answered(503, 1.0)
    assert state(fleet, governors[0])["base"] == pytest.approx(64, rel=0.05)


async def test_a_registry_that_serves_far_less_is_asked_at_what_it_serves(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    second = int(fleet.now())
    at(fleet, governor, 100.0)
    counted = {"second": second, "g0": 0, "g1": 100, "r0": 0, "r1": 90}
    put(fleet, governor, counted)
    assert await governor.answered(429, 7.0)
    found = state(fleet, governor)
    assert 20 <= found["base"] <= 26
    # The whole fleet waits for the time that it named.
    assert found["free"] / 1e6 == pytest.approx(fleet.now() + 7, abs=1)


async def test_a_registry_that_refused_everything_is_soon_asked_as_before(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 100.0)
    for _ in range(8):
        assert await governor.answered(429, 1.0)
        let_a_second_pass(fleet, governor)
    found = state(fleet, governor)
    # What it refuses at any rate does not say how fast it may be asked: the limit of before holds.
    assert found["limit"] == pytest.approx(125, rel=0.01)
    assert found["base"] < 1

    # It doubles in 4 s while requests wait, up to 0.8 of it.
    doublings = math.log2(100 / found["base"])
    for times, rate in ((2, 4 * found["base"]), (doublings, 100.0)):
        put(fleet, governor, {"grown": times * 4e6, "free": 0, "last": 0})
        await governor.request()
        assert governor._limiter._rate == pytest.approx(rate, rel=0.1)


async def test_a_rate_that_is_served_again_and_refused_then_is_the_new_limit(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 100.0)
    put(fleet, governor, {"base": 5.0, "good": 0})
    await governor.request()
    for _ in range(3):
        assert not await governor.answered(200)
    assert await governor.answered(429, 1.0)
    found = state(fleet, governor)
    assert found["limit"] == pytest.approx(5, rel=0.1)
    assert found["base"] == pytest.approx(0.8 * found["limit"])


async def test_a_registry_that_ceases_to_serve_while_the_rate_grows_keeps_its_limit(
    fleet: Fleet,
) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 100.0)
    # On its way up, and served until now.
    put(fleet, governor, {"base": 5.0})
    for limit in (5, 125):
        assert await governor.answered(429, 1.0)
        assert state(fleet, governor)["limit"] == pytest.approx(limit, rel=0.01)
        let_a_second_pass(fleet, governor)


async def test_what_was_served_before_a_refusal_says_nothing_of_the_rate_after_it(
    fleet: Fleet,
) -> None:
    first, second = (fleet.worker().governor() for _ in range(2))
    at(fleet, first, 100.0)
    for governor in (first, second):
        await governor.request()
    # Nobody tells of it at once.
    for _ in range(20):
        assert not await second.answered(200)
    assert await first.answered(429, 1.0)
    await second.request()
    let_a_second_pass(fleet, first)
    assert await first.answered(429, 1.0)
    # It served nothing at the lower rate, so that the limit of before holds.
    assert state(fleet, first)["limit"] == pytest.approx(125, rel=0.01)


async def test_what_dead_workers_drew_holds_up_nobody_for_long(fleet: Fleet) -> None:
    dead = [fleet.worker().governor() for _ in range(6)]
    at(fleet, dead[0], 0.5)
    waiting = [asyncio.create_task(governor.request()) for governor in dead]
    await asyncio.wait(waiting, timeout=0.5)
    for task in waiting:
        task.cancel()
    begin = fleet.now()
    await fleet.worker().governor().request()
    # One request's time is 2 s; six are 12 s.
    assert fleet.now() - begin < 6


async def test_a_slow_rate_grows_all_the_time_that_requests_wait(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 0.1)
    await governor.request()
    begin = fleet.now()
    waiting = asyncio.create_task(governor.request())

    async def grown() -> bool:
        return state(fleet, governor)["grown"] >= 2.5e6

    await soon(grown, what="a rate that grows")
    assert fleet.now() - begin < 6
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting


async def test_the_rate_grows_while_requests_wait_and_not_else(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 50.0, seen=fleet.now() - 3600)
    await governor.request()
    assert state(fleet, governor)["grown"] == 0
    await asyncio.gather(*(governor.request() for _ in range(20)))
    assert state(fleet, governor)["grown"] > 0


async def test_the_limit_of_the_catalogue_is_the_ceiling(fleet: Fleet) -> None:
    governor = fleet.worker().governor(Limits(requests_per_second=20.0))
    at(fleet, governor, 1000.0)
    begin = fleet.now()
    await asyncio.gather(*(governor.request() for _ in range(11)))
    assert fleet.now() - begin >= 10 / 20 - 0.1


async def test_a_rate_limiter_is_forgotten(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 1.0)
    await governor.request()
    assert governor.is_limited
    fleet.redis.delete(key_of(fleet, governor))

    async def free() -> bool:
        await governor.request()
        return not governor.is_limited

    await soon(free, what="no rate limiter")


async def test_a_request_that_was_refused_goes_before_others(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 20.0)
    order: list[str] = []

    async def ask(name: str, *, again: bool) -> None:
        await governor.request(again=again)
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(ask(str(number), again=False))
        await asyncio.sleep(0)
        group.create_task(ask("again", again=True))
    assert "again" in order[:3]
    assert [name for name in order if name != "again"] == ["0", "1", "2", "3"]


async def test_a_request_that_waits_can_be_cancelled_and_holds_up_nobody(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 20.0, free=fleet.now() + 1)
    waiting = [asyncio.create_task(governor.request()) for _ in range(3)]
    # They do wait: none of them is through.
    assert not (await asyncio.wait(waiting, timeout=0.1))[0]
    waiting[0].cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(waiting[0], 0.5)
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting[1:])


async def test_a_wait_is_no_stall_of_its_job(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    at(fleet, governor, 20.0, free=fleet.now() + 0.2)
    seen: list[str] = []

    class Patience:
        def __enter__(self) -> None:
            seen.append("waits")

        def __exit__(self, *_: object) -> None:
            seen.append("goes on")

    with patient(Patience):
        await asyncio.create_task(governor.request())
    assert seen == ["waits", "goes on"]


async def test_without_redis_a_worker_keeps_the_rate_alone() -> None:
    fleet = Fleet(f"redis://127.0.0.1:{free_port()}/0")
    try:
        governor = fleet.worker().governor()
        assert await governor.answered(429, 1.0)
        assert governor.is_limited
        async with asyncio.timeout(10):
            await governor.request()
    finally:
        await fleet.close()


async def test_a_request_is_sent_again_by_itself(
    fleet: Fleet, pool: ClientPool, server: HostileServer
) -> None:
    server.expect("GET", TAG, SLOW)
    server.expect("GET", TAG, Reply(503, b"", {"Retry-After": "0"}))
    server.expect("GET", TAG, GOOD)

    governor = fleet.worker().governor(registry=server.address, user=None)
    found = await manifests.get(governed(pool, server, governor), "1")
    assert found.digest == MANIFEST.digest
    assert governor.is_limited


async def test_a_request_is_sent_again_until_the_registry_names_a_long_wait(
    fleet: Fleet, pool: ClientPool, server: HostileServer
) -> None:
    server.expect("HEAD", TAG, SLOW, times=2)
    server.expect("HEAD", TAG, Reply(429, b"", {"Retry-After": "31"}))

    governor = fleet.worker().governor(registry=server.address, user=None)
    with pytest.raises(RegistryPaused):
        await manifests.head(governed(pool, server, governor), "1")


async def test_storage_behind_a_registry_is_waited_for_and_limits_nothing_else(
    fleet: Fleet, pool: ClientPool, server: HostileServer, other: HostileServer
) -> None:
    where = {"Location": f"{other.base}/stored"}
    server.expect("GET", BLOB, Reply(307, headers=where), times=3)
    other.expect("GET", "/stored", SLOW)
    other.expect("GET", "/stored", Reply(503, b"", {"Retry-After": "0"}))
    other.expect("GET", "/stored", Reply(200, EMPTY))

    governor = fleet.worker().governor(registry=server.address, user=None)
    assert await blobs.fetch(governed(pool, server, governor), EMPTY_DIGEST, limit=10) == EMPTY
    assert not governor.is_limited


async def test_storage_that_only_refuses_ends_the_attempt(
    fleet: Fleet,
    pool: ClientPool,
    server: HostileServer,
    other: HostileServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "TRIES", 1)
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"{other.base}/stored"}), times=2)
    other.expect("GET", "/stored", SLOW, times=2)

    governor = fleet.worker().governor(registry=server.address, user=None)
    with pytest.raises(RateLimited):
        await blobs.fetch(governed(pool, server, governor), EMPTY_DIGEST, limit=10)


async def test_a_token_server_is_waited_for(
    fleet: Fleet, pool: ClientPool, server: HostileServer
) -> None:
    challenge = f'Bearer realm="{server.base}/token",service="r"'
    server.expect("GET", TAG, Reply(401, headers={"WWW-Authenticate": challenge}))
    server.expect("GET", TOKEN, SLOW)
    server.expect("GET", TOKEN, Reply(200, b'{"token": "t"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})

    governor = fleet.worker().governor(registry=server.address, user=None)
    await manifests.get(governed(pool, server, governor), "1")
    assert not governor.is_limited
