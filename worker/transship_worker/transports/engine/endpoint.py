"""Where the Docker Engine is, found as the ``docker`` command finds it.

The precedence was read off the ``docker`` command (28.2): ``DOCKER_HOST``, then
``DOCKER_CONTEXT``, then the current context of ``config.json``, then the local socket. Of
``config.json`` nothing but ``currentContext`` is read; its login state never is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import docker

from transship.installation import library_hint
from transship_config.errors import UsageError
from transship_worker.credentials.private_ca import PrivateCaAdapter

DEFAULT_URL: Final = "unix:///var/run/docker.sock"
_DEFAULT_CONTEXT: Final = "default"
_PORT: Final = 2375
_TLS_PORT: Final = 2376
_RIGHT: Final = "unix:///path/to/socket, tcp://host:port or ssh://user@host"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for a TLS connection to an engine; ``verify`` is whether its certificate counts."""

    verify: bool
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def config(self) -> docker.tls.TLSConfig:
        """The same for the Docker SDK."""
        pair = (str(self.certificate), str(self.key)) if self.certificate and self.key else None
        ca = str(self.ca) if self.ca else None
        return _TlsConfig(client_cert=pair, ca_cert=ca, verify=self.verify)


class _TlsConfig(docker.tls.TLSConfig):
    """The Docker SDK's, which accepts a private CA as the ``docker`` command does."""

    def configure_client(self, client: docker.APIClient) -> None:
        """Give a client its files and its adapter."""
        super().configure_client(client)
        if self.verify and self.ca_cert:
            client.mount("https://", PrivateCaAdapter())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An engine's address, and what named it."""

    url: str
    tls: Tls | None = None
    #: For messages: ``DOCKER_HOST``, ``Docker context 'x'``, or ``the default``.
    origin: str = "the default"

    @property
    def is_local_socket(self) -> bool:
        """Whether it is a unix socket, which may be this machine's own engine."""
        return self.url.startswith("unix://")

    @property
    def is_ssh(self) -> bool:
        """Whether each connection is a process of its own."""
        return self.url.startswith("ssh://")


def find_endpoint(environment: Mapping[str, str]) -> Endpoint:
    """The endpoint that the ``docker`` command would talk to.

    Raises:
        UsageError: a variable or a context that cannot be used, and what would be right.
    """
    folder = config_folder(environment)
    host = environment.get("DOCKER_HOST", "")
    if host:
        return _checked(host, _tls_from(environment, folder), "DOCKER_HOST")
    name = environment.get("DOCKER_CONTEXT", "")
    origin = f"DOCKER_CONTEXT={name}"
    if not name:
        name = _current_context(folder)
        origin = f"Docker context {name!r}"
    if name == _DEFAULT_CONTEXT:
        return Endpoint(DEFAULT_URL)
    return _from_context(folder, name, origin)


def config_folder(environment: Mapping[str, str]) -> Path:
    """The folder of the ``docker`` command's ``config.json``."""
    named = environment.get("DOCKER_CONFIG", "")
    if named:
        return Path(named)
    home = environment.get("HOME", "")
    return (Path(home) if home else Path.home()) / ".docker"


def _current_context(folder: Path) -> str:
    file = folder / "config.json"
    try:
        name = json.loads(file.read_text()).get("currentContext") or _DEFAULT_CONTEXT
    except FileNotFoundError:
        return _DEFAULT_CONTEXT
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{file} cannot be read ({_brief(error)}); mend it, or set DOCKER_HOST"
        ) from None
    return str(name)


def _from_context(folder: Path, name: str, origin: str) -> Endpoint:
    """Read a context's endpoint; the layout is that of docker/cli ``cli/context/store``."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    file = folder / "contexts" / "meta" / identity / "meta.json"
    try:
        endpoint: dict[str, Any] = json.loads(file.read_text())["Endpoints"]["docker"]
        host, skip = str(endpoint["Host"]), bool(endpoint.get("SkipTLSVerify", False))
    except FileNotFoundError:
        raise UsageError(
            f"{origin}: there is no such context in {folder}; `docker context ls` lists them"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{origin}: {file} cannot be read ({_brief(error)}); create the context anew"
        ) from None
    tls_folder = folder / "contexts" / "tls" / identity / "docker"
    files = {stem: tls_folder / f"{stem}.pem" for stem in ("ca", "cert", "key")}
    found = {stem: path for stem, path in files.items() if path.is_file()}
    tls = None
    if found:
        tls = Tls(not skip, found.get("ca"), found.get("cert"), found.get("key"))
    return _checked(host, tls, origin)


def _tls_from(environment: Mapping[str, str], folder: Path) -> Tls | None:
    verify = environment.get("DOCKER_TLS_VERIFY", "") != ""
    if not verify and not environment.get("DOCKER_TLS", ""):
        return None
    named = environment.get("DOCKER_CERT_PATH", "")
    folder = Path(named) if named else folder
    ca, certificate, key = (folder / f"{stem}.pem" for stem in ("ca", "cert", "key"))
    if verify and not ca.is_file():
        raise UsageError(
            f"DOCKER_TLS_VERIFY is set and {ca} does not exist; "
            "let DOCKER_CERT_PATH name the folder of ca.pem, cert.pem and key.pem"
        )
    if not (certificate.is_file() and key.is_file()):
        return Tls(verify, ca if ca.is_file() else None)
    return Tls(verify, ca if ca.is_file() else None, certificate, key)


def _checked(host: str, tls: Tls | None, origin: str) -> Endpoint:
    """The address in the form that the Docker SDK takes, with the ``docker`` command's defaults."""
    host = host.strip()
    url = host if "://" in host else f"tcp://{host}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"{origin} has a bad host or port; write {_RIGHT}") from None
    if parts.password is not None:
        # The value is not repeated: it holds a password.
        raise UsageError(f"{origin} holds a password, which no engine takes; write {_RIGHT}")
    if parts.scheme == "ssh":
        _check_ssh(origin)
    elif parts.scheme == "tcp" and parts.hostname and parts.path in {"", "/"}:
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        url = f"tcp://{name}:{port or (_TLS_PORT if tls else _PORT)}"
    elif parts.scheme != "unix" or not (parts.netloc + parts.path):
        raise UsageError(f"{origin}: {host!r} is not an engine's address; write {_RIGHT}")
    return Endpoint(url, tls if parts.scheme == "tcp" else None, origin)


def _check_ssh(origin: str) -> None:
    # The SDK's ssh transport calls the `ssh` command, and still imports paramiko.
    if find_spec("paramiko") is None:
        raise UsageError(
            f"{origin}: the Docker SDK needs paramiko for ssh://; hint: {library_hint('paramiko')}"
        )


def _brief(error: Exception) -> str:
    return error.strerror or "" if isinstance(error, OSError) else type(error).__name__
