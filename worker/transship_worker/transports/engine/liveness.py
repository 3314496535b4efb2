"""A push of which the engine tells nothing until it ends, kept from counting as stalled.

Podman sends no progress events. While such a push is silent, the engine is asked on another
connection whether it is alive: as long as it answers, only the job's deadline ends the push.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from transship.errors import PushError

#: How often the engine is asked. Unit: s.
EVERY_S = 10.0


class Pinged(Protocol):
    """What answers; ``Engine`` is one."""

    def ping(self) -> None:
        """Return if it answers.

        Raises:
            PushError: it does not.
        """


@contextmanager
def kept_alive(
    engine: Pinged, alive: Callable[[], None], *, every_s: float | None = None
) -> Iterator[None]:
    """While the block runs, say ``alive`` after each answer of the engine.

    It is asked every ``every_s`` seconds, by default ``EVERY_S``.
    """
    ended = threading.Event()
    pause_s = EVERY_S if every_s is None else every_s

    def ask() -> None:
        while not ended.wait(pause_s):
            try:
                engine.ping()
            except PushError:
                # It may come back; until it does, the stall limit runs.
                continue
            if not ended.is_set():
                alive()

    # Not waited for: an engine that hangs may hold its last question for long.
    threading.Thread(target=ask, name="engine-liveness", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
