"""The primary: where it is now, and connections that leave a server that no longer is it.

After a failover the old primary may answer as a replica, refuse writes, or be silent; behind a
proxy or a DNS name the same address leads elsewhere. redis-py would keep its connections. A
connection of this module checks the role of its server when it is opened and every few seconds,
and all connections of a process to one Redis are given up together.

redis-py's own pool for sentinels is not used: it loses a place at each failover (redis-py #4187),
and it takes the word of one sentinel without asking the server for its role.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Mapping
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import ReadOnlyError, ResponseError
from redis.retry import Retry

from transship_config.redis_url import Address, RedisUrl, host_and_port, parse_url

logger = logging.getLogger("transship")

#: How long the role of a server counts as known. Unit: s.
ROLE_KNOWN_S: Final = 3.0
#: How long sentinels that do not answer are not asked again by connections that work. Unit: s.
SENTINELS_AWAY_S: Final = 30.0
#: To connect to a sentinel, and to wait for its answer. Unit: s.
SENTINEL_TIMEOUT_S: Final = 1.0
#: What a server says to a client that waited for something when it became a replica (blocked.c).
_UNBLOCKED: Final = "UNBLOCKED"


class NotPrimary(redis.exceptions.ConnectionError):
    """The server is not the primary, or is left because another connection found so."""


class IsReplica(NotPrimary):
    """The one address that is known leads to a replica, and never led to a primary."""


class Primary:
    """Where the primary of one Redis is; shared by all connections of a process to it.

    Safe to share between threads and over a fork: it holds no lock, and what is lost in a race is
    found again by the next check.
    """

    def __init__(self, url: RedisUrl) -> None:
        self.url = url
        #: Grows when the primary has moved: connections that were opened before are given up.
        self.generation = 0
        #: The server that was last seen as primary; ``None``: none so far.
        self.address: Address | None = None
        self._first = 0
        self._left = False
        self._confirmed_until = 0.0

    def find(self) -> Address:
        """The address to connect to. Sentinels are asked in turn, from the one that knew it last.

        Raises:
            NotPrimary: no sentinel knows a primary of the service.
        """
        if not self.url.service:
            return self.url.hosts[0]
        hosts = self.url.hosts
        problems: list[str] = []
        last: Exception | None = None
        for number in range(len(hosts)):
            place = (self._first + number) % len(hosts)
            try:
                found = self._ask(hosts[place])
            except (redis.RedisError, OSError) as error:
                text = " ".join(str(error).split())[:200] or type(error).__name__
                problems.append(f"{host_and_port(hosts[place])}: {text}")
                last = error
                continue
            if found is not None:
                self._first = place
                return found
            problems.append(f"{host_and_port(hosts[place])} knows no service {self.url.service!r}")
        raise NotPrimary(f"no sentinel names the primary ({'; '.join(problems)})") from last

    def _ask(self, sentinel: Address) -> Address | None:
        """What one sentinel says; ``None``: it does not know the service."""
        host, port = sentinel
        url = self.url
        kind: Any = SSLConnection if url.sentinel_tls else Connection
        line = kind(
            host=host,
            port=port,
            username=url.sentinel_username or None,
            password=url.sentinel_password or None,
            protocol=2,
            decode_responses=True,
            driver_info=None,
            socket_connect_timeout=SENTINEL_TIMEOUT_S,
            socket_timeout=SENTINEL_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            **url.sentinel_tls,
        )
        try:
            line.connect()
            line.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
            reply: Any = line.read_response()
        finally:
            line.disconnect()
        return None if reply is None else (str(reply[0]), int(reply[1]))

    def confirm(self, address: Address) -> None:
        """See that sentinels still name a server that says that it is the primary.

        An old primary that was cut off or frozen goes on as one until the sentinels reach it. They
        are asked once for all connections of the process; without an answer, nothing is known.

        Raises:
            NotPrimary: they name another server.
        """
        now = time.monotonic()
        if not self.url.service or now < self._confirmed_until:
            return
        self._confirmed_until = now + ROLE_KNOWN_S
        try:
            named = self.find()
        except NotPrimary:
            self._confirmed_until = time.monotonic() + SENTINELS_AWAY_S
            return
        if named != address:
            raise NotPrimary(f"the sentinels name {host_and_port(named)} as the primary")

    def check(self, address: Address, role: object, *, fresh: bool) -> None:
        """Judge what a server says of its role; one that says nothing may be the primary.

        A ``fresh`` connection was led to it just now. If it is another server than before, all
        older connections are given up.

        Raises:
            NotPrimary: it is a replica, or a primary of the past.
        """
        if role not in {None, "master", b"master"}:
            never = not self.url.service and self.address is None and not self._left
            kind = IsReplica if never else NotPrimary
            raise kind(f"{host_and_port(address)} is a replica, not the primary")
        other = self.address is not None and self.address != address
        if not fresh:
            if other:
                raise NotPrimary(f"{host_and_port(address)} is not the primary any more")
            return
        if other:
            self.generation += 1
        if other or self._left:
            logger.warning("Redis: connected to the primary at %s", host_and_port(address))
        self._left = False
        self.address = address

    def doubt(self) -> None:
        """What a sentinel named is no primary, or cannot be reached: ask another one first."""
        self._first = (self._first + 1) % len(self.url.hosts)

    def leave(self, generation: int, address: Address, reason: str) -> None:
        """Give up all connections that are as old as the one that found a reason to."""
        if generation != self.generation or address != self.address:
            return
        self.generation += 1
        self.address = None
        self._left = True
        logger.warning(
            "Redis: the server at %s %s; its connections are closed, and the primary is looked for",
            host_and_port(address),
            reason,
        )


_PRIMARIES: Final[weakref.WeakValueDictionary[str, Primary]] = weakref.WeakValueDictionary()


def primary_of(url: str) -> Primary:
    """The one object of this process for a Redis URL.

    Raises:
        InvalidSettings: the URL cannot be used.
    """
    found = _PRIMARIES.get(url)
    if found is None:
        found = _PRIMARIES[url] = Primary(parse_url(url))
    return found


def pool_options(primary: Primary) -> dict[str, Any]:
    """What a pool of connections needs to know of where Redis is, as redis-py's arguments."""
    url = primary.url
    host, port = url.hosts[0]
    return {
        "primary": primary,
        "host": host,
        "port": port,
        "db": url.database,
        "username": url.username or None,
        "password": url.password or None,
        **url.tls,
    }


def role_in(reply: object) -> object:
    """The role in an answer to ``HELLO``; ``None``: it is not told."""
    if not isinstance(reply, Mapping):
        return None
    return reply.get("role", reply.get(b"role"))


def moved(error: BaseException) -> str | None:
    """Why an error of a server means that the primary is elsewhere; ``None``: it does not."""
    if isinstance(error, ReadOnlyError):
        return "refuses writes as a replica (READONLY)"
    if isinstance(error, ResponseError) and str(error).startswith(_UNBLOCKED):
        return "became a replica"
    if isinstance(error, redis.exceptions.TimeoutError):
        return "does not answer"
    return None


class _ToPrimary:
    """What a connection to the primary does beyond redis-py's; mixed into its classes."""

    host: Any
    port: Any
    is_connected: Any
    handshake_metadata: Any
    disconnect: Any
    send_command: Any

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self._primary = primary
        self._generation = primary.generation
        self._role_known_until = 0.0
        super().__init__(**options)

    def _connect(self) -> Any:
        """Open the socket, to where the primary is now."""
        line: Any = super()
        self._generation = self._primary.generation
        # The handshake ends with the question.
        self._role_known_until = math.inf
        self.host, self.port = self._primary.find()
        try:
            return line._connect()
        except OSError:
            self._primary.doubt()
            raise

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, and see that the server is the primary."""
        line: Any = super()
        line.on_connect_check_health(check_health)
        self._check_role(self.handshake_metadata, fresh=True)
        # It may have let all others be given up.
        self._generation = self._primary.generation

    @property
    def is_left(self) -> bool:
        """Whether it leads to a server that was found not to be the primary any more."""
        return self._generation != self._primary.generation and bool(self.is_connected)

    def connect(self) -> None:
        """Connect, anew if the primary has moved since."""
        line: Any = super()
        if self.is_left:
            self.disconnect()
        line.connect()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, but not to a server that is known to be the wrong one."""
        line: Any = super()
        if self.is_left:
            self.disconnect()
            # Not connected anew here: a transaction would lose what it watches.
            raise NotPrimary("the primary has moved")
        if check_health and time.monotonic() > self._role_known_until and self.is_connected:
            self.send_command("HELLO", 3, check_health=False)
            self._check_role(self.read_response(), fresh=False)
            self._confirm()
        line.send_packed_command(command, check_health)

    def _check_role(self, reply: object, *, fresh: bool) -> None:
        try:
            self._primary.check((self.host, self.port), role_in(reply), fresh=fresh)
        except NotPrimary:
            self._leave("is a replica")
            raise
        self._role_known_until = time.monotonic() + ROLE_KNOWN_S

    def _confirm(self) -> None:
        try:
            self._primary.confirm((self.host, self.port))
        except NotPrimary:
            # The sentinel that was asked knows it: no other one is asked first.
            self._leave("is not the primary any more, as the sentinels say", doubted=False)
            raise

    def _leave(self, reason: str, *, doubted: bool = True) -> None:
        self.disconnect()
        if doubted:
            self._primary.doubt()
        self._primary.leave(self._generation, (self.host, self.port), reason)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read; what only a server says that is not the primary breaks the connection."""
        line: Any = super()
        try:
            return line.read_response(*args, **options)
        except (ResponseError, redis.exceptions.TimeoutError) as error:
            reason = moved(error)
            if reason is None or not options.get("disconnect_on_error", True):
                raise
            self._leave(reason)
            if isinstance(error, redis.exceptions.TimeoutError):
                raise
            raise NotPrimary(f"{host_and_port((self.host, self.port))} {reason}") from None


class PrimaryConnection(_ToPrimary, Connection):
    """A connection to the primary."""


class PrimarySSLConnection(_ToPrimary, SSLConnection):
    """A connection to the primary by TLS."""
