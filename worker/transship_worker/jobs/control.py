"""What a running job may do, and what stops it.

A ``Control`` stands between the thread that runs a job and the ``Heart`` that keeps the job's
lease. The running thread tells it what happens and asks whether it may go on; the heart
writes that to the ledger a few times a second and stops the job when its time is over,
nothing moves, somebody cancels it, or it is no longer this worker's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import redis

from transship.errors import (
    DeadlineExceeded,
    LeaseLost,
    PushCancelled,
    PushError,
    Stalled,
)
from transship.model.jobs import Step
from transship.model.records import Progress
from transship_worker.jobs.claim_results import Claim
from transship_worker.jobs.claims import Claims

#: How often the heart looks at each job; so often a job's progress may be written. Unit: s.
TICK_S = 0.2
#: How long a wish to cancel may go unseen while nothing else is written. Unit: s.
QUIET_S = 1.0
#: Between two tries to write what must stand in the ledger before the job goes on. Unit: s.
REDIS_PAUSE_S = 0.2
#: Sentences that a job keeps; what registries list can be long.
MOST_WARNINGS = 200


class Control:
    """The control of one claimed job; implements ``JobControl``. Times are monotonic seconds."""

    def __init__(
        self, claims: Claims, claim: Claim, *, lease_s: float, deadline_s: float, stall_s: float
    ) -> None:
        now = time.monotonic()
        self._claims = claims
        #: With the image, once it is settled.
        self.claim = claim
        self.warnings: list[str] = []
        self.last_progress = Progress()
        self._lease_s = lease_s
        self._lease_until = now + lease_s
        self._deadline = now + deadline_s
        self._deadline_s = deadline_s
        self._stall_s = stall_s
        self._moved = now
        self._patience = 0
        self._stop: PushError | None = None
        self._closers: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._step: Step | None = None
        self._streams_since = ""
        self._dirty: set[str] = set()
        self._written = now

    # What the running thread calls.

    def step(self, step: Step) -> None:
        """The job is now doing this; written at once, so that no step goes unseen."""
        with self._lock:
            self._step = step
            self._dirty.add("step")
            self._moved = time.monotonic()
        try:
            self.beat()
        except redis.RedisError:
            # The heart says so in the log, and writes it when Redis answers.
            return

    def mark(self, step: Step) -> None:
        """The job is now doing this; written with the next beat. Never blocks."""
        with self._lock:
            self._step = step
            self._dirty.add("step")
            self._moved = time.monotonic()

    def settle_image(self, image_id: str) -> None:
        """This is the image that the job is about; written with the next beat. Never blocks."""
        with self._lock:
            self.claim = replace(self.claim, image_id=image_id)
            self._dirty.add("image_id")

    @property
    def prefers_stream(self) -> bool:
        """Whether this attempt, or one before it, decided that the worker streams the image."""
        return self.claim.streams

    def prefer_stream(self, reason: str) -> None:
        """This attempt and those after it stream the image; written with the next beat.

        Never blocks. ``reason``: one line without secrets, for those who follow the job.
        """
        with self._lock:
            self.claim = replace(self.claim, streams=True)
            self._streams_since = reason
            self._dirty.add("via")

    def settled(self) -> None:
        """Return once all that was said of the job stands in the ledger, so that it outlives it.

        As long as the lease lasts, a Redis that is away costs only time.

        Raises:
            PushError: the job must stop.
        """
        while True:
            try:
                # The heart may be writing just now.
                with self._writing:
                    if self._dirty:
                        self._beat()
            except redis.RedisError:
                self.checkpoint()
                time.sleep(REDIS_PAUSE_S)
                continue
            self.checkpoint()
            return

    def lease_left_s(self) -> float:
        """For how long the job is certainly still this worker's. Unit: s."""
        return self._lease_until - time.monotonic()

    @contextmanager
    def patient(self) -> Iterator[None]:
        """While the block runs the job waits for others, and is not stalled."""
        with self._lock:
            self._patience += 1
        try:
            yield
        finally:
            with self._lock:
                self._patience -= 1
                self._moved = time.monotonic()

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        with self._lock:
            self._moved = time.monotonic()
            if progress != self.last_progress:
                self.last_progress = progress
                self._dirty.add("progress")

    def alive(self) -> None:
        """Something moved."""
        self._moved = time.monotonic()

    def warn(self, message: str) -> None:
        """Keep a sentence with the job."""
        with self._lock:
            if len(self.warnings) > MOST_WARNINGS:
                return
            if len(self.warnings) == MOST_WARNINGS:
                message = f"there were more than {MOST_WARNINGS} warnings; these are the first"
            self.warnings.append(message)
            self._dirty.add("warnings")

    def checkpoint(self) -> None:
        """Return if the job may go on.

        Raises:
            PushError: why not.
        """
        self.watch()
        if self._stop is not None:
            raise self._stop

    @contextmanager
    def closing(self, close: Callable[[], object]) -> Iterator[None]:
        """While the block runs, ``close`` is called from another thread if the job must stop."""
        with self._lock:
            stopped = self._stop is not None
            if not stopped:
                self._closers.append(close)
        if stopped:
            # What was begun just now ends, too.
            close()
            self.checkpoint()
        try:
            yield
        finally:
            with self._lock:
                if close in self._closers:
                    self._closers.remove(close)

    # What the heart calls.

    def stop(self, reason: PushError) -> None:
        """Make the job end for this reason; the first reason stays."""
        with self._lock:
            if self._stop is not None:
                return
            self._stop = reason
            closers, self._closers = self._closers, []
        for close in closers:
            close()

    @property
    def stopped(self) -> PushError | None:
        """Why the job must end, if it must."""
        return self._stop

    def watch(self) -> None:
        """Stop the job if its time is over, nothing moves, or its lease ended."""
        now = time.monotonic()
        if now > self._deadline:
            self.stop(
                DeadlineExceeded(f"it ran longer than its deadline of {self._deadline_s:g} s")
            )
        elif now > self._lease_until:
            self.stop(LeaseLost("its lease ended before it could be renewed"))
        elif now > self._moved + self._stall_s and self._closers and not self._patience:
            self.stop(Stalled(f"no progress for {self._stall_s:g} s"))

    def beat(self) -> None:
        """Write what changed and renew the lease, if it is time to."""
        with self._writing:
            self._beat()

    def _beat(self) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._dirty and now < self._written + min(QUIET_S, self._lease_s / 3):
                return
            dirty, self._dirty = self._dirty, set()
            step, progress, warnings = self._step, self.last_progress, list(self.warnings)
        try:
            held, cancel = self._claims.report(
                self.claim,
                step=step if "step" in dirty else None,
                progress=progress if "progress" in dirty else None,
                warnings=warnings if "warnings" in dirty else None,
                image_id=self.claim.image_id if "image_id" in dirty else None,
                streams_since=self._streams_since if "via" in dirty else None,
            )
        except redis.RedisError:
            with self._lock:
                self._dirty |= dirty
            raise
        self._written = now
        if not held:
            self.stop(LeaseLost("another worker has it"))
            return
        # Counted from before the call, so that Redis's lease never ends before ours.
        self._lease_until = now + self._lease_s
        if cancel:
            self.stop(PushCancelled("cancelled on request"))
