"""Whether the Docker Engine's own settings let it reach a registry as a component says.

The engine, not the worker, talks to the registry: a component's ``insecure``, ``ca`` and
``client_cert`` have to be the engine's settings too. ``docker info`` tells its insecure
registries; of the certificates it tells nothing, so they are looked at only where the engine
shares this machine's files.
Sources: Docker's "Test an insecure registry" and "Use certificates for repository client
verification"; moby ``registry/config.go`` (a loopback address is always allowed); Podman:
containers-registries.conf(5) and containers-certs.d(5).
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transship.model.references import RegistryUri

CERTIFICATES: Final = Path("/etc/docker/certs.d")
#: Podman reads this folder first, then Docker's.
PODMAN_CERTIFICATES: Final = Path("/etc/containers/certs.d")


def insecure_missing(info: Mapping[str, Any], engine: str, registry: RegistryUri) -> str | None:
    """The setting that an insecure registry needs and this engine certainly lacks.

    Not certain is an engine that allows networks, when the registry is a name: the engine
    looks the name up by itself.
    """
    config = info.get("RegistryConfig")
    if registry.is_loopback or not isinstance(config, Mapping):
        return None
    listed = (config.get("IndexConfigs") or {}).get(registry.registry)
    if isinstance(listed, Mapping) and listed.get("Secure") is False:
        return None
    networks = _networks(config.get("InsecureRegistryCIDRs") or [])
    address = _address(registry.host)
    if address is not None:
        if any(address in network for network in networks):
            return None
    elif any(not network.is_loopback for network in networks) or _is_local_name(registry.host):
        return None
    return (
        f"engine {engine} does not list {registry.registry} under insecure-registries; "
        "add it to its daemon.json and reload it"
    )


def podman_insecure_missing(
    info: Mapping[str, Any], engine: str, registry: RegistryUri
) -> str | None:
    """As ``insecure_missing``, for Podman, which trusts no loopback address by itself.

    Its ``info`` lists the prefixes of ``registries.conf``, which may have a path or begin with
    ``*.``; one that is insecure and might be meant leaves it uncertain.
    """
    config = info.get("RegistryConfig")
    listed = config.get("IndexConfigs") if isinstance(config, Mapping) else None
    if not isinstance(listed, Mapping):
        return None
    insecure = [
        str(prefix).partition("/")[0]
        for prefix, entry in listed.items()
        if isinstance(entry, Mapping) and entry.get("Secure") is False
    ]
    wanted = registry.registry
    if any(one == wanted or (one[:2] == "*." and wanted.endswith(one[1:])) for one in insecure):
        return None
    return (
        f"engine {engine} does not list {wanted} as insecure; set insecure = true for it in "
        "Podman's registries.conf"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine would have its files for one registry.

    ``local`` is whether the engine is at a unix socket. A name in ``info`` that is not this
    machine's means another machine, or a container around this process.
    """

    info: Mapping[str, Any]
    engine: str
    registry: RegistryUri
    local: bool
    certificates: Path = CERTIFICATES

    @property
    def seen(self) -> bool:
        """Whether the engine's files are this machine's, as far as can be known."""
        return self.local and self.info.get("Name") == socket.gethostname()

    @property
    def folder(self) -> Path:
        """The engine's folder for this registry."""
        return self.certificates / self.registry.registry


def ca_missing(place: Place, ca: Path) -> str | None:
    """What keeps the engine from trusting the CA, as far as can be seen from here."""
    wanted = _pem_blocks(ca)
    if not wanted:
        return f"the component's CA {ca} cannot be read or holds no certificate"
    if not place.seen:
        return None
    trusted = {block for file in _files(place.folder, "crt") for block in _pem_blocks(file)}
    trusted |= _system_authorities()
    if wanted & trusted:
        return None
    return (
        f"engine {place.engine} seems not to trust {place.registry.registry}: copy {ca} to "
        f"{place.folder / 'ca.crt'} on its machine"
    )


def client_missing(place: Place, certificate: Path, key: Path) -> str | None:
    """What keeps the engine from showing the client's certificate, as far as can be seen.

    The engine takes ``NAME.cert`` with ``NAME.key`` beside it, and refuses one without the
    other (moby ``registry/registry.go``, ``ReadCertsDirectory``).
    """
    wanted = _pem_blocks(certificate)
    if not wanted:
        return f"the component's client_cert {certificate} cannot be read or holds no certificate"
    if not place.seen:
        return None
    for file in _files(place.folder, "cert"):
        if wanted & _pem_blocks(file) and file.with_suffix(".key").exists():
            return None
    return (
        f"engine {place.engine} seems to have no client certificate for "
        f"{place.registry.registry}: copy {certificate} to {place.folder / 'client.cert'} and "
        f"{key} to {place.folder / 'client.key'} on its machine"
    )


def _networks(texts: list[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return found


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_local_name(host: str) -> bool:
    """Whether the name leads to this machine's loopback, as it may for the engine too."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return any((address := _address(str(one[4][0]))) and address.is_loopback for one in found)


def _files(folder: Path, suffix: str) -> list[Path]:
    try:
        return sorted(folder.glob(f"*.{suffix}"))
    except OSError:
        return []


def _pem_blocks(file: Path) -> set[bytes]:
    """The certificates in a PEM file, in DER."""
    end = "-----END CERTIFICATE-----"
    try:
        blocks = file.read_text().split(end)[:-1]
        return {
            ssl.PEM_cert_to_DER_cert(f"{block[block.index('-----BEGIN') :]}{end}")
            for block in blocks
        }
    except (OSError, ValueError):
        return set()


def _system_authorities() -> set[bytes]:
    return set(ssl.create_default_context().get_ca_certs(binary_form=True))
