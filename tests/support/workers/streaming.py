"""What a worker has for streamed pushes, without the worker."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.support.workers.single_push import Push
from transship.ledger.keys import Keys
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.fleet.budget import Governors
from transship_worker.fleet.layers import RedisLayers
from transship_worker.fleet.redis import FleetRedis
from transship_worker.handlers.registries import Way
from transship_worker.handlers.streaming import StreamWay
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.stream.push import StreamGrounds

#: Makes a push of a new image by its name and layers.
Fresh = Callable[..., Push]
#: What an image became in a repository.
Recall = Callable[..., str | None]


@contextmanager
def stream_way(redis_url: str, keys: Keys) -> Iterator[StreamWay]:
    """A background loop with its connections, and threads that compress."""

    async def make() -> tuple[FleetRedis, Way]:
        fleet = FleetRedis(redis_url)
        return fleet, Way(ClientPool(), Governors(fleet, keys, "worker-1"))

    with BackgroundLoop() as loop, ThreadPoolExecutor(2) as squeezers:
        fleet, way = loop.run(make())
        try:
            yield StreamWay(StreamGrounds(loop, RedisLayers(fleet, keys), squeezers), way)
        finally:
            loop.run(way.governors.close())
            loop.run(way.pool.close())
            loop.run(fleet.close())


def no_export(*_: Any) -> Generator[bytes, None, None]:
    raise AssertionError("nothing was to be exported")
