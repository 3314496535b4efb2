"""The connection to Redis, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from transship.errors import RedisIsReplica, RedisUnreachable
from transship.ledger.local_url import local_url
from transship.ledger.primary import (
    IsReplica,
    NotPrimary,
    PrimaryConnection,
    PrimarySSLConnection,
    pool_options,
    primary_of,
)
from transship_config.redis_tls import check_files, handshake_problem
from transship_config.redis_url import check_url, parse_url
from transship_config.settings import Settings

#: Used when nothing says where Redis is.
FALLBACK_URL = "redis://127.0.0.1:6379/0"

#: What Redis 7.0, and newer ones, say where an account lacks a right within a script.
REFUSED_IN_SCRIPT = ("user executing the script can't", "ACL failure in script")

#: Connections of one client; each command takes one for as long as it lasts.
MOST_CONNECTIONS = 100
#: To connect, and to wait for one reply. A primary that falls silent is left after that, so that a
#: caller goes on within 10 s of a new one. Unit: s.
CONNECT_TIMEOUT_S = 5
REPLY_TIMEOUT_S = 5


def connection_url(settings: Settings) -> str:
    """Where Redis is: the setting, else what ``transship up`` started, else the local default."""
    url = settings.url.get_secret_value() or local_url() or FALLBACK_URL
    check_url(url)
    return url


def connect(
    url: str,
    *,
    retries: int = 1,
    reply_timeout_s: float = REPLY_TIMEOUT_S,
    connections: int = MOST_CONNECTIONS,
) -> redis.Redis:
    """A client of the primary, whose replies are text. It connects when it is first used.

    ``connections``: the most that it opens.

    The library's name is not announced: ``CLIENT SETINFO`` is refused to narrow accounts.

    Raises:
        InvalidSettings: a file that the URL names cannot be used.
    """
    check_files(url)
    primary = primary_of(url)
    pool = redis.ConnectionPool(
        connection_class=PrimarySSLConnection if primary.url.tls else PrimaryConnection,
        **pool_options(primary),
        decode_responses=True,
        # Any account may have written what is read here: foul bytes must not stop a reader.
        encoding_errors="replace",
        client_name="transship",
        max_connections=connections,
        driver_info=None,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=reply_timeout_s,
        socket_keepalive=True,
        # No health checks: each retries by itself inside the retries of the command, and a Redis
        # that hangs then held a caller for minutes.
        health_check_interval=0,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), retries),
    )
    return redis.Redis.from_pool(pool)


def address(url: str) -> str:
    """The URL as it may be shown: without user and password."""
    return parse_url(url).shown


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what redis-py raises inside the block into one clear error.

    Raises:
        RedisUnreachable: naming the address, never the password.
    """
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise RedisUnreachable(
            f"Redis at {address(url)} refuses the login: {error}; "
            "check the user and password in TRANSSHIP_URL"
        ) from None
    except redis.exceptions.NoPermissionError as error:
        raise RedisUnreachable(
            f"Redis at {address(url)} does not let this account do that: {error}"
        ) from None
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        if problem := handshake_problem(error, url):
            raise RedisUnreachable(f"Redis at {address(url)}: {problem}") from None
        if isinstance(error, IsReplica):
            raise RedisIsReplica(
                f"Redis at {address(url)} is a replica, not the primary, and takes no writes; set "
                "TRANSSHIP_URL to its primary, or to the sentinels that know it "
                "(sentinel://HOST:PORT/SERVICE)"
            ) from None
        if isinstance(error, NotPrimary):
            raise RedisUnreachable(f"Redis at {address(url)}: {plain(error)}") from None
        raise RedisUnreachable(
            f"Redis at {address(url)} cannot be reached: {plain(error)}; start it "
            "(`transship up` does) or set TRANSSHIP_URL"
        ) from None
    except redis.exceptions.OutOfMemoryError:
        raise RedisUnreachable(
            f"Redis at {address(url)} is full (maxmemory); nothing was accepted"
        ) from None
    except (redis.exceptions.ReadOnlyError, redis.exceptions.ResponseError) as error:
        if any(words in str(error) for words in REFUSED_IN_SCRIPT):
            raise RedisUnreachable(
                f"Redis at {address(url)} does not let this account do that"
            ) from None
        raise RedisUnreachable(f"Redis at {address(url)} answered: {plain(error)}") from None


def is_full(error: Exception) -> bool:
    """Whether Redis had no room."""
    return isinstance(error, redis.exceptions.OutOfMemoryError)


def plain(error: Exception) -> str:
    """An error's text in one short line."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
