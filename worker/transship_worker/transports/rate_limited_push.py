"""A push that keeps the fleet's budgets and pauses at its registry."""

from __future__ import annotations

from dataclasses import dataclass

from transship.errors import RateLimited
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.transports.port import JobControl, PushTransport


@dataclass(frozen=True, slots=True)
class GatedPush:
    """Asks the fleet before another transport pushes; implements ``PushTransport``."""

    transport: PushTransport
    gate: EngineGate
    limits: Limits
    control: JobControl

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        """Push, when the registry may be asked and has room for a transfer.

        Raises:
            RegistryPaused: the registry asked the fleet to wait, now or before.
            PushError: what went wrong.
        """
        username = credentials.username if credentials is not None else None
        self.gate.check(image.registry, username)
        with self.gate.transfer(image.registry, username, self.limits, waiting=self._waiting):
            # The wait for room may have been long.
            self.gate.check(image.registry, username)
            try:
                return self.transport.push(image, credentials=credentials, access=access)
            except RateLimited as error:
                raise self.gate.report(
                    image.registry,
                    username,
                    retry_after_s=error.retry_after_s,
                    reason=error.message,
                ) from None

    def _waiting(self) -> None:
        """Others have the transfers that may run at once; that is no stall."""
        self.control.checkpoint()
        self.control.alive()
