"""Which addresses a connection may go to, decided on the address that is connected to.

A redirect or a token realm is a registry's word. It must not lead a worker to services of its
own machine (loopback) or to a cloud's metadata service (link-local), unless the registry
itself is there.
"""

from __future__ import annotations

import ipaddress
import socket
from enum import Flag, auto
from typing import Any, Final

from transship_worker.oci.endpoint import literal_address
from transship_worker.oci.errors import ForbiddenAddress

#: The metadata service of EC2 over IPv6 is not link-local (docs.aws.amazon.com, "IMDS").
_METADATA: Final = frozenset({ipaddress.ip_address("fd00:ec2::254")})


class Reach(Flag):
    """Kinds of addresses that a connection may go to, besides all others."""

    ELSEWHERE = 0
    LOOPBACK = auto()
    LINK_LOCAL = auto()
    ANYWHERE = LOOPBACK | LINK_LOCAL


def kind_of(text: str) -> Reach:
    """What it takes to connect to this address."""
    address = literal_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address is None:
        # A name: only its address can say.
        name = text.rstrip(".").lower()
        return Reach.LOOPBACK if name == "localhost" or name.endswith(".localhost") else Reach(0)
    # 0.0.0.0 and :: connect to this machine.
    if address.is_loopback or address.is_unspecified:
        return Reach.LOOPBACK
    if address.is_link_local or address in _METADATA:
        return Reach.LINK_LOCAL
    return Reach.ELSEWHERE


def check(text: str, allowed: Reach) -> None:
    """Return if a connection may go to this host or address.

    Raises:
        ForbiddenAddress: it may not.
    """
    if kind_of(text) & ~allowed:
        raise ForbiddenAddress(f"{text[:80]} is not to be reached from here")


class Sockets:
    """Makes the sockets of one connector; each address is looked at just before its connect."""

    def __init__(self, allowed: Reach) -> None:
        self._allowed = allowed

    def __call__(self, info: Any) -> socket.socket:
        """A socket for one of ``getaddrinfo``'s answers.

        Raises:
            ForbiddenAddress: its address is not allowed.
        """
        family, kind, protocol, _, address = info
        check(str(address[0]), self._allowed)
        made = socket.socket(family=family, type=kind, proto=protocol)
        # Small requests and large bodies share a connection; neither should wait.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
