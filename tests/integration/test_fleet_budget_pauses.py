"""Pauses: what a registry asks of one worker, all keep; on a real Redis and scripted registries."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from tests.support.fleet.budgets import Fleet
from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, client, make_manifest, stream
from tests.support.processes import free_port, soon
from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import PushError, RateLimited, RegistryPaused, RegistryUnavailable
from transship_worker.credentials.access import Credentials
from transship_worker.fleet import limiter
from transship_worker.fleet.budget import Governor
from transship_worker.fleet.limits import Limits
from transship_worker.oci import blobs, manifests, uploads
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import OCI_MANIFEST
from transship_worker.oci.errors import refusal_of
from transship_worker.oci.headers import RateLimit
from transship_worker.oci.pool import ClientPool

pytestmark = pytest.mark.redis

LOGIN = Credentials("pusher", SecretStr("s3cret-password"))
MANIFEST = make_manifest()
GOOD = Reply(200, MANIFEST.raw, {"Content-Type": OCI_MANIFEST})
TAG = "/v2/acme/app/manifests/1"
BLOB = f"/v2/acme/app/blobs/{EMPTY_DIGEST}"
UPLOADS = "/v2/acme/app/blobs/uploads/"
TOO_MANY = Reply(429, b"", {"Retry-After": "40"})


def governed(pool: ClientPool, server: HostileServer, governor: Governor) -> Repository:
    """A repository of a scripted server, whose client asks a governor."""
    made = client(pool, server, LOGIN)
    again = pool.client(made.endpoint, LOGIN, governor=governor)
    assert again is made
    return again.repository("acme/app")


def left_ms(fleet: Fleet, governor: Governor, *, pulls: bool = False) -> int:
    """What is left of a pause."""
    login = governor.login.pulls if pulls else governor.login
    key = fleet.keys.pause(login.registry, login.name)
    return int(fleet.redis.pttl(key))


async def paused(governor: Governor, *, pull: bool = False) -> RegistryPaused | None:
    """The error of the next request."""
    try:
        await governor.request(pull=pull)
    except RegistryPaused as error:
        return error
    return None


async def test_a_pause_reaches_the_other_workers_and_nobody_else(fleet: Fleet) -> None:
    first, second = fleet.worker(), fleet.worker()
    bystanders = [second.governor(user=None), second.governor(registry="other.example.com")]
    mine, theirs = first.governor(), second.governor()
    for governor in (mine, theirs, *bystanders):
        await governor.request()

    with pytest.raises(RegistryPaused) as met:
        await mine.answered(429, 40.0, reason="too many requests\nfrom here")

    heard = await soon(lambda: paused(theirs), what="a pause of the other worker")
    assert heard.message == met.value.message
    assert "registry.example.com is not asked until 2" in heard.message
    assert heard.message.endswith("Z: too many requests from here")
    for error in (met.value, heard):
        assert error.retryable
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 40
    assert [await paused(governor) for governor in bystanders] == [None, None]


async def test_a_pause_ends_by_itself_and_when_somebody_lifts_it(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    key = fleet.keys.pause(governor.login.registry, governor.login.name)
    # What another worker wrote 39 s ago.
    fleet.redis.set(key, f"{int(fleet.now() * 1000) + 1000} it answered 429", px=1000)
    assert await paused(governor) is not None

    async def goes_on() -> bool:
        return await paused(governor) is None

    await soon(goes_on, what="the end of a pause")
    with pytest.raises(RegistryPaused):
        await governor.answered(429, 3600.0)
    fleet.redis.delete(key)
    await soon(goes_on, what="a pause that was lifted")


async def test_a_pause_is_never_cut_short(fleet: Fleet) -> None:
    governor = fleet.worker().governor()
    for wait_s in (3600.0, 31.0):
        with pytest.raises(RegistryPaused):
            await governor.answered(429, wait_s)
        assert left_ms(fleet, governor) > 3_000_000
    for short_s in (None, 0.0, 30.0):
        assert await governor.answered(429, short_s)
        assert left_ms(fleet, governor) > 3_000_000
    with pytest.raises(RegistryPaused):
        await governor.answered(429, 7200.0)
    assert left_ms(fleet, governor) > 7_000_000


async def test_a_registry_that_refuses_all_is_paused_for_longer_each_time(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "REFUSES_ALL_S", 0.0)
    workers = [fleet.worker().governor() for _ in range(2)]
    key = fleet.keys.pause(workers[0].login.registry, workers[0].login.name)
    for governor in workers:
        for _ in range(limiter.REFUSES_ALL - 1):
            assert await governor.answered(429, 1.0)
    found = []
    for _ in range(8):
        # Many requests are on their way when the first is refused: that is one time.
        for governor in workers * 3:
            with pytest.raises(RegistryPaused, match="refuses all requests"):
                await governor.answered(429, 1.0)
        found.append(_length(fleet, key))
        # What the end of the pause does.
        fleet.redis.delete(key)
    assert found == [5, 10, 20, 40, 80, 160, 300, 300]
    rate = fleet.keys.rate(workers[0].login.registry, workers[0].login.name)
    fleet.redis.delete(rate)
    with pytest.raises(RegistryPaused):
        await workers[0].answered(429)
    assert _length(fleet, key) == 5
    fleet.redis.delete(key)
    # It serves one: what it refuses then is waited for in place.
    assert not await workers[0].answered(200)
    assert await workers[0].answered(429, 1.0)


def _length(fleet: Fleet, key: str) -> int:
    """How long a pause was made. Unit: s."""
    stored = fleet.redis.hget(key.replace(":pause:", ":rate:"), "pause")
    assert fleet.redis.pttl(key) in range(1, int(str(stored)) + 1)
    return int(str(stored)) // 1000


@pytest.mark.parametrize(
    ("status", "retry_after_s", "pauses"),
    [
        (429, 31.0, True),
        (503, 31.0, True),
        (429, None, False),
        (429, 30.0, False),
        (503, 30.0, False),
        (503, None, False),
        (500, 7.0, False),
        (200, None, False),
        (404, None, False),
    ],
)
async def test_only_what_asks_for_a_pause_is_one(
    fleet: Fleet, status: int, retry_after_s: float | None, pauses: bool
) -> None:
    governor = fleet.worker().governor()
    try:
        await governor.answered(status, retry_after_s)
        ended = False
    except RegistryPaused:
        ended = True
    assert ended == pauses
    assert (await paused(governor) is not None) == pauses


async def test_used_up_pulls_pause_the_fleets_pulls_and_nothing_else(fleet: Fleet) -> None:
    governor, theirs = fleet.worker().governor(), fleet.worker().governor()
    some = RateLimit(100, 1, 21_600.0, "192.0.2.7")
    await governor.answered(200, None, some)
    assert governor.rate_limit == some
    assert await paused(governor, pull=True) is None
    for _ in range(2):
        await governor.answered(200, None, RateLimit(100, 0, 21_600.0, "192.0.2.7"))
    assert await paused(governor, pull=True) is not None
    heard = await soon(lambda: paused(theirs, pull=True), what="a pause of the other worker")
    assert "pulls" in heard.message
    assert 300_000 < left_ms(fleet, governor, pulls=True) <= 900_000
    # Looking costs no pull, and so planning goes on.
    assert await paused(governor) is None
    with pytest.raises(RegistryPaused):
        await governor.answered(429, None, RateLimit(100, 0, 21_600.0, "192.0.2.7"))
    assert await paused(governor) is None


async def test_a_worker_pauses_alone_while_redis_is_away() -> None:
    fleet = Fleet(f"redis://127.0.0.1:{free_port()}/0")
    try:
        governor = fleet.worker().governor()
        with pytest.raises(RegistryPaused) as met:
            await governor.answered(429, 40.0)
        assert met.value.retry_after_s is not None
        assert met.value.retry_after_s <= 40
        assert await paused(governor) is not None
    finally:
        await fleet.close()


async def test_a_request_that_meets_a_429_ends_with_the_pause_and_no_other_is_sent(
    fleet: Fleet, server: HostileServer
) -> None:
    server.expect("GET", TAG, TOO_MANY)

    async with ClientPool({}) as one, ClientPool({}) as two:
        governors = [fleet.worker().governor(registry=server.address) for _ in range(2)]
        mine = governed(one, server, governors[0])
        theirs = governed(two, server, governors[1])
        with pytest.raises(RegistryPaused) as met:
            await manifests.get(mine, "1")
        assert met.value.retry_after_s is not None
        assert 0 < met.value.retry_after_s <= 40
        found = refusal_of(met.value)
        assert found is not None
        assert found.status == 429
        for repository in (mine, theirs):
            # The script has no second request.
            with pytest.raises(RegistryPaused, match="answered 429"):
                await manifests.get(repository, "1")


async def test_an_upload_that_meets_a_429_ends_with_the_pause(
    fleet: Fleet, pool: ClientPool, server: HostileServer
) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/v2/acme/app/blobs/uploads/1"}))
    server.expect("PATCH", f"{UPLOADS}1", TOO_MANY)

    governor = fleet.worker().governor(Limits(bytes_per_second=1_000_000), registry=server.address)
    upload = await uploads.start(governed(pool, server, governor))
    with pytest.raises(RegistryPaused):
        await upload.patch(lambda: stream(EMPTY))
    # The bytes were counted on their way.
    rate = fleet.keys.rate(governor.login.registry, governor.login.name)
    assert fleet.redis.hexists(rate, "bytes")


async def test_bytes_that_are_read_are_counted(
    fleet: Fleet, pool: ClientPool, server: HostileServer
) -> None:
    server.expect("GET", BLOB, Reply(200, EMPTY))

    governor = fleet.worker().governor(Limits(bytes_per_second=1_000_000), registry=server.address)
    assert await blobs.fetch(governed(pool, server, governor), EMPTY_DIGEST, limit=10) == EMPTY
    rate = fleet.keys.rate(governor.login.registry, governor.login.name)
    assert fleet.redis.hexists(rate, "bytes")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(429, b"", {"Retry-After": "40"}), RateLimited),
        (Reply(503, b"", {"Retry-After": "40"}), RegistryUnavailable),
    ],
)
async def test_what_storage_asks_for_is_no_pause_of_the_registry(
    fleet: Fleet,
    pool: ClientPool,
    server: HostileServer,
    other: HostileServer,
    reply: Reply,
    kind: type[PushError],
) -> None:
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"{other.base}/stored"}))
    other.expect("GET", "/stored", reply)

    governor = fleet.worker().governor(registry=server.address)
    with pytest.raises(kind) as met:
        await blobs.fetch(governed(pool, server, governor), EMPTY_DIGEST, limit=10)
    assert type(met.value) is kind
    assert met.value.retry_after_s == 40
    assert await paused(governor) is None


async def test_what_a_token_server_asks_for_is_no_pause_of_the_registry_and_costs_no_request(
    fleet: Fleet, pool: ClientPool, server: HostileServer
) -> None:
    challenge = f'Bearer realm="{server.base}/token",service="r"'
    server.expect("GET", TAG, Reply(401, headers={"WWW-Authenticate": challenge}))
    query = "service=r&scope=repository:acme/app:pull&client_id=transship&account=pusher"
    server.expect("GET", f"/token?{query}", TOO_MANY)

    governor = fleet.worker().governor(Limits(requests_per_second=0.001), registry=server.address)
    with pytest.raises(RegistryPaused) as met:
        await manifests.get(governed(pool, server, governor), "1")
    assert met.value.retry_after_s == 40
    # The job waits, and the registry itself is not paused. Nor did it wait for the second
    # request of the budget, which is due in 1000 s.
    assert left_ms(fleet, governor) == -2


async def test_the_pull_limit_is_there_for_whoever_plans(
    fleet: Fleet, pool: ClientPool, server: HostileServer
) -> None:
    said = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}
    said["Docker-Content-Digest"] = MANIFEST.digest
    server.expect("HEAD", TAG, Reply(200, MANIFEST.raw, {**GOOD.headers, **said}))

    governor = fleet.worker().governor(registry=server.address)
    await manifests.head(governed(pool, server, governor), "1")
    assert governor.rate_limit == RateLimit(100, 76, 21_600.0, None)


async def test_workers_that_ask_a_registry_keep_its_rate_together(
    fleet: Fleet, server: HostileServer
) -> None:
    rate, each = 30.0, 30
    server.expect("GET", TAG, GOOD, times=3 * each)

    limits = Limits(requests_per_second=rate)
    pools = [ClientPool({}) for _ in range(3)]
    repositories = [
        governed(pool, server, fleet.worker().governor(limits, registry=server.address))
        for pool in pools
    ]
    begin = fleet.now()
    await asyncio.gather(*(manifests.get(r, "1") for r in repositories * each))
    span = fleet.now() - begin
    for pool in pools:
        await pool.close()
    # The life of a batch (1 s), and one batch (0.25 s).
    assert len(server.seen) <= rate * (span + 1.25)
