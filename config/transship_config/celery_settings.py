"""Celery's settings, queue names and task names.

Every process that talks to the broker (worker, producer, Flower) loads the same values: a
single one with a shorter visibility timeout would have running tasks delivered twice.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from kombu import Exchange, Queue

from transship_config.lanes import celery_prefix, queue_name, worker_queues
from transship_config.redis_tls import tls_options
from transship_config.redis_url import RedisUrl, host_and_port, parse_url
from transship_config.settings import Settings

#: The doorbell. A change of its arguments makes a new name.
PUSH_TASK: Final = "transship.push.v1"

#: How long Celery holds an unacknowledged message; one value everywhere. Unit: s.
VISIBILITY_TIMEOUT_S: Final = 24 * 3600


def queue(name: str) -> Queue:
    """A queue as kombu wants it: a list in Redis, reached through the default exchange."""
    return Queue(name, Exchange(""), routing_key=name)


def celery_settings(settings: Settings, url: str) -> dict[str, Any]:
    """Celery's configuration for the given Redis; see docs/design.md for the reasons."""
    return {
        "broker_url": _broker_url(parse_url(url)),
        # By value: left to the URL, kombu would not check the certificate, and Flower not connect.
        "broker_use_ssl": tls_options(url) or False,
        "result_backend": None,
        "broker_transport_options": {
            "global_keyprefix": celery_prefix(settings.namespace),
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_keepalive": True,
            # A server that falls silent is left within seconds, so that a new primary is found.
            "socket_timeout": 4,
            "socket_connect_timeout": 5,
            "health_check_interval": 3,
            "client_name": "transship",
            # Queues stand for priorities here, so each is one list and not four.
            "priority_steps": [0],
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5,
        # A Redis that refuses (it is full, or read-only for a while) is like one that is away: with
        # this a worker connects again, and without it ends.
        "broker_channel_error_retry": True,
        # Taken for good (a worker's consumers want no acknowledgement at all): a broken connection
        # cannot start a job twice, and what is lost is only a bell, which the reaper rings again.
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_pool": "threads",
        "worker_concurrency": settings.pushes + settings.bulk + settings.copies,
        "task_ignore_result": True,
        "result_extended": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_create_missing_queues": False,
        "task_queues": [queue(name) for name in worker_queues(bulk=False, engine=None)],
        "task_default_queue": queue_name(bulk=False, engine=None),
        "task_default_exchange": "",
        "task_default_routing_key": queue_name(bulk=False, engine=None),
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
    }


def _broker_url(url: RedisUrl) -> str:
    """The URL for Celery and Flower: without options, and with one sentinel of several.

    Connections go to the primary, whatever the URL says; ``transship.ledger.broker_connection``.
    """
    login = f"{url.username}:{quote(url.password, safe='')}@" if url.password else ""
    if url.username and not url.password:
        login = f"{url.username}@"
    return f"{url.scheme}://{login}{host_and_port(url.hosts[0])}/{url.database}"
