"""``sentinel://``: clients of all kinds find the primary, before and after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.ledger.bench import push_request
from tests.support.processes import eventually, free_port
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.certificates import Authority
from tests.support.servers.redis import RedisTls
from tests.support.servers.sentinel import ReplicatedRedis, SentinelServer, Watched
from transship import Client, RedisUnreachable
from transship.cli import main
from transship.errors import RedisIsReplica
from transship.ledger import primary
from transship.ledger.connection import address, connect
from transship.ledger.notifications import Bell, Doorbell
from transship.model.jobs import JobId
from transship_config.settings import Settings
from transship_worker.fleet.redis import FleetRedis

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """A primary and a replica under three sentinels, each with a password of its own."""
    with Watched(password="of@redis", sentinel_password="of+sentinels&") as made:
        yield made


def _settings(url: str) -> Settings:
    return Settings.from_environment({"TRANSSHIP_URL": url})


async def _asked(url: str) -> int:
    async with FleetRedis(url) as fleet:
        return int(await fleet.ask(lambda: fleet.client.incr("asked"), patience_s=20))


def _all_kinds_reach_the_primary(url: str, port: int, number: int) -> None:
    """The ledger's connections, those of the background loop, and Celery's."""
    with connect(url) as client:
        client.incr("written")
        assert client.info("replication")["role"] == "master"
    assert asyncio.run(_asked(url)) == number
    doorbell = Doorbell(_settings(url), url)
    try:
        for again in (False, True):
            jobs = [JobId.new("default") for _ in range(1 + again)]
            doorbell.ring([Bell.of(job, push_request(), again=again) for job in jobs])
    finally:
        doorbell.close()
    with connect(url) as client:
        assert client.llen("transship:celery:push.*") == 3 * number
    address = primary.primary_of(url).address
    assert address is not None
    assert address[1] == port


def test_all_kinds_of_clients_find_the_primary_before_and_after_a_failover(
    watched: Watched,
) -> None:
    _all_kinds_reach_the_primary(watched.url, watched.primary.port, 1)
    watched.fail_over()
    eventually(watched.settled, what="a replica in sync")
    _all_kinds_reach_the_primary(watched.url, watched.primary.port, 2)


def test_an_old_primary_that_wakes_up_gets_no_write_of_an_idle_client(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A failover of these sentinels takes 2 s.
    monkeypatch.setattr(primary, "ROLE_KNOWN_S", 0.5)
    eventually(watched.settled, what="a replica in sync")
    old = watched.primary
    # Written otherwise, so that nothing is known of it from other tests.
    with connect(watched.url.replace("/mymaster/0", "/mymaster")) as client:
        client.set("before", 1)
        old.freeze()
        try:
            new = watched.moved_from(old)
        finally:
            old.thaw()
        # It still takes itself for the primary, and the client has heard of nothing.
        client.set("after", 1)
        assert client.info("replication")["role"] == "master"
    with new.client() as direct:
        assert direct.get("after") == "1"
    eventually(watched.settled, what="a replica in sync")


def test_a_new_connection_that_is_led_elsewhere_ends_the_older_ones(watched: Watched) -> None:
    eventually(watched.settled, what="a replica in sync")
    old = watched.primary
    with connect(watched.url.replace("/mymaster/0", "/mymaster/1")) as client:
        pool = client.connection_pool
        older = pool.get_connection()
        old.freeze()
        try:
            watched.moved_from(old)
            newer = pool.get_connection()
            assert older.is_left
            assert not newer.is_left
            newer.send_command("PING")
            assert newer.read_response() == "PONG"
        finally:
            old.thaw()
        pool.release(older)
        pool.release(newer)
    eventually(watched.settled, what="a replica in sync")


def test_doctor_names_the_primary(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRANSSHIP_URL", watched.url)
    main(["doctor"])
    said = capsys.readouterr().out
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in watched.sentinels)
    place = f"sentinel://{hosts}/mymaster/0, primary 127.0.0.1:{watched.primary.port}"
    assert place in said
    assert "of@redis" not in said


def test_sentinels_that_are_away_or_know_nothing_are_passed_over(watched: Watched) -> None:
    away = f"127.0.0.1:{free_port()}"
    # A Redis is no sentinel.
    login, _, rest = watched.url.partition("@")
    url = f"{login}@{away},127.0.0.1:{watched.primary.port},{rest}"
    with connect(url, retries=0) as client:
        assert client.ping()


def test_a_sentinel_that_is_cut_off_and_names_a_dead_server_is_not_asked_for_ever(
    watched: Watched,
) -> None:
    login, _, rest = watched.url.partition("@")
    dead = ReplicatedRedis()
    with SentinelServer(dead, 2, password="of+sentinels&") as sentinel:
        url = f"{login}@127.0.0.1:{sentinel.port},{rest}"
        with connect(url) as client:
            assert client.info("replication")["role"] == "master"
        assert asyncio.run(_asked(url)) > 0
    dead.close()


def test_a_sentinel_has_an_ipv6_address(watched: Watched) -> None:
    six = watched.url.replace("127.0.0.1", "[::1]")
    with connect(six, retries=0) as client:
        assert client.ping()
    assert address(six).startswith("sentinel://[::1]:")


@pytest.mark.parametrize(
    ("service", "password", "problem"),
    [
        ("other", "of%2Bsentinels%26", "knows no service 'other'"),
        ("mymaster", "wrong", "(?i)no sentinel names the primary .*(WRONGPASS|invalid)"),
    ],
)
def test_what_no_sentinel_knows_ends_in_one_line_without_a_password(
    watched: Watched, service: str, password: str, problem: str
) -> None:
    hosts = watched.url.partition("@")[2].partition("/")[0]
    url = f"sentinel://:of%40redis@{hosts}/{service}/0?sentinel_password={password}"
    with Client(settings=_settings(url)) as client, pytest.raises(RedisUnreachable) as refused:
        client.jobs()
    assert refused.match(problem)
    assert "\n" not in refused.value.message
    assert "redis@" not in refused.value.message
    assert "sentinels" not in refused.value.message.replace("no sentinel", "")
    assert refused.value.exit_status == 3


def test_redis_and_sentinels_are_reached_by_tls(authority: Authority) -> None:
    certificate, key = authority.issue("127.0.0.1")
    with Watched(sentinels=1, tls=RedisTls(authority.ca, certificate, key)) as made:
        _all_kinds_reach_the_primary(made.url, made.primary.port, 1)
        unchecked = made.url.replace("ssl=true", "ssl=true&sentinel_ssl=false")
        with Client(settings=_settings(unchecked)) as client, pytest.raises(RedisUnreachable):
            client.jobs()
        stranger = made.url.partition("?")[0] + "?ssl=true"
        with (
            Client(settings=_settings(stranger)) as client,
            pytest.raises(RedisUnreachable, match="not trusted"),
        ):
            client.jobs()


def test_a_replica_is_refused_where_a_primary_is_meant() -> None:
    with Watched(sentinels=1) as made:
        replica = next(one for one in made.servers if one is not made.primary)
        with (
            Client(settings=_settings(replica.url)) as client,
            pytest.raises(RedisIsReplica, match="is a replica, not the primary"),
        ):
            client.jobs()


@pytest.mark.parametrize(
    "command",
    [
        ["push", "registry.example.com/a:1", "--registry", "prod"],
        ["copy", "a.example/b:1", "c.example/d:1", "--from", "a", "--to", "b"],
        ["cancel", "0" * 20],
        ["retry", "0" * 20],
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_writes_says_which_address_would_be_right(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Watched(sentinels=1) as made:
        replica = next(one for one in made.servers if one is not made.primary)
        monkeypatch.setenv("TRANSSHIP_URL", replica.url)
        status = main(command)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"127.0.0.1:{replica.port}/0 is a replica, not the primary, and takes no writes" in line
    assert "set TRANSSHIP_URL to its primary, or to the sentinels" in line
    assert "of@redis" not in line
    assert status == 2


def test_an_address_that_led_to_a_primary_before_may_do_so_again() -> None:
    with Watched(sentinels=1) as made:
        replica = next(one for one in made.servers if one is not made.primary)
        with TcpProxy(made.primary.port) as way:
            url = made.primary.url.replace(f":{made.primary.port}/", f":{way.port}/")
            with Client(settings=_settings(url)) as client:
                client.jobs()
                way.lead_to(replica.port)
                way.cut()
                with pytest.raises(RedisUnreachable, match="is a replica") as refused:
                    client.jobs()
                assert refused.value.exit_status == 3
