"""How URLs of registries are reached: proxies, TLS, and the connections that clients share.

Proxies are taken from the environment here (``proxies``) and not by the HTTP library, which would
also take logins from ``~/.netrc``.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from transship.errors import CredentialsMissing, RegistryUntrusted
from transship_config import __version__
from transship_worker.credentials.access import Access
from transship_worker.oci.deadlines import Deadlines
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.guard import REFUSED_BEHIND_PROXIES, GuardedConnector, Home, Rule
from transship_worker.oci.heads import bound_heads
from transship_worker.oci.manifest_cache import KeptManifests
from transship_worker.oci.manifest_memory import ManifestMemory
from transship_worker.oci.proxies import Proxies, Proxy

#: Ways to origins that are remembered; a registry's storage may have many.
WAYS_KEPT: Final = 1_024
#: Hosts of the catalog whose addresses' classes are remembered.
HOMES_KEPT: Final = 1_024
#: TLS settings that are remembered: one for each access, and one more for each renewed file.
CONTEXTS_KEPT: Final = 256
#: How long an idle connection is kept. Unit: s.
KEEP_ALIVE_S: Final = 60.0
#: How long an answer of the resolver counts. Unit: s.
NAME_CACHE_S: Final = 30
#: Bytes that wait unread in a connection before its sender is held back. Unit: bytes.
READ_BUFFER: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Way:
    """How one URL is asked: on which connections, with which TLS, through which proxy."""

    session: aiohttp.ClientSession
    #: Where its connections may go; ``None``: to a proxy.
    rule: Rule | None
    #: ``True``: none is needed.
    tls: ssl.SSLContext | bool
    proxy: URL | None = None
    #: ``Proxy-Authorization``, where the proxy's URL has a login.
    proxy_login: str | None = field(default=None, repr=False)


class Connections:
    """The sessions of one worker process. Not to be used outside its event loop."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Read the proxies of an environment, of this process where none is given.

        Raises:
            InvalidSettings: a variable names a proxy that cannot be used.
        """
        self._proxies = Proxies(os.environ if environment is None else environment)
        #: By the SOCKS proxy that they go through; ``None``: through none.
        self._sessions: dict[Proxy | None, aiohttp.ClientSession] = {}
        #: By the name of a host that the catalog names.
        self._homes: dict[str, Home] = {}
        self._tls: dict[tuple[Access, bool], ssl.SSLContext] = {}
        #: Base URLs that answered, by endpoint: shared by the clients of all its logins.
        self.bases: dict[Endpoint, URL] = {}
        #: What all clients keep and hold of manifests.
        self.kept = KeptManifests()
        self.manifest_memory = ManifestMemory()
        self.deadlines: Final = Deadlines()
        self._tls_lock = asyncio.Lock()
        self._ways: dict[tuple[object, ...], Way] = {}

    async def way(self, url: URL, endpoint: Endpoint, *, own: bool) -> Way:
        """How to ask this URL.

        ``own``: the catalog names this host, so that it may be nearly anywhere; everything else
        may be where the registry may lead.

        Raises:
            ForbiddenAddress: the URL names an address where it may not.
            RegistryUntrusted: the component's ``ca`` cannot be read, or the proxy would be shown
                its ``client_cert``.
            CredentialsMissing: its ``client_cert`` or ``client_key`` cannot.
        """
        place = (url.scheme, url.host, url.port, endpoint, own)
        found = self._ways.get(place)
        if found is None:
            found = await self._way(url, endpoint, own=own)
            if len(self._ways) >= WAYS_KEPT:
                self._ways.clear()
            self._ways[place] = found
        return found

    async def _way(self, url: URL, endpoint: Endpoint, *, own: bool) -> Way:
        host = url.host or ""
        # What is not checked is the registry's own certificate, not that of others.
        verify = endpoint.verifies or host not in endpoint.hosts
        rule = self._rule(url, endpoint, own=own, verify=verify)
        proxy = self._proxies.of(url)
        # Which address a proxy connects to is not known here.
        rule.check(host, only=None if proxy is None else REFUSED_BEHIND_PROXIES)
        # The client's certificate is a login of the registry's, and nobody else is shown it.
        access = endpoint.access if host in endpoint.hosts else endpoint.access.anonymous
        tls = url.scheme == "http" or await self._context(access, verify=verify)
        if proxy is None:
            return Way(self._session(), rule, tls)
        # The proxy looks the name up; its own address is the environment's choice.
        if proxy.is_socks:
            return Way(self._socks_session(proxy), None, tls)
        if proxy.scheme == "https" and access.client_cert is not None:
            # The HTTP library has one TLS context for the proxy and for what is behind it.
            raise RegistryUntrusted(
                f"{proxy.variable} names an https:// proxy, which would be shown the client_cert "
                f"of {endpoint.registry}; use an http:// or socks5h:// proxy"
            )
        return Way(self._session(), None, tls, URL(proxy.url), proxy.authorization)

    def _rule(self, url: URL, endpoint: Endpoint, *, own: bool, verify: bool) -> Rule:
        """Where requests for a URL may go."""
        home = self._home(url.host if own else endpoint.bases[0].host)
        proven = verify and url.scheme == "https"
        return Rule(endpoint.registry, home, endpoint.allowed_networks, named=own, proven=proven)

    def _home(self, host: str | None) -> Home:
        """What is known of where a host of the catalog is."""
        home = self._homes.get(host or "")
        if home is None:
            while len(self._homes) >= HOMES_KEPT:
                self._homes.pop(next(iter(self._homes)))
                # They hold what is forgotten here.
                self._ways.clear()
            home = self._homes[host or ""] = Home.of(host or "")
        return home

    async def close(self) -> None:
        """Close all connections."""
        self._ways.clear()
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        """The session of all that is asked directly, or through a proxy that speaks HTTP."""
        if None not in self._sessions:
            self._sessions[None] = _made_session(GuardedConnector(**_connector_options()))
        return self._sessions[None]

    def _socks_session(self, proxy: Proxy) -> aiohttp.ClientSession:
        if proxy not in self._sessions:
            # Most workers have no such proxy, and load nothing for it.
            from transship_worker.oci.socks import SocksConnector

            self._sessions[proxy] = _made_session(SocksConnector(proxy, **_connector_options()))
        return self._sessions[proxy]

    async def _context(self, access: Access, *, verify: bool) -> ssl.SSLContext:
        key = (access, verify)
        async with self._tls_lock:
            if key not in self._tls:
                while len(self._tls) >= CONTEXTS_KEPT:
                    self._tls.pop(next(iter(self._tls)))
                # Reads files.
                self._tls[key] = await asyncio.to_thread(_make_context, access, verify)
            return self._tls[key]


def _connector_options() -> dict[str, Any]:
    return {
        # How much runs at once is for those who hold budgets to say.
        "limit": 0,
        "ttl_dns_cache": NAME_CACHE_S,
        "keepalive_timeout": KEEP_ALIVE_S,
    }


def _made_session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    bound_heads(connector)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        # A digest is that of the bytes as they are stored.
        auto_decompress=False,
        headers={
            "User-Agent": f"transship/{__version__}",
            "Accept-Encoding": "identity",
        },
        read_bufsize=READ_BUFFER,
    )


def _make_context(access: Access, verify: bool) -> ssl.SSLContext:
    """TLS as Docker does it: the component's authority counts besides the system's."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif access.ca is not None:
        try:
            context.load_verify_locations(cafile=access.ca)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "strerror", None) or "it holds no PEM certificate"
            raise RegistryUntrusted(f"ca {access.ca} cannot be used: {reason}") from None
        # Python 3.13 refuses certificates without the extensions that RFC 5280 requires, which
        # many private CAs do not write. Docker and skopeo accept them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if access.client_cert is not None and access.client_key is not None:
        _load_client(context, access.client_cert, access.client_key)
    return context


def _load_client(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for option, file in (("client_cert", certificate), ("client_key", key)):
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise CredentialsMissing(f"{option} {file} cannot be used: {reason}") from None
    try:
        # Without a password of ours OpenSSL would ask the terminal for one.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError):
        # OpenSSL's reasons are no help, and the next file's content is a secret.
        raise CredentialsMissing(
            f"client_cert {certificate} and client_key {key} cannot be used: they must be a PEM "
            "certificate and its own key, without a password"
        ) from None
