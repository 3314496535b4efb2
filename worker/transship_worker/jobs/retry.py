"""When a failed attempt is repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass

from transship_config.settings import Settings
from transship_worker.oci.headers import LONGEST_WAIT_S


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling waits with jitter. Units: s."""

    base_s: float
    most_s: float

    @classmethod
    def of(cls, settings: Settings) -> Backoff:
        """As the settings say."""
        return cls(settings.backoff, settings.backoff_max)

    def delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        """How long to wait after this attempt (the first is 1).

        Never less than the registry asked for, within reason. The jitter of a half up and down
        keeps jobs that failed together from coming back together.
        """
        doubled = min(self.most_s, self.base_s * 2.0 ** min(attempt - 1, 30))
        jittered = doubled * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret
        return max(jittered, min(retry_after_s or 0.0, LONGEST_WAIT_S))
