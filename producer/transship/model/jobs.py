"""What all jobs have: an id, a kind, a state and a step."""

from __future__ import annotations

import re
import secrets
import time
from enum import StrEnum
from typing import Final

from transship.errors import UnknownJob
from transship_config.names import DEFAULT_ACCOUNT

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_JOB_ID = re.compile(
    r"(?P<core>[0-9a-hjkmnp-tv-z]{20})(?:-(?P<account>[A-Za-z0-9_][A-Za-z0-9_-]{0,31}))?"
)


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
    #: A push by an engine that sends no progress (Podman).
    UPLOADING_UNREPORTED = "uploading_unreported"
    VERIFYING = "verifying"
    #: A copy, while bytes travel.
    COPYING = "copying"
    #: A copy that waits for a blob that another one brings, or for its turn at a registry.
    WAITING = "waiting"
    #: A migration.
    PLANNING = "planning"

    @property
    def text(self) -> str:
        """The step as people read it."""
        if self is Step.UPLOADING_UNREPORTED:
            return "uploading (Podman reports no progress)"
        return str(self)


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


def names_job(text: str, account: str) -> bool:
    """Whether a job of this account can be called so."""
    found = _JOB_ID.fullmatch(text)
    return found is not None and found["account"] == (
        None if account == DEFAULT_ACCOUNT else account
    )


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
