"""Which proxy a request goes through, by the variables that ``curl`` and Docker read.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``; lower case comes before upper
case, and the scheme's own variable before ``all_proxy`` (curl(1), "ENVIRONMENT"). ``no_proxy`` is
read as Go reads it (golang.org/x/net/http/httpproxy), with networks and ports; like there, nothing
on the loopback is asked through a proxy. A proxy looks up the names that it is asked for.

A value that cannot be used is an error: requests that were meant for a proxy never go directly.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from transship_config.errors import InvalidSettings

if TYPE_CHECKING:
    _Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    _Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Kinds of proxies, and the port of each that names none. ``socks5`` is ``socks5h`` as in Go: the
#: proxy looks names up.
_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080, "socks4a": 1080}
_EXAMPLES: Final = "http://proxy.example.com:3128 or socks5h://proxy.example.com:1080"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Target(Protocol):
    """A URL that is asked; ``yarl.URL`` is one."""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""

    @property
    def host(self) -> str | None:
        """Without brackets."""

    @property
    def port(self) -> int | None:
        """Its own, or its scheme's."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that a variable names."""

    #: ``http``, ``https``, ``socks5h`` or ``socks4a``.
    scheme: str
    #: Without brackets.
    host: str
    port: int
    #: The variable that names it, as it is written there.
    variable: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.scheme.startswith("socks")

    @property
    def address(self) -> str:
        """``host:port``, for URLs and messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Its URL without the login."""
        return f"{self.scheme}://{self.address}"

    @property
    def authorization(self) -> str | None:
        """``Proxy-Authorization`` for its login; ``None``: it has none."""
        if self.username is None:
            return None
        login = f"{self.username}:{self.password or ''}".encode()
        return f"Basic {base64.b64encode(login).decode()}"


class Proxies:
    """The proxies that an environment names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read the variables.

        Raises:
            InvalidSettings: a variable names no proxy that can be used.
        """
        self._proxies = {
            scheme: proxy
            for scheme in ("http", "https")
            if (proxy := _named(environment, f"{scheme}_proxy", "all_proxy"))
        }
        _, exceptions = _value(environment, "no_proxy")
        self._exceptions = _Exceptions(exceptions)

    def of(self, url: Target) -> Proxy | None:
        """The proxy for a URL; ``None``: it is asked directly."""
        proxy = self._proxies.get(url.scheme)
        host = url.host or ""
        if proxy is None or host == "localhost" or self._exceptions.have(host, url.port):
            return None
        return proxy

    def of_text(self, url: str) -> Proxy | None:
        """The same for a URL as a text."""
        return self.of(_Text(urlsplit(url)))


@dataclass(frozen=True, slots=True)
class _Text:
    """A URL that was a text; implements ``Target``."""

    parts: SplitResult

    @property
    def scheme(self) -> str:
        return self.parts.scheme

    @property
    def host(self) -> str | None:
        return self.parts.hostname

    @property
    def port(self) -> int | None:
        return self.parts.port or _DEFAULT_PORTS.get(self.parts.scheme)


class _Exceptions:
    """Hosts that are asked directly: the entries of ``no_proxy``."""

    def __init__(self, text: str) -> None:
        self._all = False
        #: Names with a dot before them, whether the name itself counts, and a port.
        self._names: list[tuple[str, bool, str]] = []
        self._addresses: set[tuple[_Address, str]] = set()
        self._networks: list[_Network] = []
        # curl separates by spaces, too.
        for entry in text.lower().replace(",", " ").split():
            self._add(entry)

    def have(self, host: str, port: int | None) -> bool:
        """Whether a host is asked directly."""
        address = _address(host)
        if address is not None and address.is_loopback:
            return True
        if self._all:
            return True
        if address is not None:
            if self._addresses & {(address, ""), (address, str(port))}:
                return True
            return any(address in network for network in self._networks)
        host = host.lower()
        for name, itself, only in self._names:
            if (host.endswith(name) or (itself and host == name[1:])) and only in {"", str(port)}:
                return True
        return False

    def _add(self, entry: str) -> None:
        """Take an entry; like Go, one that has no meaning is left out."""
        if entry == "*":
            self._all = True
            return
        if "/" in entry:
            network = _network(entry)
            if network is not None:
                self._networks.append(network)
            return
        host, port = _split_port(entry)
        address = _address(host)
        if address is not None:
            self._addresses.add((address, port))
            return
        name = host[1:] if host.startswith("*.") else host
        if name.strip("."):
            itself = not name.startswith(".")
            self._names.append((f".{name}" if itself else name, itself, port))


def _value(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """A variable's own spelling and its value; an empty one counts as not set."""
    for spelling in (name, name.upper()):
        value = environment.get(spelling, "").strip()
        if value:
            return spelling, value
    return name, ""


def _named(environment: Mapping[str, str], *names: str) -> Proxy | None:
    """The proxy of the first variable that has a value."""
    for name in names:
        variable, value = _value(environment, name)
        if value:
            return _parse(variable, value)
    return None


def _parse(variable: str, value: str) -> Proxy:
    # Not shown as a whole in messages: it may hold a login.
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidSettings(
            f"{variable} is not the URL of a proxy; write for example {_EXAMPLES}"
        ) from None
    if parts.scheme not in _PORTS:
        raise InvalidSettings(
            f"{variable} names a proxy of the kind {parts.scheme[:20]!a}, which is not supported; "
            f"write for example {_EXAMPLES}"
        )
    if not host or not host.isascii() or not host.isprintable() or " " in host or port == 0:
        raise InvalidSettings(
            f"{variable} is not the URL of a proxy; write for example {_EXAMPLES}"
        )
    return Proxy(
        "socks5h" if parts.scheme == "socks5" else parts.scheme,
        host,
        port or _PORTS[parts.scheme],
        variable,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )


def _split_port(entry: str) -> tuple[str, str]:
    """Host and port of ``host``, ``host:port``, ``address``, ``[address]``, ``[address]:port``."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, rest.removeprefix(":")
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        return host, port
    return entry, ""


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


def _address(text: str) -> _Address | None:
    """The address that a host is written as, IPv4 inside of IPv6 as IPv4; ``None``: a name."""
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
