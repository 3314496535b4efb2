"""Connections that are used again: when their addresses are looked at again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from transship_worker.oci import addresses
from transship_worker.oci.addresses import Kind
from transship_worker.oci.errors import ForbiddenAddress
from transship_worker.oci.guard import GuardedConnector, Home, Rule


class StubConnection:
    """What a connection to an address shows of itself; a stub of ``ResponseHandler``."""

    def __init__(self, address: str) -> None:
        peer = {"peername": (address, 5000)}
        self.transport: Any = SimpleNamespace(get_extra_info=peer.get)


@pytest.fixture
async def connector() -> AsyncIterator[GuardedConnector]:
    made = GuardedConnector()
    yield made
    await made.close()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were looked at."""
    found: list[str] = []
    real = addresses.kind_of

    def counted(text: str) -> Kind | None:
        found.append(text)
        return real(text)

    monkeypatch.setattr(addresses, "kind_of", counted)
    return found


def check(connector: GuardedConnector, connection: Any, rule: Rule) -> None:
    connector._check(connection, rule)


async def test_the_address_of_a_connection_is_looked_at_once(
    connector: GuardedConnector, looks: list[str]
) -> None:
    connection, rule = StubConnection("8.8.8.8"), Rule("r.example.com", Home(), named=True)
    for _ in range(3):
        check(connector, connection, rule)
    assert looks == ["8.8.8.8"]
    assert rule.home.seen is Kind.GLOBAL


async def test_another_registry_is_refused_a_connection_that_the_first_one_may_use(
    connector: GuardedConnector,
) -> None:
    connection = StubConnection("127.0.0.1")
    near, far = Rule("a.example.com", Home(Kind.LOOPBACK)), Rule("b.example.com", Home(Kind.GLOBAL))
    check(connector, connection, near)
    for _ in range(2):
        with pytest.raises(ForbiddenAddress):
            check(connector, connection, far)
    check(connector, connection, near)


async def test_a_connection_is_looked_at_again_once_its_registry_was_seen_elsewhere(
    connector: GuardedConnector,
) -> None:
    connection, home = StubConnection("127.0.0.1"), Home(Kind.LOOPBACK)
    rule = Rule("r.example.com", home)
    check(connector, connection, rule)
    home.arrived(Kind.GLOBAL)
    with pytest.raises(ForbiddenAddress):
        check(connector, connection, rule)


async def test_a_connection_that_is_gone_is_not_remembered(connector: GuardedConnector) -> None:
    connection = StubConnection("8.8.8.8")
    check(connector, connection, Rule("r.example.com", Home(), named=True))
    assert len(connector._passed) == 1
    del connection
    assert len(connector._passed) == 0
