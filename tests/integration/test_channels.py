"""Channels of a worker's lanes, on a real Redis that goes away."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import kombu
import pytest
from kombu.message import Message
from kombu.transport.redis import Channel

from longshore_worker.channels import Rest, Unacknowledged, survive
from tests.support.redis import RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def as_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back at the end.
    monkeypatch.setattr(Channel, "QoS", Channel.QoS)
    Unacknowledged.install()


@contextmanager
def taken(connection: kombu.Connection) -> Iterator[Message]:
    """A message that was taken from a queue and not acknowledged yet."""
    channel = connection.channel()
    survive(channel, Rest(), lambda reason: None)
    queue = kombu.Queue("bells", channel=channel)
    queue.declare()
    kombu.Producer(channel, routing_key="bells").publish({"a": "bell"})
    message = queue.get(no_ack=False)
    assert message is not None
    yield message


def test_a_bell_of_a_connection_that_broke_is_no_error() -> None:
    with (
        RedisServer() as redis_server,
        kombu.Connection(redis_server.url) as connection,
        taken(connection) as message,
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
            message.channel.close()
        redis_server.start()

        message.ack()


def test_a_connection_that_broke_is_closed_with_a_bell_that_is_not_acknowledged() -> None:
    bells: list[Message] = []
    with RedisServer() as redis_server, kombu.Connection(redis_server.url) as connection:
        channel, other = connection.default_channel, connection.channel()
        queue = kombu.Queue("bells", channel=channel)
        survive(channel, Rest(), lambda reason: None)
        consumer = kombu.Consumer(channel, [queue], on_message=bells.append)
        consumer.consume()
        kombu.Consumer(other, [kombu.Queue("empty")]).consume()
        kombu.Producer(channel, routing_key="bells").publish({"a": "bell"})
        # Both wait for a message at the end: a channel that does cannot be closed in order.
        for _ in range(3):
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)
        assert len(bells) == 1
        redis_server.kill9()

        # As Celery does once it saw that the connection is gone.
        connection.collect(socket_timeout=0.1)
        connection.close()

        assert channel.closed


def test_a_bell_that_redis_cannot_hear_is_no_error() -> None:
    with RedisServer() as redis_server, kombu.Connection(redis_server.url) as connection:
        with taken(connection) as message:
            redis_server.kill9()

            message.ack()
        redis_server.start()


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


def test_a_bell_is_acknowledged() -> None:
    with (
        RedisServer() as redis_server,
        redis_server.client() as client,
        kombu.Connection(redis_server.url) as connection,
        taken(connection) as message,
    ):
        assert client.hlen("unacked") == 1

        message.ack()

        assert client.hlen("unacked") == 0
