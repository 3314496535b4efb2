"""How a job's keys become the record that people see.

Only workers write a job's state. A job that none of them claimed has no record yet, so what
the producer wrote says how it stands: it is queued, withdrawn, or too old to start.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from transship.model.jobs import JobId, State, known_state, known_step
from transship.model.records import ErrorInfo, ForWhom, JobRecord, Progress, submitter, when
from transship.model.requests import glimpse, parse_request
from transship.model.stored_text import TOO_LONG

if TYPE_CHECKING:
    from transship.ledger.stored_requests import StoredRequest
    from transship.model.requests import Request


@dataclass(frozen=True, slots=True)
class Stored:
    """What Redis holds of one job; absent parts are ``None`` or empty."""

    request: StoredRequest
    fields: dict[str, str]
    cancel_ms: int | None
    retry_ms: int | None
    submitted_ms: int | None
    #: Parts (``request``, ``record``) whose keys hold something else than they should.
    unreadable: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is such a job at all."""
        return self.request.text is not None or bool(self.fields) or bool(self.unreadable)


def compose(job: JobId, stored: Stored, now_ms: int, *, deduplicated: bool = False) -> JobRecord:
    """The record of a job that exists."""
    request = _request(stored.request)
    fields = stored.fields
    created = int(fields.get("created") or stored.submitted_ms or now_ms)
    state = known_state(fields["state"]) if "state" in fields else State.QUEUED
    error = ErrorInfo.stored(fields.get("error"))
    finished = _time(fields.get("finished"))
    other = _for_whom(request, fields)
    if (stored.unreadable or stored.request.too_long) and not fields:
        # Nobody can run it: what a worker would say of it, too.
        state, finished, error = State.FAILED, when(created), _unreadable(stored)
    elif stored.cancel_ms is not None and state in {State.QUEUED, State.RETRYING}:
        state, finished = State.CANCELLED, when(stored.cancel_ms)
        error = ErrorInfo(code="cancelled", message="cancelled on request", retryable=False)
    elif stored.retry_ms is not None and state in {State.FAILED, State.CANCELLED}:
        state, finished = State.QUEUED, None
    elif "state" not in fields and request and _too_old(stored, request, created, now_ms):
        state, finished = State.FAILED, when(created + request.expires_s * 1000)
        error = expired(request)
    return JobRecord(
        **_facts(request, stored),
        id=job,
        state=state,
        step=known_step(fields.get("step")) if state is State.RUNNING else None,
        flavor=fields.get("flavor") or None,
        digest=fields.get("digest") or None,
        skipped=fields.get("skipped") == "1",
        deduplicated=deduplicated,
        attempts=int(fields.get("attempts") or 0),
        next_attempt_at=_time(fields.get("next_at")) if state is State.RETRYING else None,
        submitted_by=submitter(job.account, other),
        on_behalf_of=other,
        progress=_progress(fields.get("progress")),
        created_at=when(created),
        started_at=_time(fields.get("started")),
        finished_at=finished if state.final else None,
        worker=fields.get("worker") or None,
        error=error if state is not State.SUCCEEDED else None,
        warnings=sentences(fields.get("warnings")),
    )


def _for_whom(request: Request | None, fields: dict[str, str]) -> ForWhom | None:
    """What a worker has checked, once one has; before that, what the request says."""
    if "state" in fields:
        return ForWhom.stored(fields.get("on_behalf_of"))
    said = request.on_behalf_of if request is not None else None
    return None if said is None else ForWhom(account=said.account, subject=said.subject)


def _labels(text: str | None) -> dict[str, str]:
    """Labels that a worker gave a job; they win over the request's."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): str(value) for name, value in found.items()}


def _unreadable(stored: Stored) -> ErrorInfo:
    if not stored.unreadable:
        message = f"the request was not read: {TOO_LONG}"
        return ErrorInfo(code="request_too_long", message=message, retryable=False)
    parts = " and ".join(stored.unreadable)
    message = f"its {parts} cannot be read: somebody wrote a value of another type there"
    return ErrorInfo(code="unreadable", message=message, retryable=False)


def _facts(request: Request | None, stored: Stored) -> dict[str, Any]:
    """What the record says of the request itself."""
    fields = stored.fields
    engine = fields.get("engine")
    if request is None:
        image, registry = fields.get("image", "?"), fields.get("registry", "?")
        seen = glimpse(stored.request.text) if stored.request.text else {}
        return {"image": image, "registry": registry, "engine": engine or None} | seen
    facts = request.facts() | ({"engine": engine} if engine else {})
    if labels := _labels(fields.get("labels")):
        facts["labels"] = facts.get("labels", {}) | labels
    return facts


def expired(request: Request) -> ErrorInfo:
    """The error of a job that nobody started in time."""
    return ErrorInfo(
        code="expired",
        message=f"no worker started it within {request.expires_s} s",
        retryable=False,
    )


def _too_old(stored: Stored, request: Request, created_ms: int, now_ms: int) -> bool:
    # Retried by hand, a job waits for as long as it takes.
    return stored.retry_ms is None and now_ms > created_ms + request.expires_s * 1000


def _request(stored: StoredRequest) -> Request | None:
    # Of a longer one, which is a specification or nothing, only the beginning was read.
    if stored.text is None or not stored.whole:
        return None
    try:
        return parse_request(stored.text)
    except ValidationError:
        # Written by hand or by another version; the worker's record says so.
        return None


def sentences(text: str | None) -> list[str]:
    """Sentences that a worker kept with a record."""
    found = json.loads(text) if text else []
    # JSON can write half a character, which nothing could print or write again.
    return [str(one).encode(errors="replace").decode() for one in found]


def _progress(text: str | None) -> Progress:
    try:
        return Progress.model_validate_json(text) if text else Progress()
    except ValidationError:
        # A newer worker's. It is news for people, and no record is to be hidden by it.
        return Progress()


def _time(milliseconds: str | None) -> datetime | None:
    return when(int(milliseconds)) if milliseconds else None
