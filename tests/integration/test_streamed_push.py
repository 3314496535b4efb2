"""Streaming what a real Docker Engine exports to real registries."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Generator

import pytest

from tests.support.proxies.tcp import TcpProxy
from tests.support.scripted_servers.registry import SlowRegistry
from tests.support.servers.registry import MANIFEST_TYPES, Registry
from tests.support.workers.recording_control import RecordingControl
from tests.support.workers.single_push import LOGIN
from tests.support.workers.streaming import Fresh, no_export
from transship.errors import (
    Denied,
    EngineUnavailable,
    LeaseLost,
    PushCancelled,
    PushError,
    RegistryUnavailable,
    RegistryUnreachable,
)
from transship.ledger.connection import connect
from transship.ledger.keys import Keys
from transship.model.jobs import Step, Via
from transship.model.records import Progress
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.fleet.port import KnownLayer
from transship_worker.handlers.streaming import StreamWay
from transship_worker.transports import rate_limited_push
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.connection import Line

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.redis]

MIB = 1024 * 1024
#: Larger than what kernels hold between two ends. Unit: bytes.
LARGE = 12 * MIB


def layers_of(registry: Registry, name: str) -> list[str]:
    repository, _, tag = name.partition("/")[2].rpartition(":")
    answer = registry.get(f"{repository}/manifests/{tag}", accept=MANIFEST_TYPES)
    return [layer["digest"] for layer in answer.json()["layers"]]


def test_the_image_is_the_engines_own_and_its_digest_the_registrys(
    fresh: Fresh, plain_registry: Registry
) -> None:
    name = f"{plain_registry.address}/stream/one:1"
    push = fresh(name, os.urandom(3 * MIB), b"text " * 1000, b"")
    pushed = push.run()
    assert pushed.digest == plain_registry.digest("stream/one", "1")
    assert not pushed.skipped
    answer = plain_registry.get("stream/one/manifests/1", accept=MANIFEST_TYPES).json()
    assert answer["config"]["digest"] == push.image_id
    assert len(answer["layers"]) == 3
    assert push.control.steps == [Step.PUSHING, Step.VERIFYING]
    assert push.control.last.bytes_done == push.control.last.bytes_total > 3 * MIB
    assert push.control.warnings == []


def test_the_same_image_again_is_skipped_and_no_byte_is_sent(
    fresh: Fresh, plain_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        push = fresh(f"{proxy.address}/stream/twice:1", os.urandom(50_000))
        first = push.run()
        before = proxy.bytes_up
        push.control = RecordingControl()
        monkeypatch.setattr(Engine, "export", no_export)
        again = push.run()
        assert (again.digest, again.skipped) == (first.digest, True)
        assert proxy.bytes_up - before < 5_000


def test_an_image_that_the_engine_pushed_is_skipped(
    fresh: Fresh, plain_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = fresh(f"{plain_registry.address}/stream/engine:1", via=Via.ENGINE)
    first = push.run()
    push.via = Via.STREAM
    monkeypatch.setattr(Engine, "export", no_export)
    again = push.run()
    assert (again.digest, again.skipped) == (first.digest, True)


@pytest.mark.parametrize("repository", ["stream/base", "stream/other"])
def test_a_layer_that_was_streamed_before_is_not_sent_again(
    fresh: Fresh, plain_registry: Registry, repository: str
) -> None:
    base = os.urandom(2 * MIB)
    with TcpProxy(plain_registry.port) as proxy:
        fresh(f"{proxy.address}/stream/base:1", base).run()
        before = proxy.bytes_up
        name = f"{proxy.address}/{repository}:2"
        pushed = fresh(name, base, os.urandom(1000)).run()
        assert proxy.bytes_up - before < 20_000
    assert plain_registry.digest(repository, "2") == pushed.digest


def test_a_layer_that_the_registry_does_not_have_after_all_is_sent(
    fresh: Fresh, plain_registry: Registry, way: StreamWay
) -> None:
    name = f"{plain_registry.address}/stream/lost:1"
    layer = os.urandom(2 * MIB)
    push = fresh(name, layer)
    diff_id = str(push.engine.inspect(Line(push.engine.endpoint), name)["RootFS"]["Layers"][0])
    hint = KnownLayer("sha256:" + "a" * 64, 5, 2 * MIB, "stream/gone")
    memory = way.grounds.memory
    way.grounds.loop.run(
        memory.remember(
            plain_registry.address,
            "stream/lost",
            ("sha256:" + "b" * 64, hint.digest),
            {diff_id: hint},
        )
    )
    pushed = push.run()
    assert plain_registry.digest("stream/lost", "1") == pushed.digest


def test_two_layers_of_one_size_are_told_apart(fresh: Fresh, plain_registry: Registry) -> None:
    name = f"{plain_registry.address}/stream/sizes"
    first, second = os.urandom(2 * MIB), os.urandom(2 * MIB)
    fresh(f"{name}:1", first).run()
    push = fresh(f"{name}:2", first, second)
    pushed = push.run()
    # One has the size of a layer that is there and is another: it was asked for, and is told.
    assert "the engine pushed it" in push.control.warnings[0]
    assert plain_registry.digest("stream/sizes", "2") == pushed.digest
    assert len(set(layers_of(plain_registry, f"{name}:2"))) == 2


def test_tokens_and_logins_work_as_on_the_other_way(
    fresh: Fresh, token_registry: Registry, basic_registry: Registry
) -> None:
    for registry in (token_registry, basic_registry):
        pushed = fresh(f"{registry.address}/stream/login:1", credentials=LOGIN).run()
        answer = registry.digest("stream/login", "1") if registry is basic_registry else None
        assert answer in {pushed.digest, None}


def test_a_missing_login_is_denied(fresh: Fresh, basic_registry: Registry) -> None:
    with pytest.raises(Denied):
        fresh(f"{basic_registry.address}/stream/denied:1").run()


def test_a_registry_that_is_not_there_is_an_error_that_passes(fresh: Fresh) -> None:
    with pytest.raises((RegistryUnreachable, RegistryUnavailable)) as failed:
        fresh("127.0.0.1:1/stream/nowhere:1").run()
    assert failed.value.retryable


def test_a_cancelled_push_ends_at_once_and_tags_nothing(
    fresh: Fresh, plain_registry: Registry
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        push = fresh(f"{proxy.address}/stream/cancel:1", os.urandom(LARGE))
        seen = push.control.progress

        def stop(progress: Progress) -> None:
            seen(progress)
            proxy.hang()
            push.control.stop()

        push.control.progress = stop  # type: ignore[method-assign]
        with pytest.raises(PushCancelled):
            push.run()
    assert plain_registry.digest("stream/cancel", "1") is None


def test_a_registry_that_breaks_off_in_a_layer_is_tried_again(
    fresh: Fresh, plain_registry: Registry
) -> None:
    with TcpProxy(plain_registry.port) as proxy:
        push = fresh(f"{proxy.address}/stream/broken:1", os.urandom(LARGE))
        proxy.reset_after = LARGE // 2
        with pytest.raises(PushError) as failed:
            push.run()
        assert failed.value.retryable
        assert plain_registry.digest("stream/broken", "1") is None
        proxy.reset_after = None
        assert push.run().digest == plain_registry.digest("stream/broken", "1")


def test_a_layer_that_is_refused_for_its_rate_is_sent_again_by_the_same_attempt(
    fresh: Fresh, redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limited_push, "FIRST_S", 0.1)
    client = connect(redis_url)
    gate = EngineGate(client, keys, "worker-1")
    with SlowRegistry("PATCH upload", [1]) as registry:
        push = fresh(
            f"{registry.address}/a/b:1", *(os.urandom(MIB + n * 100_000) for n in range(3))
        )
        push.run(gate)
    gate.close()
    client.close()
    # Of three layers, the one that was refused came twice.
    assert registry.count("PATCH") == 4
    assert push.control.warnings == []


def test_a_push_whose_lease_ends_before_its_tag_writes_none(
    fresh: Fresh, plain_registry: Registry
) -> None:
    push = fresh(f"{plain_registry.address}/stream/lease:1", os.urandom(1000))
    control = push.control
    control.lease_s = 0.5
    waits = itertools.count(1)

    def look() -> None:
        # The layers are there by then: only the tag waits for more of a lease.
        config = f"stream/lease/blobs/{push.image_id}"
        if plain_registry.get(config, accept="*/*").status_code == 200 and next(waits) == 3:
            control.stop(LeaseLost("another worker has it"))

    control.at_checkpoint = look
    with pytest.raises(LeaseLost):
        push.run()
    assert plain_registry.digest("stream/lease", "1") is None


def test_an_engine_that_breaks_off_its_export_is_tried_again(
    fresh: Fresh, plain_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Engine.export

    def half(self: Engine, line: Line, image_id: str) -> Generator[bytes, None, None]:
        data = b"".join(whole(self, line, image_id))
        yield data[: len(data) // 2]

    push = fresh(f"{plain_registry.address}/stream/half:1", os.urandom(MIB))
    monkeypatch.setattr(Engine, "export", half)
    with pytest.raises(EngineUnavailable):
        push.run()
    assert plain_registry.digest("stream/half", "1") is None


def test_the_layout_of_newer_engines_is_read(
    fresh: Fresh, plain_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such engine can be had here: what this one exports is written anew as those do."""
    older = Engine.export

    def newer(self: Engine, line: Line, image_id: str) -> Generator[bytes, None, None]:
        yield as_oci_layout(b"".join(older(self, line, image_id)))

    push = fresh(f"{plain_registry.address}/stream/newer:1", os.urandom(MIB), b"more " * 500)
    monkeypatch.setattr(Engine, "export", newer)
    pushed = push.run()
    assert plain_registry.digest("stream/newer", "1") == pushed.digest
    assert len(layers_of(plain_registry, push.name)) == 2


def as_oci_layout(export: bytes) -> bytes:
    """An export with its files by their digests, and the lists of an OCI image layout."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(export)) as tar:
        for info in tar:
            content = tar.extractfile(info) if info.isreg() else None
            if content is not None and info.name.endswith((".json", "/layer.tar")):
                data = content.read()
                found[f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"] = data
    buffer = io.BytesIO()
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in [*sorted(found.items()), ("index.json", index)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
