"""Asynchronous connections to the primary; see ``transship.ledger.primary``."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ResponseError

from transship.ledger.primary import ROLE_KNOWN_S, NotPrimary, Primary, moved, role_in
from transship_config.redis_url import host_and_port


class _ToPrimary:
    """What a connection to the primary does beyond redis-py's; mixed into its classes."""

    host: Any
    port: Any
    is_connected: Any
    disconnect: Any
    send_command: Any

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self._primary = primary
        self._generation = primary.generation
        self._role_known_until = 0.0
        super().__init__(**options)

    async def _connect(self) -> None:
        """Open the socket, to where the primary is now."""
        line: Any = super()
        self._generation = self._primary.generation
        # The handshake ends with the question.
        self._role_known_until = math.inf
        if self._primary.url.service:
            # The same question as everywhere; a loop must not wait for sentinels.
            self.host, self.port = await asyncio.to_thread(self._primary.find)
        try:
            await line._connect()
        except OSError:
            self._primary.doubt()
            raise

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, and see that the server is the primary."""
        line: Any = super()
        await line.on_connect_check_health(check_health)
        # redis-py keeps the answer to its own HELLO in synchronous connections only.
        await self._ask_role(fresh=True)
        # It may have let all others be given up.
        self._generation = self._primary.generation

    @property
    def _is_left(self) -> bool:
        """Whether it leads to a server that was found not to be the primary any more."""
        return self._generation != self._primary.generation and bool(self.is_connected)

    async def connect(self) -> None:
        """Connect, anew if the primary has moved since."""
        line: Any = super()
        if self._is_left:
            await self.disconnect(nowait=True)
        await line.connect()

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, but not to a server that is known to be the wrong one."""
        line: Any = super()
        if self._is_left:
            await self.disconnect(nowait=True)
            raise NotPrimary("the primary has moved")
        if check_health and time.monotonic() > self._role_known_until and self.is_connected:
            await self._ask_role(fresh=False)
            await self._confirm()
        await line.send_packed_command(command, check_health)

    async def _ask_role(self, *, fresh: bool) -> None:
        self._role_known_until = time.monotonic() + ROLE_KNOWN_S
        await self.send_command("HELLO", 3, check_health=False)
        reply = await self.read_response()
        try:
            self._primary.check((self.host, self.port), role_in(reply), fresh=fresh)
        except NotPrimary:
            await self._leave("is a replica")
            raise

    async def _confirm(self) -> None:
        if not self._primary.url.service:
            return
        try:
            await asyncio.to_thread(self._primary.confirm, (self.host, self.port))
        except NotPrimary:
            # The sentinel that was asked knows it: no other one is asked first.
            await self._leave("is not the primary any more, as the sentinels say", doubted=False)
            raise

    async def _leave(self, reason: str, *, doubted: bool = True) -> None:
        await self.disconnect(nowait=True)
        if doubted:
            self._primary.doubt()
        self._primary.leave(self._generation, (self.host, self.port), reason)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read; what only a server says that is not the primary breaks the connection."""
        line: Any = super()
        try:
            return await line.read_response(*args, **options)
        except (ResponseError, redis.exceptions.TimeoutError) as error:
            reason = moved(error)
            if reason is None or not options.get("disconnect_on_error", True):
                raise
            await self._leave(reason)
            if isinstance(error, redis.exceptions.TimeoutError):
                raise
            raise NotPrimary(f"{host_and_port((self.host, self.port))} {reason}") from None


class PrimaryConnection(_ToPrimary, Connection):
    """A connection to the primary."""


class PrimarySSLConnection(_ToPrimary, SSLConnection):
    """A connection to the primary by TLS."""
