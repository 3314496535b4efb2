"""Flower's look at the queues where sentinels name the primary.

Flower 2.2 would ask one sentinel of several, without its login, and look into database 0.
"""

from __future__ import annotations

from typing import Any

from transship_worker.fleet.redis import FleetRedis


def look_at_primary(url: str) -> None:
    """Let Flower, if it is installed, read the lengths of queues from the primary."""
    try:
        from flower.utils import broker
    except ImportError:
        return

    class ToPrimary(broker.RedisSentinel):
        """Flower closes the client after each look."""

        def _prepare_master_name(self, broker_options: Any) -> str:  # noqa: ARG002 - Flower's
            return ""

        def _get_redis_client(self, broker_options: Any, broker_use_ssl: Any) -> Any:  # noqa: ARG002
            return FleetRedis(url).client

    broker.RedisSentinel = ToPrimary
