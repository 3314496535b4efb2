"""Channels of a worker's lanes, on a real Redis that goes away."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import kombu
import pytest
from kombu.asynchronous import Hub
from kombu.message import Message
from kombu.transport.redis import Channel

from tests.support.servers.redis import RedisServer
from transship.ledger.broker_connection import celery_app
from transship_config.settings import Settings
from transship_worker.broker.channels import Unacknowledged, survive, take_for_good

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def as_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back at the end.
    monkeypatch.setattr(Channel, "QoS", Channel.QoS)
    Unacknowledged.install()


@contextmanager
def taken(connection: kombu.Connection, **options: bool) -> Iterator[Message]:
    """A bell that a worker's consumer took."""
    bells: list[Message] = []
    channel = connection.default_channel
    survive(channel, lambda reason: None)
    queue = kombu.Queue("bells", channel=channel)
    consumer = kombu.Consumer(channel, [queue], on_message=bells.append)
    if options.get("for_good", True):
        take_for_good(consumer)
    consumer.consume()
    kombu.Producer(channel, routing_key="bells").publish({"a": "bell"})
    connection.drain_events(timeout=5)
    (bell,) = bells
    yield bell


def test_a_bell_is_taken_for_good_and_nothing_is_noted_of_it() -> None:
    with (
        RedisServer() as redis_server,
        redis_server.client() as client,
        kombu.Connection(redis_server.url) as connection,
        taken(connection) as bell,
    ):
        assert client.hlen("unacked") == client.llen("bells") == 0
        before = client.info("stats")["total_commands_processed"]

        bell.ack()

        # The question itself.
        assert client.info("stats")["total_commands_processed"] == before + 1


def test_a_bell_of_a_connection_that_broke_is_no_error() -> None:
    with (
        RedisServer() as redis_server,
        kombu.Connection(redis_server.url) as connection,
        taken(connection) as bell,
        connection.channel() as other,
    ):
        # A channel that waits for a message cannot be closed in order; the others are left.
        kombu.Consumer(other, [kombu.Queue("empty")]).consume()
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.1)
        redis_server.kill9()
        # As Celery does once it saw that the connection is gone, and as lanes are stopped.
        connection.collect(socket_timeout=0.1)
        connection.close()
        with suppress(Exception):
            bell.channel.close()
        redis_server.start()

        bell.ack()


def test_a_connection_that_broke_is_closed_with_a_message_that_is_not_acknowledged() -> None:
    with (
        RedisServer() as redis_server,
        kombu.Connection(redis_server.url) as connection,
        # As those for Celery's remote control.
        taken(connection, for_good=False) as bell,
        connection.channel() as other,
    ):
        kombu.Consumer(other, [kombu.Queue("empty")]).consume()
        # Both wait for a message at the end: a channel that does cannot be closed in order.
        for _ in range(3):
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)
        redis_server.kill9()

        # As Celery does once it saw that the connection is gone.
        connection.collect(socket_timeout=0.1)
        connection.close()

        assert bell.channel.closed


def test_a_channel_whose_connection_broke_is_forgotten() -> None:
    with RedisServer() as redis_server, kombu.Connection(redis_server.url) as connection:
        # As that of Celery's remote control, which hears what all workers are told.
        channel = connection.channel()
        assert channel.qos.can_consume()
        exchange = kombu.Exchange("told", type="fanout")
        kombu.Consumer(channel, [kombu.Queue("heard", exchange, auto_delete=True)]).consume()
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.1)
        redis_server.kill9()
        connection.collect(socket_timeout=0.1)
        connection.close()
        assert not channel.closed
        known = weakref.ref(channel)

        del channel
        gc.collect()

        assert known() is None


def test_the_event_loop_forgets_a_connection_that_broke() -> None:
    # kombu #2492 left its callback there: each reconnection cost memory, and a call in each turn.
    with RedisServer() as redis_server:
        app = celery_app(Settings.from_environment({}), redis_server.url)
        loop = Hub()
        others = {_nothing}
        loop.on_tick |= others
        known = []
        for _ in range(3):
            connection = app.connection_for_read()
            connection.transport.register_with_event_loop(connection.connection, loop)
            assert loop.on_tick > others
            known.append(weakref.ref(connection.transport))
            redis_server.kill9()
            redis_server.start()

            # As Celery does once it saw that the connection is gone.
            connection.collect(socket_timeout=0.1)
            loop.reset()
            loop.timer.clear()

            assert loop.on_tick == others
        gc.collect()
        assert [one() for one in known] == [None] * 3


def test_a_wait_for_a_message_ends_when_another_connection_leaves_the_server() -> None:
    with RedisServer() as redis_server:
        app = celery_app(Settings.from_environment({}), redis_server.url)
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            kombu.Consumer(channel, [kombu.Queue("waits", channel=channel)]).consume()
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)
            waits = channel.client.connection
            connection.transport._close_left()
            assert waits.is_connected

            primary = connection.primary
            primary.leave(primary.generation, primary.address, "is left by a test")
            connection.transport._close_left()
            assert not waits.is_connected


def _nothing() -> None:
    """Another's callback."""
