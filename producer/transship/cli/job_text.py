"""Jobs in words."""

from __future__ import annotations

from datetime import UTC, datetime

from transship.formatting import age, duration, size
from transship.model.jobs import State
from transship.model.records import JobEvent, JobRecord, Progress


def progress_text(progress: Progress) -> str:
    """``45 %, 1.2 GB of 2.7 GB, 3 of 7 layers``; empty while nothing is known."""
    parts = []
    if progress.bytes_total:
        # A share of bytes is rounded down: 100 % means all of them.
        percent = min(100, progress.bytes_done * 100 // progress.bytes_total)
        parts.append(f"{percent} %")
        parts.append(f"{size(progress.bytes_done)} of {size(progress.bytes_total)}")
    if progress.layers_total:
        parts.append(f"{progress.layers_done} of {progress.layers_total} layers")
    return ", ".join(parts)


def detail(record: JobRecord, now: datetime | None = None) -> str:
    """What its state alone does not say: the step, the error, the next attempt."""
    if record.state is State.RUNNING:
        words = [record.step.text if record.step else "", progress_text(record.progress)]
        return " ".join(word for word in words if word)
    if record.state is State.RETRYING:
        text = record.error.code if record.error else ""
        if record.next_attempt_at is not None:
            wait = (record.next_attempt_at - (now or datetime.now(UTC))).total_seconds()
            text += f", again in {duration(wait)}" if wait > 0 else ", again now"
        return text.removeprefix(", ")
    if record.state is State.SUCCEEDED:
        return "was there already" if record.skipped else took(record)
    # That a cancelled job was cancelled needs no second word.
    code = record.error.code if record.error else ""
    return code if code != record.state else ""


def took(record: JobRecord) -> str:
    """``in 34s``: how long the work lasted; empty where it is not known."""
    if record.started_at is None or record.finished_at is None:
        return ""
    return f"in {duration((record.finished_at - record.started_at).total_seconds())}"


def introduction(record: JobRecord) -> str:
    """The first line of a wait: the job's id, for `watch` and `cancel`."""
    same = f", an equal {record.kind} that was still queued" if record.deduplicated else ""
    if record.state is State.QUEUED:
        return f"queued as {record.id}{same}"
    return f"is job {record.id}{same}"


def _doing(event: JobEvent) -> str:
    return event.step.text if event.step else str(event.state)


def event_text(event: JobEvent) -> str:
    """One change in a job's life."""
    if event.kind == "progress":
        return f"{_doing(event)} {progress_text(event.progress or Progress())}".rstrip()
    if event.kind == "step":
        return _doing(event)
    if event.kind == "note":
        return f"note: {event.message}"
    words = str(event.state)
    if event.state is State.RUNNING:
        words += f" on {event.worker}" if event.worker else ""
        words += f", attempt {event.attempt}" if event.attempt > 1 else ""
        return words
    if event.error is not None:
        words += f" ({event.error.code})"
    messages = [event.error.message if event.error else "", event.message]
    return ": ".join([words, "; ".join(filter(None, messages))]).removesuffix(": ")


def failure(record: JobRecord) -> str:
    """Why a job did not succeed and what may be done now, in two lines."""
    error = record.error
    code = f" ({error.code})" if error and error.code != record.state else ""
    # A second line would be taken for the hint.
    why = f": {' '.join(error.message.split())}" if error else ""
    head = f"{record.image} {record.state}{code}{why}"
    hint = "may succeed as it is" if error and error.retryable else "when that is mended"
    if record.state is State.CANCELLED:
        hint = f"to {record.kind} it after all"
    return f"{head}\n{hint}: transship retry {record.id}"


def fields(record: JobRecord) -> list[tuple[str, str]]:
    """What ``transship status`` shows of a job, absent parts left out."""
    error = record.error
    rows = [
        ("job", record.id),
        ("image", record.image),
        ("state", " ".join(filter(None, [record.state, detail(record)]))),
        ("error", f"{error.code}: {error.message}" if error else ""),
        ("digest", record.digest or ""),
        ("registry", record.registry + (f" ({record.flavor})" if record.flavor else "")),
        ("platform", record.platform or ("all required" if record.require_all_platforms else "")),
        ("source", record.source or ""),
        ("read from", record.source_registry or ""),
        ("tags", " ".join(record.tags) if len(record.tags) > 1 else ""),
        ("migration", record.migration or ""),
        ("engine", record.engine or ""),
        ("worker", record.worker or ""),
        ("attempts", str(record.attempts)),
        ("queue", "bulk" if record.bulk else ""),
        ("labels", " ".join(f"{key}={text}" for key, text in record.labels.items())),
        ("submitted", f"{moment(record.created_at)} by {record.submitted_by}"),
        ("started", moment(record.started_at)),
        ("finished", moment(record.finished_at)),
        *(("warning", warning) for warning in record.warnings),
    ]
    return [(name, text) for name, text in rows if text]


def moment(at: datetime | None) -> str:
    """``5m ago (2026-11-24 12:00:00)``; empty for none."""
    if at is None:
        return ""
    return f"{age(at)} ago ({at.astimezone():%Y-%m-%d %H:%M:%S})"
