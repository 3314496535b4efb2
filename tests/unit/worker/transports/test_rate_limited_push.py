"""Pushes that the registry refuses for their rate: waited for in place, in bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from tests.support.workers.recording_control import RecordingControl
from transship.errors import (
    DeadlineExceeded,
    Denied,
    PushCancelled,
    PushError,
    RateLimited,
    RegistryPaused,
)
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.transports import rate_limited_push
from transship_worker.transports.rate_limited_push import FIRST_S, PATIENCE_S, GatedPush, Refusals

IMAGE = ImageReference.parse("registry.example.com/a/b:1")
DIGEST = f"sha256:{'a' * 64}"


class ScriptedPush:
    """A transport that ends its tries as it is told; then it succeeds."""

    def __init__(self, control: RecordingControl, *ends: PushError | Progress) -> None:
        self._control = control
        self._ends = list(ends)
        self.tries = 0

    def push(self, *_: Any, credentials: Credentials | None, access: Access) -> str:
        """End as the next of ``ends``; progress is told before it."""
        self.tries += 1
        while self._ends:
            end = self._ends.pop(0)
            if isinstance(end, PushError):
                raise end
            self._control.progress(end)
        return DIGEST


class ScriptedGate:
    """Stands for the gate of a worker: it notes what it is told."""

    def __init__(self) -> None:
        self.checks = 0
        #: Waits that the registry named with refusals, and with pauses. Unit: s.
        self.refusals: list[float | None] = []
        self.pauses: list[float | None] = []
        #: Called with each refusal, before the push waits.
        self.at_refusal: Callable[[], None] = lambda: None
        self.paused: RegistryPaused | None = None

    def check(self, registry: str, username: str | None) -> None:
        """See ``EngineGate``."""
        assert (registry, username) == (IMAGE.registry, None)
        self.checks += 1
        if self.paused is not None:
            raise self.paused

    @contextmanager
    def transfer(self, *_: Any, waiting: Callable[[], None]) -> Iterator[None]:
        """See ``EngineGate``."""
        waiting()
        yield

    def refused(self, registry: str, username: str | None, named_s: float | None) -> None:
        """See ``EngineGate``."""
        assert (registry, username) == (IMAGE.registry, None)
        self.refusals.append(named_s)
        self.at_refusal()

    def report(self, *_: Any, retry_after_s: float | None, reason: str) -> RegistryPaused:
        """See ``EngineGate``."""
        self.pauses.append(retry_after_s)
        return RegistryPaused(reason, retry_after_s=retry_after_s)


class Scene:
    """A push through a gate, with the job that it belongs to."""

    def __init__(self, *ends: PushError | Progress) -> None:
        self.control = RecordingControl()
        self.gate = ScriptedGate()
        self.transport = ScriptedPush(self.control, *ends)

    def push(self) -> str:
        """Push, as a worker does."""
        gate = cast("EngineGate", self.gate)
        gated = GatedPush(self.transport, gate, Limits(), self.control)
        return gated.push(IMAGE, credentials=None, access=Access())


def slow(named_s: float | None = None) -> RateLimited:
    """A refusal that names a wait. Unit: s."""
    return RateLimited("registry answered 429", retry_after_s=named_s)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short."""
    monkeypatch.setattr(rate_limited_push, "FIRST_S", 0.01)
    monkeypatch.setattr(rate_limited_push, "LEAST_S", 0.01)
    monkeypatch.setattr(rate_limited_push, "TICK_S", 0.001)


@pytest.mark.usefixtures("quick")
def test_a_refused_push_waits_and_is_made_again_by_the_same_attempt() -> None:
    scene = Scene(slow(), slow(0.0), slow(0.02))
    assert scene.push() == DIGEST
    assert scene.transport.tries == 4
    assert scene.gate.refusals == [None, 0.0, 0.02]
    assert scene.gate.pauses == []
    # Before the wait for room, and before each try.
    assert scene.gate.checks == 5
    assert scene.control.alive_count > 3


@pytest.mark.parametrize("named_s", [30.5, 3600.0])
def test_a_long_wait_is_a_pause_at_once(named_s: float) -> None:
    scene = Scene(slow(named_s))
    with pytest.raises(RegistryPaused, match="answered 429"):
        scene.push()
    assert (scene.transport.tries, scene.gate.pauses) == (1, [named_s])
    assert scene.gate.refusals == []


@pytest.mark.usefixtures("quick")
def test_a_push_that_is_refused_for_long_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limited_push, "PATIENCE_S", 0.05)
    scene = Scene(*[slow(0.01)] * 50)
    with pytest.raises(RegistryPaused):
        scene.push()
    # The wait that it named did not help.
    assert scene.gate.pauses == [None]
    assert 2 <= scene.transport.tries <= 5


@pytest.mark.usefixtures("quick")
def test_another_error_after_a_refusal_ends_the_attempt() -> None:
    scene = Scene(slow(), Denied("no rights"))
    with pytest.raises(Denied):
        scene.push()
    assert scene.transport.tries == 2


@pytest.mark.usefixtures("quick")
def test_a_pause_that_came_during_the_wait_ends_the_attempt() -> None:
    scene = Scene(slow())

    def pause() -> None:
        scene.gate.paused = RegistryPaused("another worker met it", retry_after_s=60)

    scene.gate.at_refusal = pause
    with pytest.raises(RegistryPaused, match="another worker met it"):
        scene.push()
    assert scene.transport.tries == 1


@pytest.mark.parametrize(
    "reason", [PushCancelled("cancelled on request"), DeadlineExceeded("it ran too long")]
)
def test_a_job_that_must_stop_ends_the_wait_at_once(reason: PushError) -> None:
    scene = Scene(slow(30.0))
    waits = threading.Event()

    def refused() -> None:
        # From now on whatever says that nothing stalls is the wait.
        scene.control.alive = waits.set  # type: ignore[method-assign]
        stopping.start()

    def stop() -> None:
        assert waits.wait(10)
        scene.control.stop(reason)

    stopping = threading.Thread(target=stop)
    scene.gate.at_refusal = refused
    began = time.monotonic()
    with pytest.raises(type(reason)) as met:
        scene.push()
    stopping.join()
    assert met.value is reason
    assert time.monotonic() - began < 15
    assert scene.transport.tries == 1


@pytest.mark.parametrize(
    ("named_s", "waits"),
    [
        (None, [5, 10, 20, 30, 30]),
        (8.0, [8, 16, 30, 30]),
        (30.0, [30, 30]),
        (0.000985, [0.5, 1, 2, 4]),
    ],
)
def test_waits_are_doubled_up_to_30_s(named_s: float | None, waits: list[float]) -> None:
    refusals = Refusals()
    assert [refusals.wait_s(named_s, 0, 0.0) for _ in waits] == waits


def test_a_push_that_gets_on_is_waited_for_as_at_first() -> None:
    refusals = Refusals()
    assert refusals.wait_s(None, 3, 0.0) == FIRST_S
    assert refusals.wait_s(None, 3, 10.0) == 2 * FIRST_S
    assert refusals.wait_s(None, 4, PATIENCE_S) == FIRST_S
    # The next try counts its layers from the first again.
    assert refusals.wait_s(None, 2, PATIENCE_S + 10) == 2 * FIRST_S
    assert refusals.wait_s(None, 4, 2 * PATIENCE_S) is None


@pytest.mark.usefixtures("quick")
def test_layers_that_got_there_renew_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limited_push, "PATIENCE_S", 0.0)
    refused = Scene(slow())
    with pytest.raises(RegistryPaused):
        refused.push()
    monkeypatch.setattr(rate_limited_push, "PATIENCE_S", 0.001)
    scene = Scene(*[end for n in range(1, 9) for end in (Progress(layers_done=n), slow())])
    assert scene.push() == DIGEST
    assert scene.transport.tries == 9
