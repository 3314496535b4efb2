"""Celery's connections to the primary: kombu's Redis transport over the connections of the ledger.

kombu has a transport for sentinels of its own, over redis-py's pools; see ``ledger.primary`` for
why it is not used. Patched or relied on: ``Celery(amqp=...)``, ``Connection.get_transport_cls``,
``Connection._info`` (what clones and pools are made of), ``Channel._connparams``,
``Channel.connection_class`` and ``connection_class_ssl``, ``Hub.on_tick``, ``Hub.call_repeatedly``,
``Transport.register_with_event_loop`` and ``close_connection``, ``MultiChannelPoller._channels``.
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection
from kombu.connection import ConnectionPool, PooledConnection
from kombu.transport import redis as kombu_redis

from transship.ledger.bounded_parser import BoundedParser
from transship.ledger.primary import (
    Primary,
    PrimaryConnection,
    PrimarySSLConnection,
    pool_options,
    primary_of,
)
from transship_config.celery_settings import celery_settings
from transship_config.settings import Settings

#: Between two attempts to connect; kombu's own grow to 30 s, while a new primary waits. Unit: s.
PAUSE_S: Final = 2.0
#: How often the event loop looks whether the server that it waits for was left. Unit: s.
LOOK_S: Final = 0.5


class PrimaryChannel(kombu_redis.Channel):
    """A channel whose connections go to the primary."""

    connection_class = PrimaryConnection
    connection_class_ssl = PrimarySSLConnection

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        options: dict[str, Any] = super()._connparams(asynchronous)
        primary: Primary = self.connection.client.primary
        return options | pool_options(primary) | {"parser_class": BoundedParser}


class PrimaryTransport(kombu_redis.Transport):
    """kombu's transport for Redis, with channels to the primary."""

    Channel = PrimaryChannel
    #: Event loops, each with what this transport has them call at every turn.
    _ticks: tuple[tuple[Any, set[Any]], ...] = ()
    #: The timer that closes connections to a server that was left.
    _closing: Any = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let a worker's event loop read from the connections."""
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self._ticks = (*self._ticks, (loop, loop.on_tick - before))
        if self._closing is not None:
            self._closing.cancel()
        self._closing = loop.call_repeatedly(LOOK_S, self._close_left)

    def _close_left(self) -> None:
        """Close what waits for a message of a server that another connection found gone.

        kombu itself gives up such a wait, but seconds later.
        """
        for channel in list(self.cycle._channels):
            for name in ("client", "subclient"):
                client = channel.__dict__.get(name)
                connection = getattr(client, "connection", None)
                if connection is not None and connection.is_left:
                    connection.disconnect()

    def close_connection(self, connection: Any) -> None:
        """Close, and let the event loop forget this transport.

        kombu (5.7.0) leaves its callback in ``Hub.on_tick``: with every lost connection a worker
        kept a transport, and ran one more callback in each turn of its loop.
        """
        try:
            super().close_connection(connection)
        finally:
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None
            for loop, ticks in self._ticks:
                loop.on_tick -= ticks
            self._ticks = ()


class BrokerConnection(Connection):
    """A connection of kombu to the primary, wherever it is; its URL is for people."""

    def __init__(self, *args: Any, primary: Primary, **options: Any) -> None:
        self.primary = primary
        super().__init__(*args, **options)

    def get_transport_cls(self) -> type[PrimaryTransport]:
        """The transport, whatever the scheme of the URL is."""
        return PrimaryTransport

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, however long it takes."""
        pauses = {"interval_start": PAUSE_S, "interval_step": 0, "interval_max": PAUSE_S}
        return super().ensure_connection(*args, **pauses | options)

    def _info(self, resolve: bool = True) -> Any:
        found = super()._info(resolve)
        # Resolved, it is for people and for Celery's remote control, which sends it as JSON.
        return found if resolve else (*found, ("primary", self.primary))

    def Pool(self, limit: int | None = None, **options: Any) -> Any:  # noqa: N802 - kombu's
        """A pool of connections like this one."""
        return _Pool(self, limit, **options)


class _Pooled(PooledConnection, BrokerConnection):
    """A connection of a pool."""


class _Pool(ConnectionPool):
    def new(self) -> Any:
        return _Pooled(self, **dict(self.connection._info(resolve=False)))


class _PrimaryAMQP(AMQP):
    """Makes the connections of an application."""

    def Connection(self, *args: Any, **options: Any) -> BrokerConnection:  # noqa: N802 - Celery's
        return BrokerConnection(*args, primary=self.app.redis_primary, **options)


def celery_app(settings: Settings, url: str, **options: Any) -> Any:
    """A Celery application whose connections go to the primary."""
    app = Celery("transship", set_as_current=False, amqp=_PrimaryAMQP, **options)
    app.conf.update(celery_settings(settings, url))
    app.redis_primary = primary_of(url)
    return app
