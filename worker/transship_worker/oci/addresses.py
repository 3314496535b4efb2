"""Classes of IP addresses, and what each of them means for a worker that connects there.

Sources: IANA's IPv4 and IPv6 Special-Purpose Address Registries; RFC 6890, 6598 (shared address
space), 4193 (unique local), 6052 and 8215 (IPv4 in IPv6), 3056 (6to4), 4380 (Teredo). Python's
``is_global`` and ``is_private`` are not used: what they say changed within releases.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress
from enum import Flag, auto
from functools import lru_cache
from typing import Final

from transship_worker.oci.endpoint import literal_address

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind(Flag):
    """The class of an address."""

    #: A service of a cloud that gives this machine's identity, or its logins, to whoever asks.
    METADATA = auto()
    LOOPBACK = auto()
    #: ``0.0.0.0`` and ``::``, which connect to the loopback.
    UNSPECIFIED = auto()
    LINK_LOCAL = auto()
    #: An address of one of this machine's (or container's) interfaces.
    OWN = auto()
    PRIVATE = auto()
    GLOBAL = auto()
    #: For documentation, benchmarks, protocols, or future use.
    RESERVED = auto()
    MULTICAST = auto()
    BROADCAST = auto()

    @property
    def label(self) -> str:
        """The class in a message: ``a private address``."""
        return _LABELS[self]


_LABELS: Final = {
    Kind.METADATA: "a metadata address",
    Kind.LOOPBACK: "a loopback address",
    Kind.UNSPECIFIED: "an unspecified address",
    Kind.LINK_LOCAL: "a link-local address",
    Kind.OWN: "an address of this machine",
    Kind.PRIVATE: "a private address",
    Kind.GLOBAL: "a global address",
    Kind.RESERVED: "a reserved address",
    Kind.MULTICAST: "a multicast address",
    Kind.BROADCAST: "a broadcast address",
}

#: Where several classes are possible the first one counts.
_STRICTEST: Final = (
    Kind.METADATA,
    Kind.LOOPBACK,
    Kind.UNSPECIFIED,
    Kind.LINK_LOCAL,
    Kind.OWN,
    Kind.BROADCAST,
    Kind.MULTICAST,
    Kind.RESERVED,
    Kind.PRIVATE,
    Kind.GLOBAL,
)

#: Metadata services, by who runs them: AWS, Azure, Google and others (169.254.169.254); logins of
#: containers in ECS and EKS (169.254.170.2 and .23); AWS over IPv6 (fd00:ec2::/32); Google over
#: IPv6; Azure's wire server; Alibaba; Oracle.
_METADATA: Final = (
    *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::/32", "fd20:ce::254"),
    *("168.63.129.16", "100.100.100.200", "192.0.0.192"),
)
_TABLE: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.METADATA: _METADATA,
    Kind.UNSPECIFIED: ("0.0.0.0", "::"),  # noqa: S104 - a class, nothing listens
    Kind.LOOPBACK: ("127.0.0.0/8", "::1"),
    Kind.LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    Kind.PRIVATE: (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        # fec0::/10 was site-local (RFC 3879).
        *("fc00::/7", "fec0::/10"),
    ),
    Kind.BROADCAST: ("255.255.255.255",),
    Kind.MULTICAST: ("224.0.0.0/4", "ff00::/8"),
    Kind.RESERVED: (
        *("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
        # Of IPv6 only 2000::/3 is in use; what is special within it follows.
        *("::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "3fff::/20"),
    ),
    Kind.GLOBAL: ("0.0.0.0/0", "::/0"),
}
#: The longest network that has an address says its class.
_NETWORKS: Final = sorted(
    ((ipaddress.ip_network(text), kind) for kind, texts in _TABLE.items() for text in texts),
    key=lambda pair: -pair[0].prefixlen,
)

#: IPv6 networks whose addresses hold an IPv4 address, by how many bits stand behind it: mapped,
#: translated, compatible, NAT64, 6to4.
_HOLDERS: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
#: NAT64 of a network's own, which may hold the IPv4 address in four places (RFC 6052, 2.2).
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_V4: Final = 0xFFFF_FFFF
#: Addresses of nobody (RFC 5737, 3849): who can bind them can bind any.
_NOBODY: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def kind_of(text: str) -> Kind | None:
    """The class of an address; ``None``: it is a name, and only its address can say.

    An IPv4 address inside an IPv6 one counts as that. ``localhost`` is a loopback address by its
    name (RFC 6761, 6.3).
    """
    address = literal_address(text)
    if address is None:
        name = text.rstrip(".").lower()
        local = name == "localhost" or name.endswith(".localhost")
        return Kind.LOOPBACK if local else None
    kind = _kind(address)
    if kind in Kind.PRIVATE | Kind.GLOBAL | Kind.RESERVED and any(map(_is_own, forms(address))):
        return Kind.OWN
    return kind


def forms(address: Address) -> tuple[Address, ...]:
    """The address and the IPv4 addresses that it may hold."""
    return (
        (address, *_inside(address)) if isinstance(address, ipaddress.IPv6Address) else (address,)
    )


def lies_in(text: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address, or the IPv4 address that it holds, lies in one of these networks."""
    address = literal_address(text)
    if address is None:
        return False
    return any(one in network for one in forms(address) for network in networks)


@lru_cache(maxsize=1024)
def _kind(address: Address) -> Kind:
    # What holds an address is that address; for itself it would be reserved.
    found = {_listed(one) for one in forms(address)[1:] or (address,)}
    return next(kind for kind in _STRICTEST if kind in found)


def _listed(address: Address) -> Kind:
    return next(kind for network, kind in _NETWORKS if address in network)


def _inside(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """IPv4 addresses that an IPv6 address holds, or may hold."""
    number = int(address)
    if number <= 1:
        # ``::`` and ``::1`` hold nothing.
        return
    for network, behind in _HOLDERS:
        if address in network:
            yield ipaddress.IPv4Address(number >> behind & _V4)
    if address in _TEREDO:
        yield ipaddress.IPv4Address(number >> 64 & _V4)
        yield ipaddress.IPv4Address(number & _V4 ^ _V4)
    if address in _LOCAL_NAT64:
        yield from _in_local_nat64(number)


def _in_local_nat64(number: int) -> Iterator[ipaddress.IPv4Address]:
    """At the end after a prefix of 96 bits; else around bits 64 to 71, and followed by zeros.

    The length of the prefix is not known, so that there may be several.
    """
    if number & 0xFF_FFFF:
        yield ipaddress.IPv4Address(number & _V4)
        return
    upper, lower = number >> 64, number & (1 << 64) - 1
    # Prefixes of 64, 56 and 48 bits.
    for before in (0, 8, 16):
        after = 32 - before
        rest = 56 - after
        if lower >> 56 == 0 and lower & (1 << rest) - 1 == 0:
            high = upper & (1 << before) - 1
            yield ipaddress.IPv4Address(high << after | lower >> rest)


def _is_own(address: Address) -> bool:
    """Whether one of this machine's interfaces has the address just now."""
    text = str(address)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if not _can_bind(family, text):
        return False
    if not _can_bind(family, _NOBODY[family]):
        return True
    # net.ipv4.ip_nonlocal_bind is set: the address that would be sent from tells instead.
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((text, 9))
        return bool(probe.getsockname()[0] == text)
    return False


def _can_bind(family: socket.AddressFamily, text: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((text, 0))
    except OSError:
        return False
    return True
