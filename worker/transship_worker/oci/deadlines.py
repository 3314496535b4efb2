"""Deadlines of an event loop, with one timer for all of them.

Nearly every wait for a registry ends long before its deadline. A timer for each of them would cost
a small request several percent of its time.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self


class Deadlines:
    """The deadlines of one event loop. Not to be used outside it."""

    def __init__(self) -> None:
        self._pending: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_when = math.inf

    @property
    def is_idle(self) -> bool:
        """Whether no deadline is pending."""
        return not self._pending

    def add(self, deadline: Deadline) -> None:
        """Let a deadline pass when its time comes, unless it was set to another time by then."""
        self._pending.add(deadline)
        if deadline.when < self._timer_when:
            self._start_timer(deadline.when)

    def discard(self, deadline: Deadline) -> None:
        """Forget a deadline."""
        self._pending.discard(deadline)

    def _start_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)
        self._timer_when = when

    def _look(self) -> None:
        """Let those pass whose time has come, and look again when that of the next one comes."""
        self._timer, self._timer_when = None, math.inf
        now = asyncio.get_running_loop().time()
        for deadline in [one for one in self._pending if one.when <= now]:
            self._pending.discard(deadline)
            deadline.expire()
        if self._pending:
            self._start_timer(min(one.when for one in self._pending))


class Deadline:
    """Cancels a block that is still running at a time that may change, as ``asyncio.timeout``.

    Raises:
        TimeoutError: it was.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._timeout = asyncio.timeout(None)
        self._is_active = False
        #: By the loop's clock; not pending before it was set. Unit: s.
        self.when = math.inf

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._is_active = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_active = False
        self._deadlines.discard(self)
        await self._timeout.__aexit__(kind, error, trace)

    def set(self, after_s: float | None) -> None:
        """Set it, or let there be none. Unit: s.

        Without effect once it passed, or the block ended.
        """
        if not self._is_active:
            return
        if after_s is None:
            self._deadlines.discard(self)
        else:
            self.when = asyncio.get_running_loop().time() + after_s
            self._deadlines.add(self)

    def expire(self) -> None:
        """Cancel the block."""
        self._is_active = False
        self._timeout.reschedule(self.when)
