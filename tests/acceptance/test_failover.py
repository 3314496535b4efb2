"""Redis moves to another server: workers, clients and Flower go on with the new primary."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import requests

from tests.acceptance.test_flower import Flower
from tests.support.images.registry_images import image, noise, put_image, repository, with_pool
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.registry import Registry
from tests.support.servers.sentinel import ReplicatedRedis, Watched
from tests.support.workers.copy_site import CopySite, component
from tests.support.workers.process import WorkerProcess
from transship import RedisUnreachable, State
from transship_worker.oci.pool import ClientPool

pytestmark = [pytest.mark.redis, pytest.mark.registry]

#: From the moment that a new primary can be reached to the end of a copy that is submitted then.
#: Unit: s.
WITHIN_S: Final = 10.0


@dataclass
class Fleet:
    """A worker and a long-lived client."""

    site: CopySite
    worker: WorkerProcess
    registry: Registry
    copies: int = 0

    def copy(self) -> str:
        """Submit a copy and wait for its end; an error of Redis goes to the caller."""
        self.copies += 1
        address = self.registry.address
        job = self.site.client.copy(
            f"{address}/moved/app:1", f"{address}/moved/copies:{time.time_ns()}"
        )
        assert job.wait(30).state is State.SUCCEEDED
        return job.id

    def goes_on(self) -> None:
        """Copy as soon as Redis lets it; the moment of the call is when a primary is reachable."""
        reachable = time.monotonic()

        def copied() -> bool:
            with suppress(RedisUnreachable):
                self.copy()
                return True
            return False

        eventually(copied, what="a copy after the failover")
        took = time.monotonic() - reachable
        assert took < WITHIN_S, f"{took:.1f} s\n{self.worker.log_text()[-4000:]}"
        assert self.worker.running
        print(f"continued after {took:.1f} s")  # noqa: T201 - the figure of the docs


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def _fleet(stack: ExitStack, folder: Path, url: str, registry: Registry) -> Fleet:
    async def fill(pool: ClientPool) -> None:
        layer = noise(3_000, "moved")
        source = repository(pool, registry.address, "moved/app")
        await put_image(source, image(layer), layer, b"{}", tag="1")

    with_pool(fill)
    site = CopySite(folder / "site", url)
    stack.callback(site.close)
    site.write_catalog({"lab": component(registry.address)})
    fleet = Fleet(site, site.start_copier(), registry)
    fleet.copy()
    return fleet


def _frozen(server: ReplicatedRedis, stack: ExitStack) -> None:
    server.freeze()
    stack.callback(server.thaw)


@pytest.mark.parametrize("strike", ["killed", "paused", "asked"])
def test_a_fleet_goes_on_after_a_failover_of_sentinels(
    tmp_path: Path, stack: ExitStack, plain_registry: Registry, strike: str
) -> None:
    watched = stack.enter_context(Watched())
    fleet = _fleet(stack, tmp_path, watched.url, plain_registry)
    old = watched.primary
    if strike == "killed":
        old.kill9()
    elif strike == "paused":
        _frozen(old, stack)
    else:
        watched.fail_over()
    new = watched.moved_from(old)
    fleet.goes_on()
    eventually(
        lambda: f"connected to the primary at 127.0.0.1:{new.port}" in fleet.worker.log_text(),
        what="a word of the worker's log",
    )


@dataclass
class Moving:
    """Two servers and an address that leads to one of them."""

    old: ReplicatedRedis
    new: ReplicatedRedis
    proxy: TcpProxy

    @property
    def url(self) -> str:
        return f"redis://{self.proxy.address}/0"


@pytest.fixture
def moving(stack: ExitStack) -> Moving:
    old = stack.enter_context(ReplicatedRedis())
    new = stack.enter_context(ReplicatedRedis())
    new.follow(old)
    return Moving(old, new, stack.enter_context(TcpProxy(old.port)))


def _demoted(moving: Moving, _: ExitStack) -> str:
    moving.new.follow(None)
    moving.proxy.lead_to(moving.new.port)
    moving.old.follow(moving.new)
    return "(refuses writes as|is|became) a replica"


def _silent(moving: Moving, stack: ExitStack) -> str:
    _frozen(moving.old, stack)
    moving.new.follow(None)
    moving.proxy.lead_to(moving.new.port)
    return "does not answer"


def _cut(moving: Moving, _: ExitStack) -> str:
    moving.old.kill9()
    moving.new.follow(None)
    moving.proxy.lead_to(moving.new.port)
    return ""


@pytest.mark.parametrize("strike", [_demoted, _silent, _cut])
def test_a_fleet_goes_on_where_an_address_leads_to_another_server(
    tmp_path: Path,
    stack: ExitStack,
    plain_registry: Registry,
    moving: Moving,
    strike: Callable[[Moving, ExitStack], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = _fleet(stack, tmp_path, moving.url, plain_registry)
    reason = strike(moving, stack)
    fleet.goes_on()
    if reason:
        said = re.compile(f"Redis: the server at {moving.proxy.address} {reason}")
        assert said.search(caplog.text)
        eventually(lambda: said.search(fleet.worker.log_text()), what="a word of the worker's log")


def test_a_primary_that_becomes_a_replica_and_primary_again_is_used_again(
    tmp_path: Path, stack: ExitStack, plain_registry: Registry, moving: Moving
) -> None:
    fleet = _fleet(stack, tmp_path, moving.old.url, plain_registry)
    moving.new.follow(None)
    moving.old.follow(moving.new)
    with pytest.raises(RedisUnreachable, match=r"(is|as) a replica"):
        fleet.copy()
    eventually(
        lambda: "replica" in fleet.worker.log_text(), within=15, what="a word of the worker's log"
    )
    moving.old.follow(None)
    fleet.goes_on()


def test_flower_shows_what_happens_after_a_failover_of_sentinels(
    tmp_path: Path, stack: ExitStack, plain_registry: Registry
) -> None:
    watched = stack.enter_context(Watched())
    fleet = _fleet(stack, tmp_path, watched.url, plain_registry)
    flower = stack.enter_context(Flower(fleet.site))
    old = watched.primary
    old.kill9()
    watched.moved_from(old)
    fleet.goes_on()

    # Celery's events are not kept for who is away: a copy counts that begins when Flower listens.
    def shown() -> bool:
        job = fleet.copy()
        with suppress(pytest.fail.Exception):
            eventually(lambda: f"{job}.1" in flower.tasks(), within=2)
            return True
        return False

    eventually(shown, within=60, what="a task after the failover in Flower")
    answer = requests.get(f"{flower.base}/api/queues/length", timeout=10)
    assert "push.*" in answer.text, answer.text
