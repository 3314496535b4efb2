"""What an image became when it was streamed to a repository, for the threads of pushes.

Apart from ``layers``, since a worker that streams nothing does without the background loop.
"""

from __future__ import annotations

import logging
from typing import Any

import redis

from transship.ledger.connection import plain
from transship.ledger.keys import Keys
from transship.model.references import ImageReference
from transship_worker.fleet.port import scoped

logger = logging.getLogger("transship.worker")


def recall(
    client: redis.Redis, keys: Keys, image: ImageReference, image_id: str, scope: str = ""
) -> str | None:
    """Digest of the manifest; a hint. ``None``: it never was streamed, or Redis is away.

    ``scope``: who pushed it; empty: anybody of the fleet.
    """
    registry = scoped(image.registry, scope)
    try:
        found: Any = client.get(keys.pushed(registry, image.repository, image_id))
    except redis.RedisError as error:
        logger.debug("hints about images: %s", plain(error))
        return None
    return str(found) if found else None
