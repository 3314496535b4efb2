"""Redis URLs: which ones can be used, and what they say.

``redis://`` and ``rediss://`` name one server, or a proxy before it. ``sentinel://`` names the
sentinels, the service that they watch, and what is needed to log in to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from transship_config.errors import InvalidSettings
from transship_config.names import ACCOUNT_PATTERN, DEFAULT_ACCOUNT
from transship_config.redis_tls import sentinel_options, tls_options

Address: TypeAlias = tuple[str, int]

SENTINEL: Final = "sentinel"
#: Ports where a URL names none.
_PORTS: Final = {"redis": 6379, "rediss": 6379, SENTINEL: 26379}
_EXAMPLES: Final = {
    "redis": "redis://host:6379/0",
    "rediss": "rediss://host:6379/0",
    SENTINEL: "sentinel://host:26379,host:26379/SERVICE/0",
}
#: Sentinels of one URL.
MOST_SENTINELS: Final = 32

_HOST: Final = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]+)(?::(?P<port>\d*))?"
    r"|\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\](?::(?P<port6>\d*))?"
)
_PATHS: Final = {
    "redis": re.compile(r"/?(?P<database>\d{0,4})"),
    # Names of services: sentinel.c, ``isValidMasterName`` (letters, digits, and ".-_").
    SENTINEL: re.compile(r"/(?P<service>[A-Za-z0-9._-]{1,64})(?:/(?P<database>\d{0,4}))?"),
}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a Redis URL says."""

    scheme: str
    #: The server, or the sentinels. IPv6 addresses are without brackets.
    hosts: tuple[Address, ...]
    #: What the sentinels call the primary and its replicas; empty: there are no sentinels.
    service: str
    database: int
    username: str
    password: str = field(repr=False)
    #: TLS to Redis, as redis-py's options; empty: none.
    tls: Mapping[str, Any]
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    #: TLS to the sentinels.
    sentinel_tls: Mapping[str, Any] = field(default_factory=dict)

    @property
    def account(self) -> str:
        """The Redis account."""
        return self.username or DEFAULT_ACCOUNT

    @property
    def shown(self) -> str:
        """The URL without logins and options."""
        hosts = ",".join(host_and_port(host) for host in self.hosts)
        service = f"/{self.service}" if self.service else ""
        return f"{self.scheme}://{hosts}{service}/{self.database}"


def host_and_port(address: Address) -> str:
    """``HOST:PORT``, with brackets around an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_url(url: str) -> None:
    """Refuse a Redis URL that cannot work, without ever repeating it.

    Raises:
        InvalidSettings: saying what is wrong and what would be right.
    """
    parse_url(url)


def parse_url(url: str) -> RedisUrl:
    """Read a Redis URL.

    Raises:
        InvalidSettings: it cannot work; the message never repeats it.
    """
    if any(c.isspace() or not c.isprintable() for c in url) or "#" in url:
        # The libraries would drop some of them, and read another URL then.
        raise InvalidSettings(
            "TRANSSHIP_URL has a space, a control character or a '#'; write them in a password as "
            "%20 or %23"
        )
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _PORTS:
        # Without "//" the part before the colon may be an account.
        written = (
            scheme if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else "redis"
        )
        refused = "" if written in _PORTS else f"; {written}:// is not supported"
        raise InvalidSettings(
            "TRANSSHIP_URL must be redis://host:port/db, rediss:// for TLS, or "
            f"{_EXAMPLES[SENTINEL]}{refused}"
        )
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    login, _, written_hosts = authority.rpartition("@")
    hosts = _hosts(scheme, written_hosts)
    service, database = _path(scheme, slash + path)
    username, password = _login(login)
    asked = sentinel_options(query) if scheme == SENTINEL else {}
    return RedisUrl(scheme, hosts, service, database, username, password, tls_options(url), **asked)


def _hosts(scheme: str, written: str) -> tuple[Address, ...]:
    example = _EXAMPLES[scheme]
    several = written.split(",") if scheme == SENTINEL else [written]
    if len(several) > MOST_SENTINELS:
        raise InvalidSettings(f"TRANSSHIP_URL has more than {MOST_SENTINELS} sentinels")
    found: list[Address] = []
    for one in several:
        match = _HOST.fullmatch(one)
        if match is None:
            raise InvalidSettings(f"TRANSSHIP_URL has {_host_mistake(one)}; write {example}")
        port = int(match["port"] or match["port6"] or _PORTS[scheme])
        if not 0 < port < 65536:
            raise InvalidSettings(f"TRANSSHIP_URL has a bad host or port; write {example}")
        found.append((match["name"] or match["six"], port))
    if len(set(found)) < len(found):
        raise InvalidSettings("TRANSSHIP_URL names a sentinel twice")
    return tuple(found)


def _host_mistake(written: str) -> str:
    host, colon, port = written.rpartition(":")
    if not written or (colon and not port.isdigit()) or "[" in written or ":" in host:
        return "a bad host or port"
    return "a host with characters that no host name has"


def _path(scheme: str, path: str) -> tuple[str, int]:
    """The service and the number of the database."""
    match = _PATHS.get(scheme, _PATHS["redis"]).fullmatch(path)
    if match is None:
        need = (
            "the service that the sentinels watch and a database number"
            if scheme == SENTINEL
            else "a database number"
        )
        raise InvalidSettings(
            f"TRANSSHIP_URL must end with {need}, for example {_EXAMPLES[scheme]}"
        )
    named = match.groupdict()
    return named.get("service") or "", int(named["database"] or 0)


def _login(login: str) -> tuple[str, str]:
    name, _, secret = login.partition(":")
    user, password = unquote(name), unquote(secret)
    if user and not re.fullmatch(ACCOUNT_PATTERN, user):
        # Alone before the @ it may be a password whose colon was forgotten.
        named = f"account {user[:40]!r}" if password else "account in TRANSSHIP_URL"
        raise InvalidSettings(
            f"the Redis {named} cannot be used: its name becomes part of keys and "
            "job ids; use up to 32 letters, digits, '_' and '-', no '-' first (a password alone is "
            "written redis://:PASSWORD@host)"
        )
    return user, password
