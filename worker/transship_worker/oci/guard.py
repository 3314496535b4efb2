"""Which addresses a connection may go to, decided on the address that is connected to.

A redirect, a token realm, the place of an upload and the link to a next page are a registry's
word. They must not lead a worker to services that only this machine or its network should reach.
``allowed_networks`` of a component lists networks that its registry may lead to all the same.
"""

from __future__ import annotations

import ipaddress
import socket
from contextvars import ContextVar, Token
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from transship_worker.oci import addresses
from transship_worker.oci.addresses import Kind, Network
from transship_worker.oci.endpoint import literal_address
from transship_worker.oci.errors import ForbiddenAddress

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
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

    def arrived(self, kind: Kind) -> None:
        """Remember the class of an address at which the host was reached."""
        if kind not in self.seen:
            self.seen |= kind


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
        if passes or kind in _allowed(self.home.seen, named=self.named, proven=self.proven):
            return kind
        if kind not in _NEVER and addresses.lies_in(text, self.networks):
            return kind
        raise self._refusal(text, kind)

    def arrived(self, kind: Kind) -> None:
        """Remember the class of an address at which the host was reached."""
        if self.named:
            self.home.arrived(kind)

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


@lru_cache(maxsize=256)
def _allowed(seen: Kind, *, named: bool, proven: bool) -> Kind:
    """Classes that a rule allows for a host, or a registry, that was seen at these."""
    leads = Home(seen).leads
    if not named:
        return leads & ~_NEVER
    if not seen:
        return ~_NEVER
    # A name that led elsewhere before does not lead here now, whoever answers there.
    return (seen | leads | (_ELSEWHERE if proven else _NONE)) & ~_NEVER


class Attempt:
    """Has all connections of a block, and of the tasks that it starts, obey a rule.

    Not ``contextlib``'s: one is made for each request. ``rule``: ``None`` for a proxy, which this
    machine's own settings name.
    """

    __slots__ = ("_token", "refused", "rule", "tried")

    _token: Token[Attempt | None]

    def __init__(self, rule: Rule | None) -> None:
        self.rule = rule
        #: Addresses that the rule allowed.
        self.tried = 0
        #: The first refusal.
        self.refused: ForbiddenAddress | None = None

    def __enter__(self) -> None:
        self._token = _ATTEMPT.set(self)

    def __exit__(self, *_: object) -> None:
        _ATTEMPT.reset(self._token)


#: What the connection that is made here and now is for.
_ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def make_socket(info: Any) -> socket.socket:
    """A socket for one of ``getaddrinfo``'s answers, whose address is looked at here.

    Raises:
        ForbiddenAddress: its address is not allowed.
    """
    family, kind, protocol, _, address = info
    attempt = _ATTEMPT.get()
    if attempt is not None and attempt.rule is not None:
        try:
            attempt.rule.check(str(address[0]))
        except ForbiddenAddress as error:
            attempt.refused = attempt.refused or error
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
        #: The rule that let a connection pass last, and where its registry was seen by then. The
        #: peer of a connection stays the same, whoever has its address later.
        self._passed: WeakKeyDictionary[ResponseHandler, tuple[Rule, Kind]] = WeakKeyDictionary()

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
            if attempt is not None and attempt.refused is not None and not attempt.tried:
                raise aiohttp.ClientConnectorError(req.connection_key, attempt.refused) from error
            raise
        if attempt is not None and attempt.rule is not None:
            try:
                # An idle connection may have been made for another registry.
                self._check(found.protocol, attempt.rule)
            except ForbiddenAddress as error:
                found.release()
                raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        return found

    def _check(self, protocol: ResponseHandler | None, rule: Rule) -> None:
        """Return if a rule allows a connection.

        Raises:
            ForbiddenAddress: it does not.
        """
        if protocol is None or protocol.transport is None:
            return
        rule_before, seen_before = self._passed.get(protocol, (None, None))
        if rule_before is rule and seen_before is rule.home.seen:
            return
        peer = protocol.transport.get_extra_info("peername")
        if peer is not None:
            rule.arrived(rule.check(str(peer[0])))
            self._passed[protocol] = (rule, rule.home.seen)


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
