"""The connection to Redis of all that runs in the background loop.

Made once a worker process, in that loop, and shared by leads and budgets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import redis.asyncio
from redis.backoff import ExponentialWithJitterBackoff
from redis.commands.core import AsyncScript
from redis.retry import Retry

from transship.ledger.connection import CONNECT_TIMEOUT_S, reaching
from transship.ledger.primary import pool_options, primary_of
from transship.ledger.scripts import read_script
from transship_worker.fleet.primary import PrimaryConnection, PrimarySSLConnection

T = TypeVar("T")

#: Seconds to wait for one reply. A script takes milliseconds; work in the loop can be repeated
#: and must not hang on a Redis that does. Unit: s.
REPLY_TIMEOUT_S: Final = 5
#: Connections of one process; more callers wait for one to be free.
CONNECTIONS: Final = 16
#: How long a caller waits for a free connection. Unit: s.
FREE_TIMEOUT_S: Final = 30
#: Redis does not answer.
AWAY: Final = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
#: Refusals that end when somebody tends to Redis.
MAY_PASS: Final = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)
#: Between two tries while Redis is away. Unit: s.
PAUSE_S: Final = 0.2


class FleetRedis:
    """An asynchronous client, and scripts that outlast a short outage. Replies are text."""

    def __init__(self, url: str) -> None:
        """Nothing is connected before the first command."""
        primary = primary_of(url)
        pool = redis.asyncio.BlockingConnectionPool(
            connection_class=PrimarySSLConnection if primary.url.tls else PrimaryConnection,
            **pool_options(primary),
            max_connections=CONNECTIONS,
            timeout=FREE_TIMEOUT_S,
            decode_responses=True,
            encoding_errors="replace",
            client_name="transship",
            # ``CLIENT SETINFO`` is refused to narrow accounts.
            driver_info=None,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=REPLY_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=0,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 1),
        )
        self._url = url
        self.client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)

    def script(self, *names: str) -> AsyncScript:
        """A script of ``fleet/lua``, put together from these files in their order."""
        text = "".join(read_script("transship_worker.fleet", name) for name in names)
        return self.client.register_script(text)

    async def ask(self, call: Callable[[], Awaitable[T]], *, patience_s: float = 0) -> T:
        """Make a call; while Redis is away or full, again and again for ``patience_s`` seconds.

        A command may so run twice, since the answer of the first may be what was lost.

        Raises:
            RedisUnreachable: Redis does not answer, or refuses.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + patience_s
        with reaching(self._url):
            while True:
                try:
                    return await _cancellable(call())
                except redis.exceptions.AuthenticationError:
                    raise
                except (*AWAY, *MAY_PASS):
                    if clock() + PAUSE_S > end:
                        raise
                await asyncio.sleep(PAUSE_S)

    async def run(
        self, script: AsyncScript, args: Sequence[str | int], *, patience_s: float = 0
    ) -> Any:
        """Run a script as ``ask`` makes any call."""
        return await self.ask(lambda: script(args=args), patience_s=patience_s)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _cancellable(call: Awaitable[T]) -> T:
    """Await a call, and end cancelled if the library swallowed that (redis-py 8.1 may)."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await call
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
