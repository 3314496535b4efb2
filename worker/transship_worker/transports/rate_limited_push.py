"""A push that keeps the fleet's budgets, and waits where the registry refuses it for its rate.

A refusal that names more than ``IN_PLACE_S`` is a pause and ends the attempt. After any other the
push waits and is made again by the same attempt: the registry keeps the layers that it has.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final, Protocol

from transship.errors import RateLimited
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.pause import is_pause
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.oci.retry import IN_PLACE_S, LEAST_S
from transship_worker.transports.port import JobControl, PushTransport

logger = logging.getLogger("transship.worker")

#: The first wait where the registry names none, or only in a header: Docker Engine 20.10 tells of a
#: 429 at once and passes on nothing but its message. Unit: s.
FIRST_S: Final = 5.0
#: For how long a push may be refused while no layer more gets there; then it is a pause. Unit: s.
PATIENCE_S: Final = 120.0
#: How often the job is told that its push waits. Unit: s.
TICK_S: Final = 1.0


class WaitingControl(JobControl, Protocol):
    """What a push that may wait asks of its job."""

    @property
    def last_progress(self) -> Progress:
        """How far the job was when it last told."""


class Refusals:
    """The refusals of one push since more of the image got to the registry."""

    def __init__(self) -> None:
        self._layers = 0
        self._count = 0
        self._since = 0.0

    def wait_s(self, named_s: float | None, layers_done: int, now: float) -> float | None:
        """How long to wait after a refusal; ``None``: it is a pause. Unit: s.

        Args:
            named_s: the wait that the registry named; ``None``: it named none. Unit: s.
            layers_done: layers that are at the registry.
            now: the monotonic clock. Unit: s.
        """
        if is_pause(named_s):
            return None
        if self._count == 0 or layers_done > self._layers:
            self._layers, self._count, self._since = layers_done, 0, now
        if now - self._since >= PATIENCE_S:
            return None
        first_s = FIRST_S if named_s is None else max(named_s, LEAST_S)
        self._count += 1
        return min(first_s * 2.0 ** min(self._count - 1, 10), IN_PLACE_S)


@dataclass(frozen=True, slots=True)
class GatedPush:
    """Asks the fleet before another transport pushes; implements ``PushTransport``."""

    transport: PushTransport
    gate: EngineGate
    limits: Limits
    control: WaitingControl

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        """Push, when the registry may be asked and has room for a transfer.

        Raises:
            RegistryPaused: the registry asked the fleet for a long wait, now or before, or refused
                this push for long.
            PushError: what went wrong.
        """
        username = credentials.username if credentials is not None else None
        refusals = Refusals()
        self.gate.check(image.registry, username)
        with self.gate.transfer(image.registry, username, self.limits, waiting=self._waiting):
            while True:
                # The wait may have been long.
                self.gate.check(image.registry, username)
                try:
                    return self.transport.push(image, credentials=credentials, access=access)
                except RateLimited as error:
                    wait_s = self._refused(image, username, error, refusals)
                self._wait(wait_s)

    def _refused(
        self, image: ImageReference, username: str | None, error: RateLimited, refusals: Refusals
    ) -> float:
        """Tell the fleet of a refusal; how long to wait. Unit: s.

        Raises:
            RegistryPaused: the registry asks for a pause.
        """
        named_s = error.retry_after_s
        layers_done = self.control.last_progress.layers_done
        wait_s = refusals.wait_s(named_s, layers_done, time.monotonic())
        if wait_s is None:
            raise self.gate.report(
                image.registry,
                username,
                # A short wait that did not help is not the one to name.
                retry_after_s=named_s if is_pause(named_s) else None,
                reason=error.message,
            ) from None
        self.gate.refused(image.registry, username, named_s)
        logger.info(
            "%s asks for fewer requests; %s is pushed again in %.1f s",
            image.registry,
            image,
            wait_s,
        )
        return wait_s

    def _wait(self, seconds: float) -> None:
        """Wait; a job that must stop ends this at once.

        Raises:
            PushError: why the job must stop.
        """
        end = time.monotonic() + seconds
        stopped = threading.Event()
        with self.control.closing(stopped.set):
            while (left_s := end - time.monotonic()) > 0 and not stopped.is_set():
                self._waiting()
                stopped.wait(min(left_s, TICK_S))
        self._waiting()

    def _waiting(self) -> None:
        """The push waits for others, or for the registry; that is no stall."""
        self.control.checkpoint()
        self.control.alive()
