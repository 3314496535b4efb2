"""What people see of a job: its record, its progress and its events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from transship.model.jobs import Kind, State, Step, known_state, known_step
from transship.model.references import ImageReference


class Progress(BaseModel):
    """How far a job is. Totals grow while it finds out; of a push nothing goes backwards."""

    model_config = ConfigDict(frozen=True)

    #: At the target, whatever way they came. Unit: bytes.
    bytes_done: int = 0
    #: Unit: bytes; 0 while unknown.
    bytes_total: int = 0
    layers_done: int = 0
    layers_total: int = 0
    #: Of a copy, those of ``bytes_done`` that were mounted from another repository. Unit: bytes.
    bytes_mounted: int = 0
    #: Of a copy, those of ``bytes_done`` that were there already. Unit: bytes.
    bytes_present: int = 0

    @property
    def bytes_moved(self) -> int:
        """Those of ``bytes_done`` that were sent. Unit: bytes."""
        return self.bytes_done - self.bytes_mounted - self.bytes_present


class ErrorInfo(BaseModel):
    """Why a job (or its last attempt) ended: kept with the job."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    retryable: bool

    @classmethod
    def stored(cls, text: str | None) -> Self | None:
        """Read what a worker wrote, whichever version it has; ``None``: nothing."""
        try:
            return cls.model_validate_json(text) if text else None
        except ValidationError:
            message = "this version cannot read the error that a newer worker wrote"
            return cls(code="unknown", message=message, retryable=False)


class ForWhom(BaseModel):
    """For whom an account submitted a job, where it acts for others."""

    model_config = ConfigDict(frozen=True)

    account: str
    #: Who asked the submitting account, as that account says; empty: it did not say.
    subject: str = ""

    @classmethod
    def stored(cls, text: str | None) -> Self | None:
        """Read what a worker wrote, whichever version it has; ``None``: nothing."""
        try:
            return cls.model_validate_json(text) if text else None
        except ValidationError:
            return None

    def __str__(self) -> str:
        return f"{self.account}/{self.subject}" if self.subject else self.account


def submitter(account: str, other: ForWhom | None) -> str:
    """Who submitted a job: ``ci-gateway for team-a/ann``."""
    return account if other is None else f"{account} for {other}"


class JobRecord(BaseModel):
    """Everything that is known of a job, as ``--json`` prints it."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Kind = Kind.PUSH
    state: State
    step: Step | None = None
    #: The target reference; of a migration, its name.
    image: str
    #: The target's component; of a migration, empty.
    registry: str
    flavor: str | None = None
    source: str | None = None
    engine: str | None = None
    digest: str | None = None
    #: The registry had this very image already; no byte was sent.
    skipped: bool = False
    #: This submit found an equal job that was still queued, and is that job.
    deduplicated: bool = False
    #: Attempts that were started since the job was submitted or retried by hand.
    attempts: int = 0
    next_attempt_at: datetime | None = None
    #: The Redis account, and for whom it submitted the job: ``ci-gateway for team-a/ann``.
    submitted_by: str
    #: For whom; ``None``: for itself. From the first claim on, workers have checked it.
    on_behalf_of: ForWhom | None = None
    progress: Progress = Progress()
    labels: dict[str, str] = Field(default_factory=dict)
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    error: ErrorInfo | None = None
    #: Things that a person should know although the job succeeded.
    warnings: list[str] = Field(default_factory=list)
    bulk: bool = False
    #: Of a push, the one platform that is pushed; ``None``: all that the engine has.
    platform: str | None = None
    #: Of a push: it fails if the engine does not have every platform of the image.
    require_all_platforms: bool = False
    #: Of a copy, the source's component, or its host.
    source_registry: str | None = None
    #: Of a copy, all its tags at the target.
    tags: list[str] = Field(default_factory=list)
    #: The migration that a copy belongs to.
    migration: str | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()

    @property
    def pinned(self) -> str | None:
        """``repository@digest`` once the digest is known."""
        if self.digest is None:
            return None
        return ImageReference.parse(self.image).at(self.digest)


class JobEvent(BaseModel):
    """One change in a job's life, or (``kind == "progress"``) a step on the way."""

    model_config = ConfigDict(frozen=True)

    #: Place in the job's stream; empty for progress, which is not kept.
    id: str = ""
    kind: Literal["state", "step", "progress", "note"]
    at: datetime
    state: State
    step: Step | None = None
    message: str = ""
    progress: Progress | None = None
    error: ErrorInfo | None = None
    attempt: int = 0
    worker: str | None = None

    @classmethod
    def from_stream(cls, event_id: str, fields: dict[str, str]) -> Self:
        """Read one entry of a job's Redis stream; what only a newer version knows is left out."""
        values: dict[str, Any] = {
            name: fields[name] for name in ("message", "attempt", "worker") if fields.get(name)
        }
        values["error"] = ErrorInfo.stored(fields.get("error"))
        values["kind"] = fields["kind"] if fields["kind"] in {"state", "step"} else "note"
        values["state"] = known_state(fields["state"])
        values["step"] = known_step(fields.get("step"))
        values["at"] = when(int(fields["at"]))
        return cls(id=event_id, **values)


def when(milliseconds: int) -> datetime:
    """The time that a Redis value states in milliseconds since 1970, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
