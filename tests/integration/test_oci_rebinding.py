"""The addresses that a worker connects to, by the system's resolver and a DNS server that lies.

The networks are real, with addresses of each class on either end; so is each connection.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST
from tests.support.scripted_servers.hostile import HostileServer, Reply
from tests.support.servers import rebinding
from tests.support.servers.rebinding import JoinedNetworks

NAME = "registry.example.com"
BLOB = f"/v2/acme/app/blobs/{EMPTY_DIGEST}"
#: Reads one blob as often as it is told to; tells what came of it, a line each.
_READ = """
import asyncio, sys
from transship.errors import TransshipError
from transship_worker.oci import blobs, connections
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool

async def main(base, digest, times):
    connections.NAME_CACHE_S = 0
    async with ClientPool({}) as pool:
        registry = pool.client(Endpoint("registry.example.com", endpoint=base))
        for _ in range(times):
            try:
                print(await blobs.fetch(registry.repository("acme/app"), digest, limit=100))
            except TransshipError as error:
                print(type(error).__name__, error.message)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture(scope="module")
def networks() -> Iterator[JoinedNetworks]:
    with JoinedNetworks() as made:
        yield made


class Servers:
    """Scripted servers at addresses of both ends, on one port each."""

    def __init__(self, networks: JoinedNetworks, stack: ExitStack) -> None:
        self._networks, self._stack = networks, stack

    def far(self, address: str) -> HostileServer:
        """One that is not on the worker's machine."""
        made = self._networks.far.run(lambda: HostileServer(address=address))
        return self._stack.enter_context(made)

    def near(self, address: str, port: int) -> HostileServer:
        """One on the worker's machine."""
        made = self._networks.near.run(lambda: HostileServer(address=address, port=port))
        return self._stack.enter_context(made)


@pytest.fixture
def servers(networks: JoinedNetworks) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(networks, stack)


def read(networks: JoinedNetworks, base: str, times: int = 1) -> list[str]:
    """What came of reading the blob so often."""
    done = networks.worker(Path(sys.executable), "-c", _READ, base, EMPTY_DIGEST, str(times))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _leads(server: HostileServer, place: str, times: int) -> None:
    reply = Reply(307, headers={"Location": place, "Connection": "close"})
    server.expect("GET", BLOB, reply, times=times)


def test_a_redirect_to_a_name_that_is_rebound_is_followed_outside_alone(
    networks: JoinedNetworks, servers: Servers
) -> None:
    registry = servers.far(rebinding.FAR_GLOBAL)
    inside = [rebinding.FAR_PRIVATE, rebinding.FAR_SHARED, rebinding.FAR_LINK]
    inside += [rebinding.FAR_METADATA, rebinding.NEAR_PRIVATE, rebinding.NEAR_GLOBAL, "127.0.0.1"]
    watched = [servers.near(one, registry.port) for one in inside[4:]]
    networks.dns.say(NAME, [rebinding.FAR_GLOBAL])
    networks.dns.say("cdn.example", [rebinding.FAR_GLOBAL], *([one] for one in inside))
    _leads(registry, f"http://cdn.example:{registry.port}/x", 1 + len(inside))
    registry.expect("GET", "/x", Reply(200, EMPTY, {"Connection": "close"}))

    came = read(networks, f"http://{NAME}:{registry.port}", 1 + len(inside))

    assert came[0] == str(EMPTY)
    classes = ["private", "private", "link-local", "metadata", "of this machine"]
    classes += ["of this machine", "loopback"]
    for line, address, what in zip(came[1:], inside, classes, strict=True):
        assert line.startswith("RegistryUntrusted"), line
        assert f"{address} is a" in line
        assert what in line
    assert networks.dns.asked.count("cdn.example") == len(came)
    assert [one.seen for one in watched] == [[]] * len(watched)


def test_a_registry_whose_own_name_is_rebound_is_not_asked_inside(
    networks: JoinedNetworks, servers: Servers
) -> None:
    registry = servers.far(rebinding.FAR_GLOBAL)
    inside = [rebinding.FAR_PRIVATE, rebinding.NEAR_PRIVATE, "127.0.0.1", rebinding.FAR_METADATA]
    watched = [servers.near(one, registry.port) for one in inside[1:3]]
    networks.dns.say(NAME, [rebinding.FAR_GLOBAL], *([one] for one in inside))
    registry.expect("GET", BLOB, Reply(200, EMPTY, {"Connection": "close"}))

    came = read(networks, f"http://{NAME}:{registry.port}", 1 + len(inside))

    assert came[0] == str(EMPTY)
    assert all(line.startswith("RegistryUntrusted") for line in came[1:]), came
    assert [one.seen for one in watched] == [[], []]


@pytest.mark.parametrize("home", [rebinding.FAR_PRIVATE, rebinding.FAR_SHARED])
def test_a_registry_inside_leads_to_private_and_global_addresses(
    networks: JoinedNetworks, servers: Servers, home: str
) -> None:
    registry = servers.far(home)
    storage = [servers.far(one) for one in (rebinding.FAR_PRIVATE, rebinding.FAR_GLOBAL)]
    networks.dns.say(NAME, [home])
    for one in storage:
        _leads(registry, f"{one.base}/x", 1)
        one.expect("GET", "/x", Reply(200, EMPTY))
    _leads(registry, f"http://127.0.0.1:{registry.port}/x", 1)

    came = read(networks, f"http://{NAME}:{registry.port}", 3)

    assert came[:2] == [str(EMPTY)] * 2
    assert came[2].startswith("RegistryUntrusted")


def test_a_registry_on_this_machine_leads_to_it(networks: JoinedNetworks, servers: Servers) -> None:
    registry = servers.near(rebinding.NEAR_PRIVATE, 8080)
    networks.dns.say(NAME, [rebinding.NEAR_PRIVATE])
    _leads(registry, f"{registry.base}/x", 1)
    registry.expect("GET", "/x", Reply(200, EMPTY))
    assert read(networks, f"http://{NAME}:8080") == [str(EMPTY)]


_CLASSES = """
from pathlib import Path
from transship_worker.oci.addresses import kind_of
for setting in "01":
    Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text(setting)
    print(*[kind_of(text).name for text in ("10.77.0.1", "10.77.0.34", "93.184.216.34")])
"""


def test_an_address_of_this_machine_is_told_from_others(networks: JoinedNetworks) -> None:
    """Also where a load balancer's setting lets programs bind addresses that are not there."""
    words = [*networks.near.words, sys.executable, "-c", _CLASSES]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["OWN PRIVATE GLOBAL"] * 2
