"""Celery's connections to the primary, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from tests.support.processes import free_port
from transship.ledger import broker_connection
from transship.ledger.broker_connection import PrimaryTransport, celery_app
from transship_config.settings import Settings


def _app(port: int) -> Any:
    url = f"sentinel://ci:planted@127.0.0.1:{port}/mymaster/3?sentinel_password=planted"
    return celery_app(Settings.from_environment({}), url)


def test_a_new_primary_is_not_kept_waiting_by_pauses_that_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert broker_connection.PAUSE_S <= 2
    monkeypatch.setattr(broker_connection, "PAUSE_S", 0.01)
    pauses: list[float] = []

    def told(_: Exception, pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 4:
            raise TimeoutError

    app = _app(free_port())
    with app.connection_for_read() as connection, pytest.raises(OperationalError):
        connection.ensure_connection(told)
    assert pauses == [0.01] * 4


def test_clones_and_pools_of_a_connection_lead_to_the_primary_too() -> None:
    connection = _app(free_port()).connection_for_write()
    with connection.Pool(1).acquire() as pooled:
        for one in (connection, connection.clone(), pooled):
            assert one.get_transport_cls() is PrimaryTransport
            assert one.primary is connection.primary


def test_what_is_shown_of_a_connection_names_no_password_and_no_object() -> None:
    app = _app(free_port())
    connection = app.connection_for_read()
    assert connection.as_uri().startswith("sentinel://ci:**@127.0.0.1:")
    shown = connection.info()
    assert "primary" not in shown
    json.dumps(shown)
    # The login of the sentinels is in no setting that Celery shows.
    assert "sentinel_password" not in str(dict(app.conf))


def test_sentinels_that_do_not_answer_are_an_error_of_the_broker() -> None:
    with (
        _app(free_port()).connection_for_write() as connection,
        pytest.raises(OperationalError, match="no sentinel names the primary"),
    ):
        connection.ensure_connection(max_retries=1)
