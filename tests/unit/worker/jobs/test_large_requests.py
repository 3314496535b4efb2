"""Long requests are parsed one at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from transship.model.requests import MIGRATION_HEAD, parse_request
from transship_worker.jobs import runner
from transship_worker.jobs.claim_results import Body, Found


def test_long_requests_are_parsed_by_one_thread_whoever_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []

    def parse(text: str | bytes) -> object:
        names.append(threading.current_thread().name)
        return parse_request(text)

    monkeypatch.setattr(runner, "parse_request", parse)
    text = MIGRATION_HEAD + ',"version":1,"mode":"run","name":"x","rows":1}'
    bodies = [Body(Found.READ, text=text)] * 20
    with ThreadPoolExecutor(8) as slots:
        found = list(slots.map(lambda body: runner._parsed(body, in_a_thread=True), bodies))

    assert found == [parse_request(text)] * 20
    assert len(names) == 20
    assert set(names) == {"large-requests_0"}


def test_what_is_told_of_a_bad_request_holds_nothing_of_it() -> None:
    text = MIGRATION_HEAD + "".join(f',"key{number}":0' for number in range(3_000)) + "}"
    found = runner._parsed(Body(Found.READ, text=text), in_a_thread=True)
    assert isinstance(found, runner._Problem)
    assert found.code == "invalid_request"
    assert found.message.isprintable()
    assert len(found.message) < 200
