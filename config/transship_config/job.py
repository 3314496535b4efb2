"""What a job is: the request a producer writes, and the record that people see."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    field_validator,
)

from transship_config.errors import UnknownJob, UsageError
from transship_config.lanes import queue_name
from transship_config.reference import ImageReference

#: Version of the request format; a worker leaves a newer one to a newer worker (``request.py``).
REQUEST_VERSION: Final = 1

#: Seconds that one attempt may run before it is given up. Unit: s.
DEFAULT_DEADLINE_S: Final = 6 * 3600
#: Seconds that a job may wait for its first start. Unit: s.
DEFAULT_EXPIRES_S: Final = 24 * 3600
#: The longest deadline or expiry that a request may ask for. Unit: s.
LONGEST_S: Final = 30 * 24 * 3600
#: Labels a job may carry.
MOST_LABELS: Final = 32

#: Names of components and engines.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
#: Redis accounts whose name can stand in a key and in a job's id.
ACCOUNT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_]{0,31}$"
#: The account of a Redis URL without a user name.
DEFAULT_ACCOUNT: Final = "default"

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_JOB_ID = re.compile(r"(?P<core>[0-9a-hjkmnp-tv-z]{20})(?:-(?P<account>[A-Za-z0-9_]{1,32}))?")

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$")]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("control characters are not allowed")
    return value


LabelValue = Annotated[str, StringConstraints(max_length=256), AfterValidator(_printable)]


def _reference(value: object) -> object:
    return ImageReference.parse(value) if isinstance(value, str) else value


class Kind(StrEnum):
    """What sort of work a job is."""

    PUSH = "push"
    COPY = "copy"
    MIGRATION = "migration"


class State(StrEnum):
    """Where a job is in its life; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether a job in this state stays so unless somebody retries it."""
        return self in FINAL


FINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Step(StrEnum):
    """What a running job does."""

    PREPARING = "preparing"
    PUSHING = "pushing"
    VERIFYING = "verifying"
    #: A copy, while bytes travel.
    COPYING = "copying"
    #: A copy that waits for a blob that another one brings, or for its turn at a registry.
    WAITING = "waiting"
    #: A migration.
    PLANNING = "planning"


class Via(StrEnum):
    """Which way a push takes out of the Docker Engine."""

    #: The worker finds out which is faster.
    AUTO = "auto"
    #: The engine's own push.
    ENGINE = "engine"
    #: What the engine exports, compressed and sent by the worker.
    STREAM = "stream"


def known_state(text: str) -> State:
    """A state as a worker wrote it; one that only a newer version knows counts as running.

    So nobody takes the job for final, or starts it again, who does not know what that means.
    """
    return State(text) if text in set(State) else State.RUNNING


def known_step(text: str | None) -> Step | None:
    """A step as a worker wrote it; ``None``: none, or one that only a newer version knows."""
    return Step(text) if text in set(Step) else None


class JobId(str):
    """A job's name: 20 characters that sort by time, and ``-account`` unless it is ``default``.

    The first ten characters are the submitting machine's clock in milliseconds, the others
    are random, so that names made at once on many machines differ.
    """

    __slots__ = ()

    @classmethod
    def new(cls, account: str = DEFAULT_ACCOUNT) -> JobId:
        """A name that no other job has."""
        number = (time.time_ns() // 1_000_000) << 50 | secrets.randbits(50)
        core = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(95, -1, -5))
        return cls(core if account == DEFAULT_ACCOUNT else f"{core}-{account}")

    @classmethod
    def parse(cls, text: str) -> JobId:
        """Read a job's name as a person or a message gives it.

        Raises:
            UnknownJob: when no job can have this name.
        """
        text = text.strip()
        found = _JOB_ID.fullmatch(text)
        if not found or found["account"] == DEFAULT_ACCOUNT:
            raise UnknownJob(
                f"{text[:80]!r} is no id of a job or a migration; `transship jobs` and "
                "`transship migrate list` list the ids there are"
            )
        return cls(text)

    @property
    def account(self) -> str:
        """The Redis account that submitted the job, under whose prefix its request lies."""
        return self[21:] or DEFAULT_ACCOUNT


class PushRequest(BaseModel):
    """What a producer asks for. It never changes once it is written.

    It names a component and never says how that component is reached: no URL, no secret and
    no import path travels in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    version: Literal[1] = REQUEST_VERSION
    #: The target reference, with a tag.
    image: Annotated[ImageReference, PlainSerializer(str, return_type=str)]
    #: The registry component's name.
    registry: Name
    #: A local image (name or id) that is tagged as ``image`` first.
    source: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    #: The Docker Engine whose workers push; ``None``: any.
    engine: Name | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MOST_LABELS)] = Field(
        default_factory=dict
    )
    #: Bulk work has slots of its own and never delays an interactive push.
    bulk: bool = False
    #: Which way it takes.
    via: Via = Via.AUTO
    #: Seconds one attempt may run. Unit: s.
    deadline_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = DEFAULT_DEADLINE_S
    #: Seconds the job may wait for its first start. Unit: s.
    expires_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = DEFAULT_EXPIRES_S

    _parse_image = field_validator("image", mode="before")(_reference)

    @field_validator("image")
    @classmethod
    def _has_a_tag(cls, value: ImageReference) -> ImageReference:
        if value.digest is not None:
            raise ValueError(
                f"'{value}' names a digest; a push needs a tag: write {value.name}:TAG"
            )
        return value.tagged

    @field_validator("source")
    @classmethod
    def _source_is_one_word(cls, value: str | None) -> str | None:
        if value is not None and (not value.isprintable() or any(c.isspace() for c in value)):
            raise ValueError("source is an image's name or id, with no white space")
        return value

    def fingerprint(self) -> str:
        """Equal for requests that ask for the same; 32 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]

    def to_stored(self) -> str:
        """The JSON that the ledger holds: without what is left at its default, but the version."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps({"version": self.version} | fields, separators=(",", ":"))

    @property
    def kind(self) -> Kind:
        """What sort of work it is."""
        return Kind.PUSH

    @property
    def queue(self) -> str:
        """The queue that it waits in."""
        return queue_name(bulk=self.bulk, engine=self.engine)

    def target(self, job: str) -> str:  # noqa: ARG002 - of a migration it is the job itself
        """What only one job at a time may write."""
        return str(self.image)

    def facts(self) -> dict[str, Any]:
        """What the record says of the request itself."""
        return {
            "image": str(self.image),
            "registry": self.registry,
            "source": self.source,
            "engine": self.engine,
            "labels": dict(self.labels),
            "bulk": self.bulk,
        }

    @property
    def display(self) -> str:
        """One line for people, shown in Flower: ``image → component``."""
        return f"{self.image} → {self.registry}"


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
    submitted_by: str
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


def request_problem(error: ValueError) -> UsageError:
    """One line for the first mistake that pydantic found in a request."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return UsageError(str(error))
    first = errors(include_url=False)[0]
    # A request of a kind is found under that kind's name.
    found = [str(part) for part in first["loc"]]
    place = ".".join(found[1:] if found[:1] and found[0] in set(Kind) else found) or "request"
    text = str(first["msg"]).removeprefix("Value error, ")
    return UsageError(f"{place}: {text}")
