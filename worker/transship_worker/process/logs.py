"""Logs: one line an event, with the job's id; as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from transship_config.settings import Settings
from transship_config.text import clean


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The event's traceback, or the one that its sender has cleared of secrets."""
    cleared = getattr(record, "traceback", "")
    if cleared:
        return str(cleared)
    return formatter.formatException(record.exc_info) if record.exc_info else ""


class _Redacting(logging.Formatter):
    """Takes secrets out of what stands in a line, whoever wrote it."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        super().__init__()
        self._redact = redact

    def _message(self, record: logging.LogRecord) -> str:
        return self._redact(record.getMessage())

    def _trace(self, record: logging.LogRecord) -> str:
        return self._redact(_traceback(self, record))


class TextFormatter(_Redacting):
    """``time LEVEL [job] message``; a traceback follows on lines of its own, set in."""

    def format(self, record: logging.LogRecord) -> str:
        """One event."""
        job = getattr(record, "job", "")
        place = f" [{job}]" if job else ""
        line = f"{_time(record)} {record.levelname}{place} {clean(self._message(record))}"
        if trace := self._trace(record):
            # Set in: a line break in a foreign message must not begin what looks like an event.
            line += "".join(f"\n  {clean(part)}" for part in trace.split("\n"))
        return line


class JsonFormatter(_Redacting):
    """One JSON object an event: time, level, logger, job, message, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """One event."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
        }
        if job := getattr(record, "job", ""):
            event["job"] = str(job)
        if trace := self._trace(record):
            event["traceback"] = trace
        return json.dumps(event)


def set_up(settings: Settings, redact: Callable[[str], str] = str) -> None:
    """Send every log line to standard error in the chosen form.

    ``redact`` takes secrets out of a text. What ends a thread unforeseen is a log line, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    kind = JsonFormatter if settings.log_format == "json" else TextFormatter
    handler.setFormatter(kind(redact))
    threading.excepthook = _thread_ended
    sys.excepthook = _process_ended
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = settings.log_level.upper()
    root.setLevel(logging.WARNING)
    logging.getLogger("transship").setLevel(level)
    # Celery tells of every bell at level info; our own lines say more with less.
    logging.getLogger("celery").setLevel("WARNING" if level == "INFO" else level)
    # Raised by design for failed jobs, and logged by us with the job's id.
    logging.getLogger("celery.app.trace").setLevel("WARNING")
    # These log request headers at debug level, and with them credentials.
    for name in ("urllib3", "botocore", "boto3", "docker", "kombu", "amqp"):
        logging.getLogger(name).setLevel("WARNING")


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """In place of Python's own words on standard error."""
    if ended.exc_type is SystemExit:
        return
    name = ended.thread.name if ended.thread else "?"
    error = ended.exc_value or ended.exc_type()
    logging.getLogger("transship.worker").error(
        "thread %s ended with %s", name, ended.exc_type.__name__, exc_info=error
    )


def _process_ended(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The same for the main thread."""
    logging.getLogger("transship.worker").critical(
        "the worker ended with %s", kind.__name__, exc_info=(kind, error, trace)
    )
