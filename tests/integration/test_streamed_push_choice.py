"""Which pushes the worker streams by itself, and which it leaves to the Docker Engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.proxies.front import Front
from tests.support.proxies.limiting import LimitingProxy
from tests.support.proxies.tcp import TcpProxy
from tests.support.scripted_servers.registry import SlowRegistry
from tests.support.servers.registry import Registry
from tests.support.workers.streaming import Fresh, Recall, no_export
from transship.errors import (
    BodyTooLarge,
    RegistryPaused,
    RegistryUnreachable,
)
from transship.ledger.connection import connect
from transship.ledger.keys import Keys
from transship.model.jobs import Via
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.oci.login import Login
from transship_worker.transports import rate_limited_push
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.stream import choice

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.redis]

MIB = 1024 * 1024
#: Larger than what kernels hold between two ends. Unit: bytes.
LARGE = 12 * MIB


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images count as large."""
    monkeypatch.setattr(choice, "LEAST", MIB)


@pytest.mark.usefixtures("small")
def test_a_large_new_image_is_taken_from_the_engines_push_and_streamed(
    fresh: Fresh, plain_registry: Registry, recalled: Recall
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        # The engine is to have some time to send, so that there is something to change over from.
        proxy.rate = 4 * LARGE
        push = fresh(f"{proxy.address}/stream/auto:1", os.urandom(LARGE), via=Via.AUTO)
        pushed = push.run()
    known = recalled(push.image, push.image_id)
    assert known == pushed.digest == plain_registry.digest("stream/auto", "1")


@pytest.mark.usefixtures("small")
def test_an_image_whose_base_is_there_stays_with_the_engine(
    fresh: Fresh, plain_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{plain_registry.address}/stream/based"
    base = os.urandom(LARGE)
    fresh(f"{name}:1", base, via=Via.ENGINE).run()
    monkeypatch.setattr(Engine, "export", no_export)
    pushed = fresh(f"{name}:2", base, os.urandom(1000), via=Via.AUTO).run()
    assert pushed.digest == plain_registry.digest("stream/based", "2")


def test_a_small_image_is_not_streamed_unless_asked(
    fresh: Fresh, plain_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "export", no_export)
    pushed = fresh(f"{plain_registry.address}/stream/small:1", via=Via.AUTO).run()
    assert pushed.digest == plain_registry.digest("stream/small", "1")


@pytest.mark.usefixtures("small")
def test_a_registry_that_only_the_engine_reaches_is_left_to_it(
    fresh: Fresh, plain_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: Any) -> None:
        raise RegistryUnreachable("no way from here")

    monkeypatch.setattr("transship_worker.oci.client.RegistryClient.base", unreachable)
    push = fresh(f"{plain_registry.address}/stream/apart:1", os.urandom(2 * MIB), via=Via.AUTO)
    pushed = push.run()
    assert pushed.digest == plain_registry.digest("stream/apart", "1")


@pytest.fixture
def gate(redis_url: str, keys: Keys) -> Iterator[EngineGate]:
    with connect(redis_url) as client:
        gate = EngineGate(client, keys, "worker-1")
        yield gate
        gate.close()


def test_a_push_whose_burst_a_registry_refuses_is_streamed_at_its_rate(
    fresh: Fresh, plain_registry: Registry, gate: EngineGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limited_push, "FIRST_S", 0.1)
    with LimitingProxy(plain_registry.port, rate=8) as proxy:
        layers = [os.urandom(2000 + n) for n in range(6)]
        push = fresh(f"{proxy.address}/stream/burst:1", *layers, via=Via.AUTO)
        pushed = push.run(gate)
    assert pushed.digest == plain_registry.digest("stream/burst", "1")
    assert "refuses the engine's push for its rate" in push.control.streams_since
    assert push.control.warnings == [
        f"the worker streamed it: {proxy.address} refused the engine's push for its rate"
    ]


def test_layers_that_the_engine_brought_are_kept_while_a_manifest_is_refused_once_or_twice(
    fresh: Fresh, gate: EngineGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limited_push, "FIRST_S", 0.1)
    with SlowRegistry("PUT manifest", range(2)) as registry:
        push = fresh(f"{registry.address}/a/b:1", os.urandom(1000), os.urandom(2000), via=Via.AUTO)
        push.run(gate)
    # Two layers and the config, once.
    assert registry.count("POST") == 3
    assert (push.control.streams_since, push.control.warnings) == ("", [])


def test_an_attempt_that_ends_in_a_pause_leaves_the_choice_to_the_next(
    fresh: Fresh, gate: EngineGate, redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limited_push, "PATIENCE_S", 0.0)
    with SlowRegistry("POST upload", range(100)) as registry:
        push = fresh(f"{registry.address}/a/b:1", via=Via.AUTO)
        with pytest.raises(RegistryPaused):
            push.run(gate)
        assert push.control.streams_since
        refused = registry.count("POST")
        registry.serve_all()
        # The pause is over.
        login = Login.of(keys, registry.address, None)
        with connect(redis_url) as client:
            assert client.delete(keys.pause(login.registry, login.name))
        # The engine would not be asked to push, whatever it would bring.
        monkeypatch.setattr(Engine, "push_events", no_export)
        push.run()
    # The layer and the config, sent by the worker.
    assert registry.count("POST") == refused + 2


@pytest.mark.parametrize("kind", ["engine", "other registry"])
def test_a_push_that_may_not_be_streamed_stays_with_the_engine_where_it_is_refused(
    fresh: Fresh, gate: EngineGate, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(rate_limited_push, "FIRST_S", 0.1)
    monkeypatch.setattr(Engine, "export", no_export)
    with SlowRegistry("POST upload", range(8)) as registry:
        via = Via.ENGINE if kind == "engine" else Via.AUTO
        push = fresh(f"{registry.address}/a/b:1", os.urandom(1000), via=via)
        if kind == "other registry":
            push.options = {"uri": "registry.example.com"}
        push.run(gate)
    assert (push.control.streams_since, push.control.warnings) == ("", [])


@pytest.mark.parametrize("via", [Via.AUTO, Via.STREAM])
def test_a_push_past_a_proxy_with_a_body_limit_is_streamed_in_chunks(
    fresh: Fresh, plain_registry: Registry, via: Via
) -> None:
    with Front(plain_registry.port, max_body=MIB) as front:
        push = fresh(f"{front.address}/stream/limited-{via}:1", os.urandom(3 * MIB), via=via)
        push.options = {"max_body": "1MiB"}
        pushed = push.run()
        assert pushed.digest == plain_registry.digest(f"stream/limited-{via}", "1")
        assert push.control.warnings == []
        assert max(one.size for one in front.asked) == MIB
        assert front.count("PATCH") >= 3


@pytest.mark.parametrize("via", [Via.AUTO, Via.STREAM, Via.ENGINE])
def test_a_push_that_a_proxy_refuses_for_its_size_names_the_option(
    fresh: Fresh, plain_registry: Registry, via: Via
) -> None:
    with Front(plain_registry.port, max_body=MIB) as front:
        push = fresh(f"{front.address}/stream/large-{via}:1", os.urandom(3 * MIB), via=via)
        with pytest.raises(BodyTooLarge, match="set max_body of the component") as caught:
            push.run()
    assert not caught.value.retryable


@pytest.mark.parametrize("via", [Via.AUTO, Via.STREAM])
def test_a_registry_below_a_path_takes_a_streamed_push(
    fresh: Fresh, plain_registry: Registry, via: Via
) -> None:
    with Front(plain_registry.port, prefix="/repository/x/") as front:
        # No engine can reach this name.
        name = f"registry.example.invalid/stream/below-{via}:1"
        push = fresh(name, os.urandom(50_000), via=via)
        push.options = {"endpoint": front.endpoint}
        pushed = push.run()
        assert pushed.digest == plain_registry.digest(f"stream/below-{via}", "1")
        # The worker itself looks up what the tag holds, before the next push, too.
        again = push.run()
        assert (again.digest, again.skipped) == (pushed.digest, True)
        assert push.control.warnings == []
