"""The Celery entry point: ``celery -A transship_worker.app``, as Flower uses it.

Importing this module reads the settings and connects to nothing.
"""

from __future__ import annotations

from transship.ledger.connection import connection_url
from transship_config.redis_url import parse_url
from transship_config.settings import Settings, settings_with_url
from transship_worker.broker.application import create_app
from transship_worker.broker.flower_queues import look_at_primary

_settings = Settings.from_environment()
_url = connection_url(_settings)
app = create_app(settings_with_url(_settings, _url))
if parse_url(_url).service:
    look_at_primary(_url)
