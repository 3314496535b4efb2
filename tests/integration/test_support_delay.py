"""The proxy that stands for a long way delays, keeps every byte and throttles only if asked."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from tests.support.proxies.delay import DelayProxy
from tests.support.strict_registry.registry import StrictRegistry

#: Far more than what a loopback answer takes. Unit: s.
WAY_S = 0.2


@pytest.fixture
def registry() -> Iterator[StrictRegistry]:
    with StrictRegistry() as made:
        yield made


def put(registry: StrictRegistry, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    registry.store.blobs[digest] = data
    registry.store.repository("a/b").blobs.add(digest)
    return digest


def test_an_answer_takes_at_least_the_round_trip(registry: StrictRegistry) -> None:
    with DelayProxy(registry.port, round_trip_s=WAY_S) as proxy, requests.Session() as session:
        for _ in range(2):
            begin = time.monotonic()
            assert session.get(f"{proxy.base}/v2/").status_code == 200
            assert time.monotonic() - begin >= WAY_S - 0.005


def test_bytes_come_through_as_they_are_in_both_directions(registry: StrictRegistry) -> None:
    data = bytes(range(256)) * 200_000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with DelayProxy(registry.port, round_trip_s=0.01) as proxy:
        opened = requests.post(f"{proxy.base}/v2/a/b/blobs/uploads/", timeout=30)
        place = f"{proxy.base}{opened.headers['Location']}&digest={digest}"
        assert requests.put(place, data=data, timeout=30).status_code == 201
        assert registry.blob("a/b", digest) == data
        answer = requests.get(f"{proxy.base}/v2/a/b/blobs/{digest}", timeout=30)
        assert answer.content == data


def test_many_connections_are_on_their_way_at_once() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = stack.enter_context(DelayProxy(server.getsockname()[1], round_trip_s=WAY_S))
        # The first connection is that of the proxy's own start.
        server.accept()[0].close()
        address = ("127.0.0.1", proxy.port)
        clients = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(8)]
        for number, client in enumerate(clients):
            client.sendall(bytes([number]))
        # Nothing is answered before all have asked.
        there = [stack.enter_context(server.accept()[0]) for _ in clients]
        asked = [one.recv(1) for one in there]
        for one, byte in zip(there, asked, strict=True):
            one.sendall(byte)
        assert [client.recv(1) for client in clients] == [bytes([n]) for n in range(8)]


def test_a_rate_is_kept(registry: StrictRegistry) -> None:
    digest = put(registry, bytes(2_000_000))
    with DelayProxy(registry.port, round_trip_s=0, rate=4_000_000) as proxy:
        begin = time.monotonic()
        requests.get(f"{proxy.base}/v2/a/b/blobs/{digest}", timeout=30)
        assert time.monotonic() - begin >= 0.45


def test_the_end_of_one_side_reaches_the_other_which_may_still_answer() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = stack.enter_context(DelayProxy(server.getsockname()[1], round_trip_s=0.02))
        # The first connection is that of the proxy's own start.
        server.accept()[0].close()
        client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 10))
        there = stack.enter_context(server.accept()[0])
        there.settimeout(10)
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: there.recv(100), b"")) == b"all of it"
        there.sendall(b"read")
        there.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(100), b"")) == b"read"


def test_a_server_that_is_gone_ends_the_connection() -> None:
    with StrictRegistry() as registry:
        port = registry.port
        proxy = DelayProxy(port, round_trip_s=0.01).start()
    try:
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{proxy.base}/v2/", timeout=30)
    finally:
        proxy.close()
