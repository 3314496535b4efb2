"""Redis is full: what is asked for is refused aloud, and what was accepted is not lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.images.corpus import KIB, separate_layers
from tests.support.images.corpus_fill import fill
from tests.support.ledger.dump import now_ms
from tests.support.ledger.leftovers import accepted_finishes, left_behind
from tests.support.processes import eventually
from tests.support.scripted_servers.holding_proxy import Gate
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component
from transship import Job, RedisUnreachable, State

pytestmark = [pytest.mark.redis, pytest.mark.registry]

CORPUS = separate_layers(3, 4 * KIB, seed="full")


class FullRedis:
    """A Redis of its own that can be full, and the gate before a target registry."""

    def __init__(self, server: RedisServer, source: Registry, gate: Gate) -> None:
        self.server, self.source, self.gate = server, source, gate
        #: Of the target; each test has its own.
        self.folder = f"full-{server.port}"
        self.client = server.client()

    def fill_up(self) -> None:
        """From now on each command that may need memory is refused."""
        self.client.config_set("maxmemory", "100kb")

    def make_room(self) -> None:
        """It takes all again."""
        self.client.config_set("maxmemory", "0")

    def copy(self, site: CopySite, number: int) -> Job:
        """Submit the copy of an image."""
        name = CORPUS.images[number].name
        return site.client.copy(
            f"{self.source.address}/{name}", f"{self.gate.address}/{self.folder}/{name}"
        )

    def submitted(self, site: CopySite) -> dict[str, Any]:
        """All that producers wrote."""
        found: dict[str, Any] = {}
        for key in self.client.scan_iter(f"{site.keys.account('default')}*"):
            if self.client.type(key) == "string":
                found[key] = self.client.get(key)
            elif self.client.type(key) == "zset":
                # The reaper moves the time of the next bell.
                found[key] = set(self.client.zrange(key, 0, -1))
        return found


@pytest.fixture
def full(plain_registry: Registry) -> Iterator[FullRedis]:
    fill(plain_registry.base, CORPUS)
    with RedisServer() as server, Gate(plain_registry.port) as gate:
        found = FullRedis(server, plain_registry, gate)
        yield found
        found.client.close()


@pytest.fixture
def site(tmp_path: Path, full: FullRedis) -> Iterator[CopySite]:
    found = CopySite(tmp_path, full.server.url)
    found.write_catalog(
        {"a": component(full.source.address), "b": component(f"{full.gate.address}/{full.folder}")}
    )
    yield found
    full.make_room()
    found.close()


def test_submits_to_a_full_redis_fail_loudly_and_leave_nothing(
    site: CopySite, full: FullRedis
) -> None:
    site.write_catalog({"a": component(full.source.address), "b": component(full.gate.address)})
    before = full.submitted(site)
    full.fill_up()

    image = f"{full.gate.address}/full/app:1"
    one = site.run("push", image, "--registry", "b")
    other = site.run("copy", image, f"{image}-copy", "--from", "b", "--to", "b")
    with pytest.raises(RedisUnreachable, match="is full"):
        site.client.copy(image, f"{image}-2", source_registry="b", target_registry="b")

    for done in (one, other):
        assert (done.returncode, done.stdout) == (3, ""), done
        assert "is full (maxmemory); nothing was accepted" in done.stderr
        assert done.stderr.strip().count("\n") == 0
    assert full.submitted(site) == before
    full.make_room()
    assert site.client.jobs() == []


@pytest.mark.parametrize("lease_s", [60, 3], ids=["a while", "longer than a lease"])
def test_what_was_accepted_outlives_a_redis_that_is_full(
    site: CopySite, full: FullRedis, lease_s: int
) -> None:
    worker = site.start_copier(TRANSSHIP_LEASE=str(lease_s))
    first = CORPUS.images[0]
    place = f"{full.folder}/{first.repository}"
    held = full.gate.hold("POST", f"/v2/{place}/blobs/uploads/")
    running = full.copy(site, 0)
    eventually(held.reached.is_set, what="a running copy")
    # Its bell is there, and the worker takes it when there is no room to note that.
    worker.freeze()
    waiting = full.copy(site, 1)
    full.fill_up()
    worker.thaw()
    lease_ends = now_ms(full.client) + lease_s * 1000

    if lease_s < 10:
        eventually(lambda: now_ms(full.client) > lease_ends, what="the end of the lease")
        assert eventually(lambda: "given up" in worker.log_text())
        full.gate.release()
    else:
        full.gate.release()
        uploads = re.compile(rf"/v2/{place}/blobs/uploads/.+")
        eventually(
            lambda: (
                len([p for p in full.gate.passed if p.method == "PUT" and uploads.match(p.path)])
                == 2
            ),
            what="the blobs",
        )
    assert running.record().state is State.RUNNING
    assert waiting.record().state is State.QUEUED
    assert worker.running

    full.make_room()
    # A bell that was lost is rung again after ten seconds, which are not waited for.
    for key in full.client.scan_iter(f"{site.keys.prefix}*due:*"):
        full.client.zadd(key, {waiting.id: 1}, xx=True)
    record = running.wait(60)
    assert record.attempts == (1 if lease_s > 10 else 2)
    assert waiting.wait(60).attempts == 1
    # The worker takes new work as before.
    full.copy(site, 2).wait(60)
    assert worker.running
    for number, job in enumerate((running, waiting)):
        assert job.record().digest == CORPUS.images[number].digest
        assert accepted_finishes(full.client, site.keys, job.id) == 1
    eventually(lambda: not left_behind(full.client, site.keys), what="nothing left behind")


def test_a_full_redis_is_told_from_one_that_is_away(full: FullRedis) -> None:
    full.fill_up()
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.client.set("key", "value")
    assert full.client.ping()


def test_workers_that_start_or_connect_again_while_redis_is_full_wait_for_room(
    site: CopySite, full: FullRedis
) -> None:
    one = site.start_copier()
    full.copy(site, 0).wait(30)
    full.fill_up()
    full.client.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: "maxmemory" in one.log_text(), what="a refusal")
    with ThreadPoolExecutor(1) as aside:
        # It is there for producers only once there is room.
        starting = aside.submit(site.start_copier)
        eventually(lambda: len(site.workers) == 2, what="another worker")
        other = site.workers[1]
        eventually(lambda: "maxmemory" in other.log_text(), what="a refusal at the start")
        assert (one.running, other.running) == (True, True)
        full.make_room()
        assert starting.result(30) is other

    for number, frozen in enumerate((one, other), 1):
        frozen.freeze()
        full.copy(site, number).wait(60)
        frozen.thaw()
