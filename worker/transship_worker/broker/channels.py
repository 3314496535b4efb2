"""Channels to Redis that outlive what Celery and kombu do not.

What goes wrong on a channel goes wrong in the worker's event loop, where an error that is no
connection's is the end of the process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import MethodType
from typing import Any, Final

import redis
from kombu.transport.redis import Channel, QoS

from transship.ledger.bounded_parser import DROPPED, LONGEST_VALUE
from transship.ledger.connection import plain

logger = logging.getLogger("transship.worker")

#: How long no bells are taken once Redis had no room to note one. Unit: s.
REST_S: Final = 5.0
#: What kombu raises over bytes that are no message.
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class Rest:
    """No bells are taken for a while, because Redis has no room for what they ask for."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        """Take none from now on, for a while. May be called from any thread."""
        if self.over:
            logger.warning(
                "Redis is full (maxmemory): no job can be claimed. No bells are taken for %g s; "
                "those that were taken are rung again",
                REST_S,
            )
        self._until = time.monotonic() + REST_S

    @property
    def over(self) -> bool:
        """Whether bells may be taken."""
        return time.monotonic() >= self._until


def gate(channel: Any, free: Callable[[], bool], rest: Rest) -> None:
    """Let a channel take messages only while there is a free slot, and Redis has room.

    This is what Celery's ``worker_disable_prefetch`` does for its one consumer: the transport
    asks its ``qos`` before each blocking pop.
    """
    original = channel.qos.can_consume

    def can_consume(_: Any) -> bool:
        return rest.over and free() and bool(original())

    channel.qos.can_consume = MethodType(can_consume, channel.qos)


class Unacknowledged(QoS):
    """The messages of a channel that are not acknowledged, which die with the channel.

    kombu remembers each channel until the process ends, so as to put them back then. With that a
    channel whose connection broke, and which could not be closed in order, stayed with its sockets:
    one for each restart of Redis. Bells are rung again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_collect.cancel()

    @classmethod
    def install(cls) -> None:
        """Use it for all channels of this process: Celery opens some that no step of ours sees."""
        Channel.QoS = cls


def survive(channel: Any, refused: Callable[[str], None]) -> None:
    """Let a channel outlive what it cannot read, and a connection that broke.

    ``refused`` counts what it cannot read.

    That happens in the worker's event loop, where an error that is no connection's is the end of
    the process.
    """
    read = channel.handlers["BRPOP"]

    def read_or_drop(*args: Any, **kwargs: Any) -> Any:
        # Any producer may put bytes into a queue. The message is gone from Redis by now.
        try:
            return read(*args, **kwargs)
        except _UNREADABLE as error:
            too_long = getattr(error, "doc", None) == DROPPED.decode()
            reason = f"more than {LONGEST_VALUE} bytes" if too_long else plain(error)
            logger.warning("a message that is no bell was dropped: %s", reason)
            refused("too_long" if too_long else "no_bell")
            return None

    restore = channel.qos.restore_unacked_once

    def restore_or_leave(*args: Any, **kwargs: Any) -> None:
        # When a channel is closed, kombu puts back what is not acknowledged. A connection that
        # broke is closed twice, and the second time there is no address to connect to.
        if not _connected(channel):
            logger.debug("bells of a connection that is gone are not put back")
            return
        try:
            restore(*args, **kwargs)
        except (redis.RedisError, OSError) as error:
            logger.debug("bells are not put back: %s", plain(error))

    channel.handlers["BRPOP"] = read_or_drop
    channel.qos.restore_unacked_once = restore_or_leave


def take_for_good(consumer: Any) -> None:
    """Let a consumer that has not begun take its messages without a note of them in Redis.

    kombu would note each message that it hands out, and take the note back when Celery
    acknowledges it: two more calls for every bell. Nothing needs the notes. A bell that dies with
    its worker is rung again by the reaper, where kombu would put it back after a day.
    """
    consumer.no_ack = True
    # kombu asks a channel of its own whether an acknowledgement is due, and this kind never knows.
    # What it puts back (a bell that came while its consumer ended) goes its own way.
    consumer.channel.basic_ack = _nothing


def _nothing(*_: Any, **__: Any) -> None:
    """Acknowledge what needs no acknowledgement."""


def _connected(channel: Any) -> bool:
    """Whether a channel still knows where its broker is."""
    return channel.connection is not None and channel.connection.client is not None


def close(channel: Any) -> None:
    """Close a channel, also one whose connection broke while it waited for a message.

    kombu reads the answer first and gives up where there is none; it does not read twice.
    """
    try:
        channel.close()
    except (redis.RedisError, OSError):
        channel.close()
