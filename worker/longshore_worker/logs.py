"""Logs: one line an event, with the job's id; as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from longshore_config.settings import Settings


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    """Foreign text cannot forge a second line or move the terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The event's traceback, or the one that its sender has cleared of secrets."""
    cleared = getattr(record, "traceback", "")
    if cleared:
        return str(cleared)
    return formatter.formatException(record.exc_info) if record.exc_info else ""


class TextFormatter(logging.Formatter):
    """``time LEVEL [job] message``; a traceback follows on lines of its own, set in."""

    def format(self, record: logging.LogRecord) -> str:
        """One event."""
        job = getattr(record, "job", "")
        place = f" [{job}]" if job else ""
        line = f"{_time(record)} {record.levelname}{place} {_one_line(record.getMessage())}"
        if trace := _traceback(self, record):
            # Set in: a line break in a foreign message must not begin what looks like an event.
            line += "".join(f"\n  {_one_line(part)}" for part in trace.split("\n"))
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object an event: time, level, logger, job, message, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """One event."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if job := getattr(record, "job", ""):
            event["job"] = str(job)
        if trace := _traceback(self, record):
            event["traceback"] = trace
        return json.dumps(event)


def set_up(settings: Settings) -> None:
    """Send every log line to standard error in the chosen form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = settings.log_level.upper()
    root.setLevel(logging.WARNING)
    logging.getLogger("longshore").setLevel(level)
    # Celery tells of every bell at level info; our own lines say more with less.
    logging.getLogger("celery").setLevel("WARNING" if level == "INFO" else level)
    # Raised by design for failed jobs, and logged by us with the job's id.
    logging.getLogger("celery.app.trace").setLevel("WARNING")
    # These log request headers at debug level, and with them credentials.
    for name in ("urllib3", "botocore", "boto3", "docker", "kombu", "amqp"):
        logging.getLogger(name).setLevel("WARNING")
