"""What the ledger's scripts tell a worker of requests, claims and ends, and rows for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from transship.model.jobs import JobId, State
from transship.model.records import ErrorInfo
from transship_worker.jobs.sweep import Due

if TYPE_CHECKING:
    from transship.model.copy_request import CopyRequest


class Found(StrEnum):
    """What came of an attempt to read a request."""

    READ = "read"
    #: There is none: never was, or long gone.
    UNKNOWN = "unknown"
    #: What stands there is no text, or an empty one.
    UNREADABLE = "unreadable"
    #: It is longer than any request.
    LONG = "long"
    #: It is one that is read alone (``whole``).
    LARGE = "large"
    #: Another worker reads it now.
    READING = "reading"
    #: Each worker that read it went silent.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Body:
    """A request as it stands in Redis, untrusted; or why there is none."""

    found: Found
    text: str = ""
    #: Another reader's name.
    worker: str = ""
    #: Bytes, or how many readers went silent.
    count: int = 0


class Answer(StrEnum):
    """What came of an attempt to claim."""

    CLAIMED = "claimed"
    #: There is no such request: never was, or long gone.
    UNKNOWN = "unknown"
    RUNNING = "running"
    FINAL = "final"
    CANCELLED = "cancelled"
    NOT_DUE = "not_due"
    #: An older job for the same target is not final yet.
    BEHIND = "behind"
    #: Its own account wrote so much before it that it was not found yet.
    CLUTTERED = "cluttered"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of a job."""

    job: JobId
    fence: str
    token: str
    attempt: int
    #: The local image that the first attempt settled; empty as long as none did.
    image_id: str
    #: The worker streams the image: the registry refused the engine's push for its rate.
    streams: bool = False
    #: When the job was submitted, or the migration that it belongs to, or a moment later, by the
    #: monotonic clock. Unit: s.
    since: float = math.inf


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim, or why there is none (``detail``: a worker, a state, a job, a time)."""

    answer: Answer
    claim: Claim | None = None
    detail: str = ""
    error: ErrorInfo | None = None
    #: The job whose turn it is now that this one is final.
    ring: JobId | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What the ledger made of a finish."""

    accepted: bool
    #: The state the job is in now; ``None`` when it is another's business.
    state: State | None
    #: The job to ring for next: the next one for the same target, or this one, handed back.
    ring: JobId | None
    #: Further jobs of its migration that found room on the queue.
    more: tuple[Due, ...] = ()
    #: Whether as many replicas acknowledged it as were asked for.
    replicated: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a migration for the ledger: a job, or images that need none."""

    job: JobId
    #: ``None``: nothing is to be done.
    request: CopyRequest | None
    #: Images that need nothing, without a request.
    skipped: int = 0
    #: Why it cannot be done.
    error: ErrorInfo | None = None

    def as_json(self) -> dict[str, Any]:
        """As the script reads it."""
        if self.request is None:
            return {"id": self.job, "skip": self.skipped}
        found: dict[str, Any] = {
            "id": self.job,
            "request": self.request.to_stored(),
            "queue": self.request.queue,
            "image": self.request.target(self.job),
            "registry": self.request.registry,
            "size": self.request.size,
        }
        return found if self.error is None else found | {"error": self.error.model_dump_json()}
