"""Which addresses a connection may go to, decided on the address that is connected to.

A redirect, a token realm, the place of an upload and the link to a next page are a registry's
word. They must not lead a worker to services that only this machine or its network should reach.
``allowed_networks`` of a component lists networks that its registry may lead to all the same.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from transship_worker.oci import addresses
from transship_worker.oci.addresses import Kind, Network
from transship_worker.oci.endpoint import literal_address
from transship_worker.oci.errors import ForbiddenAddress

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: No registry is there, and no network that is listed opens them.
_NEVER: Final = Kind.METADATA | Kind.MULTICAST | Kind.BROADCAST
#: This machine and its link.
_HERE: Final = Kind.LOOPBACK | Kind.UNSPECIFIED | Kind.LINK_LOCAL | Kind.OWN
#: What is refused although a proxy is asked for it, where a URL has the address itself.
REFUSED_BEHIND_PROXIES: Final = _HERE | _NEVER
_ELSEWHERE: Final = Kind.PRIVATE | Kind.GLOBAL | Kind.RESERVED
_NONE: Final = Kind(0)


@dataclass(slots=True)
class Home:
    """Where a host that the catalog names is: the classes of all its addresses so far."""

    seen: Kind = _NONE

    @classmethod
    def of(cls, host: str) -> Home:
        """What a host's name alone says: an address says its class."""
        return cls(addresses.kind_of(host) or _NONE)

    @property
    def outermost(self) -> Kind:
        """The class that gives it the least rights; a host that was never reached is global."""
        order = (Kind.GLOBAL, Kind.RESERVED, Kind.PRIVATE, Kind.LINK_LOCAL, Kind.OWN)
        if not self.seen:
            return Kind.GLOBAL
        return next((kind for kind in order if kind in self.seen), Kind.LOOPBACK)

    @property
    def leads(self) -> Kind:
        """Classes of addresses that it may lead to."""
        outermost = self.outermost
        found = Kind.GLOBAL | outermost
        if outermost in _HERE:
            found |= Kind.PRIVATE
        if outermost is Kind.LOOPBACK:
            found |= Kind.UNSPECIFIED | Kind.OWN
        # A registry on this machine may have an address of either kind.
        return found | (self.seen & _HERE if outermost is Kind.OWN else _NONE)


@dataclass(frozen=True, slots=True)
class Rule:
    """Where the requests for one URL may go."""

    registry: str
    #: Where the registry is; of a host that the catalog names, where that host is.
    home: Home
    networks: tuple[Network, ...] = ()
    #: The catalog names the host; else the registry leads there.
    named: bool = False
    #: The host proves its name by a certificate before anything is sent.
    proven: bool = False

    def check(self, text: str, *, only: Kind | None = None) -> Kind:
        """The class of an address that may be connected to; of a name, no class.

        ``only``: classes that are looked at; an address of another one passes.

        Raises:
            ForbiddenAddress: it may not be.
        """
        kind = addresses.kind_of(text)
        if kind is None:
            return _NONE
        passes = only is not None and kind not in only
        if passes or kind in self._allowed:
            return kind
        if kind not in _NEVER and addresses.lies_in(text, self.networks):
            return kind
        raise self._refusal(text, kind)

    def arrived(self, kind: Kind) -> None:
        """Remember the class of an address at which the host was reached."""
        if self.named:
            self.home.seen |= kind

    @property
    def _allowed(self) -> Kind:
        if not self.named:
            return self.home.leads & ~_NEVER
        if not self.home.seen:
            return ~_NEVER
        # A name that led elsewhere before does not lead here now, whoever answers there.
        proven = _ELSEWHERE if self.proven else _NONE
        return (self.home.seen | self.home.leads | proven) & ~_NEVER

    def _refusal(self, text: str, kind: Kind) -> ForbiddenAddress:
        what = f"{text[:80]} is {kind.label}"
        if kind in _NEVER:
            return ForbiddenAddress(f"{what}, where no registry is")
        outermost = self.home.outermost.label
        if self.named:
            why = f"and the name led to {outermost} before"
        elif self.home.seen:
            why = f"and a registry at {outermost} may not lead there"
        else:
            why = "and a registry behind a proxy may not lead there"
        address = literal_address(text)
        network = f"{ipaddress.ip_network(address)}" if address is not None else "NETWORK/BITS"
        return ForbiddenAddress(
            f"{what}, {why}", f"if that is right, set allowed_networks: [{network}]"
        )


@dataclass(slots=True)
class _Attempt:
    """The connection that one request is being given."""

    rule: Rule
    #: Addresses that the rule allowed.
    tried: int = 0
    refused: list[ForbiddenAddress] = field(default_factory=list)


#: What the connection that is made here and now is for; ``None``: for a proxy, which this
#: machine's own settings name.
_ATTEMPT: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


@contextmanager
def under(rule: Rule | None) -> Iterator[None]:
    """Have all connections of a block, and of the tasks that it starts, obey a rule."""
    token = _ATTEMPT.set(None if rule is None else _Attempt(rule))
    try:
        yield
    finally:
        _ATTEMPT.reset(token)


def make_socket(info: Any) -> socket.socket:
    """A socket for one of ``getaddrinfo``'s answers, whose address is looked at here.

    Raises:
        ForbiddenAddress: its address is not allowed.
    """
    family, kind, protocol, _, address = info
    attempt = _ATTEMPT.get()
    if attempt is not None:
        try:
            attempt.rule.check(str(address[0]))
        except ForbiddenAddress as error:
            attempt.refused.append(error)
            raise
        attempt.tried += 1
    made = socket.socket(family=family, type=kind, proto=protocol)
    # Small requests and large bodies share a connection; neither should wait.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class GuardedConnector(aiohttp.TCPConnector):
    """Gives a request no connection, new or idle, to an address that its rule refuses."""

    def __init__(self, **options: Any) -> None:
        """``options``: those of ``aiohttp.TCPConnector``."""
        super().__init__(socket_factory=make_socket, resolver=Resolver(), **options)

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection for a request.

        Raises:
            aiohttp.ClientConnectorError: there is none; ``ForbiddenAddress`` is its cause where
                no address of the host is allowed.
        """
        attempt = _ATTEMPT.get()
        try:
            found = await super().connect(req, traces, timeout)
        except aiohttp.ClientConnectorError as error:
            # Of several refusals the library makes one error, without their kind.
            if attempt is not None and attempt.refused and not attempt.tried:
                refused = attempt.refused[0]
                raise aiohttp.ClientConnectorError(req.connection_key, refused) from error
            raise
        peer = found.transport.get_extra_info("peername") if found.transport else None
        if attempt is not None and peer is not None:
            try:
                # An idle connection may have been made for another registry.
                attempt.rule.arrived(attempt.rule.check(str(peer[0])))
            except ForbiddenAddress as error:
                found.release()
                raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        return found


class Resolver(ThreadedResolver):
    """The system's; a name that is elsewhere is not on this machine or its link as well."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name, without those that a mixed answer should not have."""
        found = await super().resolve(host, port, family)
        kinds = [addresses.kind_of(one["host"]) or _NONE for one in found]
        if not any(kind & _ELSEWHERE for kind in kinds):
            return found
        return [one for one, kind in zip(found, kinds, strict=True) if kind & _ELSEWHERE]
