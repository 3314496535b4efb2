"""A log's lines are ours: what others wrote in them cannot begin a line or obey a terminal."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from transship_worker.process.logs import JsonFormatter, TextFormatter

PLANTED = "no\n2026-01-01 INFO all is well\x1b[2J\x9b31m\u202e"


def event(**fields: object) -> logging.LogRecord:
    try:
        raise ValueError(PLANTED)
    except ValueError:
        record = logging.LogRecord("transship", 40, "", 0, "it: %s", (PLANTED,), sys.exc_info())
    record.__dict__.update(fields)
    return record


@pytest.mark.parametrize("fields", [{}, {"traceback": f"cleared\nValueError: {PLANTED}"}])
def test_neither_a_message_nor_a_traceback_obeys_what_was_planted(fields: dict[str, str]) -> None:
    head, *trace = TextFormatter().format(event(**fields)).split("\n")
    assert head.endswith("it: no\\n2026-01-01 INFO all is well\\x1b[2J\\x9b31m\\u202e")
    assert any("\\x1b[2J" in line for line in trace)
    assert all(line.isprintable() for line in (head, *trace))
    assert all(line.startswith("  ") for line in trace)


def test_an_event_in_json_is_one_printable_line_that_keeps_all() -> None:
    line = JsonFormatter().format(event(job="01h3xs0v8gq2m5kfnc7b"))
    assert line.isprintable()
    assert PLANTED in json.loads(line)["message"]
    assert PLANTED in json.loads(line)["traceback"]
