"""Which blob a layer became at a registry, and which manifest an image: kept in Redis for a while.

Hints: whoever uses one asks the registry whether it still holds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from transship.errors import RedisUnreachable
from transship.ledger.connection import plain
from transship.ledger.keys import Keys
from transship_worker.fleet.port import KnownLayer
from transship_worker.fleet.redis import FleetRedis
from transship_worker.oci import digests

logger = logging.getLogger("transship.worker")

T = TypeVar("T")

#: How long a hint is kept after it was last written. Unit: s.
KEPT_S: Final = 30 * 24 * 3600
#: How long a Redis that is away is waited for. Unit: s.
PATIENCE_S: Final = 1.0


class RedisLayers:
    """Implements ``fleet.port.Memory``."""

    def __init__(self, fleet: FleetRedis, keys: Keys) -> None:
        self._fleet = fleet
        self._keys = keys

    async def layers(self, registry: str, diff_ids: Collection[str]) -> dict[str, KnownLayer]:
        """See ``Memory``."""
        wanted = list(diff_ids)
        if not wanted:
            return {}
        names = [self._keys.layer(registry, diff_id) for diff_id in wanted]
        nothing: list[Any] = []
        texts = await self._asked(lambda: self._fleet.client.mget(names), nothing)
        found = {}
        for diff_id, text in zip(wanted, texts, strict=False):
            layer = _parsed(text)
            if layer is not None:
                found[diff_id] = layer
        return found

    async def remember(
        self,
        registry: str,
        repository: str,
        image: tuple[str, str] | None,
        layers: Mapping[str, KnownLayer],
    ) -> None:
        """See ``Memory``."""
        pipe = self._fleet.client.pipeline(transaction=False)
        for diff_id, layer in layers.items():
            text = json.dumps([layer.digest, layer.size, layer.tar_size, layer.repository])
            pipe.set(self._keys.layer(registry, diff_id), text, ex=KEPT_S)
        if image is not None:
            image_id, digest = image
            pipe.set(self._keys.pushed(registry, repository, image_id), digest, ex=KEPT_S)
        nothing: list[Any] = []
        await self._asked(pipe.execute, nothing)

    async def _asked(self, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        try:
            return await self._fleet.ask(call, patience_s=PATIENCE_S)
        except RedisUnreachable as error:
            logger.debug("hints about layers: %s", plain(error))
            return otherwise


def _parsed(text: object) -> KnownLayer | None:
    """A hint as it stands in Redis; ``None``: there is none, or none that can be read."""
    try:
        digest, size, tar_size, repository = json.loads(str(text))
    except (ValueError, TypeError):
        return None
    sizes = (size, tar_size)
    if not (digests.is_digest(str(digest)) and all(isinstance(n, int) and n >= 0 for n in sizes)):
        return None
    return KnownLayer(str(digest), size, tar_size, str(repository))
