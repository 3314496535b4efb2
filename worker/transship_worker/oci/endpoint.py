"""Where a registry is reached, and where its requests and credentials may go.

What Docker does for a registry on the loopback, or one called insecure, is done here too
(docs.docker.com, "dockerd", "Insecure registries"): HTTPS is tried first, its certificate is
not checked, and where nothing speaks TLS it is plain HTTP. A ``ca``, a ``client_cert`` or an
``endpoint`` says it outright: then nothing else is tried. Its URL may have a path, below which the
API lies (``https://host/repository/x/v2/``).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from yarl import URL

from transship.errors import AnswerMalformed, RegistryUntrusted
from transship.model.references import DOCKER_HUB, RegistryUri
from transship_config.errors import InvalidSettings
from transship_worker.credentials.access import Access
from transship_worker.oci.errors import shown
from transship_worker.oci.names import is_base_path

#: Docker Hub's API is not at its name.
_HUB_API: Final = "registry-1.docker.io"
#: Token servers that vendors run under another name than their registry: Docker Hub
#: (distribution's token specification), GitLab.com (docs.gitlab.com, "Container registry").
_KNOWN_REALMS: Final = {
    DOCKER_HUB: frozenset({"auth.docker.io"}),
    "registry.gitlab.com": frozenset({"gitlab.com"}),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One registry, and how it is reached."""

    #: ``host[:port]`` as in image names.
    registry: str
    access: Access = field(default_factory=Access)
    #: Base URL where the worker reaches it under another address than its name.
    endpoint: str | None = None
    #: ``host[:port]`` of token servers that may see the login, besides the registry's own host.
    auth_realms: frozenset[str] = frozenset()
    #: The largest body of a request that a proxy before the registry accepts. Unit: bytes.
    max_body: int | None = None
    #: Networks that the registry may lead to although its own address says otherwise.
    allowed_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a base URL that is none.

        Raises:
            InvalidSettings: saying what an endpoint looks like.
        """
        if self.endpoint is None:
            return
        try:
            url = url_of(self.endpoint)
            good = url.scheme in {"http", "https"} and bool(url.host) and is_base_path(url.raw_path)
        except ValueError:
            good = False
        if not good or url.user or url.password or url.query_string or url.fragment:
            raise InvalidSettings(
                f"endpoint of {self.registry} is not a base URL; write for example "
                "endpoint: http://registry:5000"
            )

    @property
    def bases(self) -> tuple[URL, ...]:
        """Base URLs, each with a slash at its end, in the order in which they are tried.

        The first that answers is used from then on.
        """
        if self.endpoint is not None:
            return (URL(f"{self.endpoint.rstrip('/')}/"),)
        host = _HUB_API if self.registry == DOCKER_HUB else self.registry
        secure = URL(f"https://{host}/")
        if self.access.insecure or (self.is_loopback and self.access.is_plain):
            return secure, URL(f"http://{host}/")
        return (secure,)

    @property
    def verifies(self) -> bool:
        """Whether the certificate is checked."""
        if self.access.insecure:
            return False
        return not self.is_loopback or not self.access.is_plain or self.endpoint is not None

    @property
    def is_loopback(self) -> bool:
        """Whether the registry's name is this machine."""
        return RegistryUri.parse(self.registry).is_loopback

    @property
    def hosts(self) -> frozenset[str]:
        """Host names that are the registry's own."""
        return _hosts(self.registry, self.endpoint)

    def own(self, url: URL, base: URL) -> URL | None:
        """The URL at this registry's base, if it means this registry; else ``None``.

        A registry behind a proxy often writes ``http://`` or its public name into a
        ``Location``; both mean the address that it was asked at. Where the proxy removes a path
        (``endpoint``), the registry does not know of that either.
        """
        if url.origin() == base.origin():
            return _below(base, url)
        named = RegistryUri.parse(self.registry)
        port = named.port or 443
        same_name = url.host == named.host.strip("[]") and url.port in {port, named.port or 80}
        same_base = url.host == base.host and url.port in {base.port, _other_port(base)}
        if same_base or same_name:
            return _below(base, base.origin().join(url.relative()))
        return None

    def may_follow(self, url: URL, from_url: URL) -> None:
        """Return if a request without credentials may go there.

        Raises:
            RegistryUntrusted: from TLS to plain HTTP.
            AnswerMalformed: no URL that can be asked.
        """
        if url.scheme not in {"http", "https"} or not url.host:
            raise AnswerMalformed(f"{self.registry} leads to {shown(url)}, which is no web address")
        if from_url.scheme == "https" and url.scheme != "https":
            raise RegistryUntrusted(
                f"{self.registry} leads from https to {shown(url)}; plain HTTP is not followed"
            )

    def may_log_in(self, realm: URL, base: URL) -> bool:
        """Whether the login may be sent to this token server."""
        if realm.user or realm.password or not realm.host:
            return False
        if realm.scheme != "https" and not (realm.scheme == "http" and base.scheme == "http"):
            return False
        listed = self.auth_realms | _KNOWN_REALMS.get(self.registry, frozenset())
        authority = f"{realm.host}:{realm.explicit_port}" if realm.explicit_port else realm.host
        return realm.host in self.hosts or authority in listed


@lru_cache(maxsize=1024)
def _hosts(registry: str, endpoint: str | None) -> frozenset[str]:
    """Kept, because every request asks."""
    named = RegistryUri.parse(registry).host.strip("[]")
    return frozenset(
        {named, *(base.host or "" for base in Endpoint(registry, endpoint=endpoint).bases)}
    )


def _below(base: URL, url: URL) -> URL:
    """A URL of the base's origin with the base's path before ``/v2/``, where that is missing."""
    path = base.raw_path
    if path == "/" or url.raw_path.startswith(path) or not url.raw_path.startswith("/v2/"):
        return url
    # As a text: what follows stays byte for byte.
    return URL(f"{base.origin()}{path.rstrip('/')}{url.relative()}", encoded=True)


def _other_port(base: URL) -> int | None:
    """Port 80 for a base on 443: what a registry that does not know of its proxy writes."""
    return 80 if base.scheme == "https" and base.port == 443 else base.port


def url_of(text: str, *, encoded: bool = False) -> URL:
    """A stranger's text as a URL; with ``encoded``, its escapes stay as they are.

    Raises:
        ValueError: it is none.
    """
    try:
        return URL(text, encoded=encoded)
    except IndexError:
        # yarl 1.25 for "http://[::1]@", which has a user and no host.
        raise ValueError("a URL without a host") from None


@lru_cache(maxsize=1024)
def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as; ``None``: it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
