"""The host's own logins: Docker's ``config.json``, Podman's ``auth.json``, and their helpers.

Used only for a component with ``credentials: docker-config``. A login may belong to a path of a
registry (``quay.io/acme``): the longest path that the component's URI has counts, then the
registry itself. Sources: docs.docker.com, "docker login"; containers-auth.json(5) and
``pkg/docker/config`` of github.com/containers/image, for the files, their order and the keys.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from transship.errors import CredentialsMissing
from transship.model.references import DOCKER_HUB, RegistryUri
from transship_worker.credentials import credential_helpers
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.secret_sources import expanded

#: The name under which the ``docker`` command keeps Docker Hub's login.
DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
#: With this user name the secret is an identity token: the engine wants it as
#: ``identitytoken`` and not as a password.
IDENTITY_USER: Final = "<token>"

#: How long a credential helper may take. Unit: s.
HELPER_TIMEOUT_S: Final = 30.0
#: The largest file that is read. Unit: bytes.
FILE_LIMIT: Final = 4 * 1024 * 1024
#: Docker Hub's other hosts in keys.
_HUB_HOSTS: Final = ("index.docker.io", "registry-1.docker.io")
#: Logins of longer paths that a message names.
_PATHS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class _Location:
    """Where a file of logins may be."""

    path: Path
    #: Whether it is an error that it cannot be read. Podman's usual places may be closed to the
    #: worker: ``XDG_RUNTIME_DIR`` of another user, for example.
    required: bool = True


@dataclass(frozen=True, slots=True)
class _AuthFile:
    """One file of logins."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, location: _Location) -> _AuthFile | None:
        """The file's content; ``None``: there is no such file.

        Raises:
            CredentialsMissing: it cannot be read, is too large, or is not a JSON object.
        """
        path = location.path
        try:
            with path.open("rb") as stream:
                raw = stream.read(FILE_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if not location.required and isinstance(error, PermissionError):
                return None
            raise CredentialsMissing(f"{path}: {error.strerror or 'cannot be read'}") from None
        if len(raw) > FILE_LIMIT:
            raise CredentialsMissing(f"{path} is larger than {FILE_LIMIT} bytes")
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError):
            # The parser's message can quote the file.
            raise CredentialsMissing(f"{path} is not valid JSON") from None
        if not isinstance(content, dict):
            raise CredentialsMissing(f"{path} must hold a JSON object")
        return cls(path, content)

    def login(self, uri: RegistryUri) -> Credentials | None:
        """The login for a registry, or for a path of it; ``None``: there is none.

        Raises:
            CredentialsMissing: a helper failed, or an entry cannot be read.
        """
        registry, helpers = uri.registry, self._table("credHelpers")
        for key in _names(registry):
            if helpers.get(key):
                login = self._from_helper(helpers[key], key)
                if login is not None:
                    return login
        # Helpers know registries only; a login of a path is always in the file.
        login = self._first(registry, _paths(uri))
        if login is None and self.content.get("credsStore"):
            login = self._from_helper(self.content["credsStore"], key_of(registry))
        return login or self._first(registry, self._host_keys(registry))

    def longer_paths(self, uri: RegistryUri) -> list[str]:
        """Keys of logins for paths that lie below a URI."""
        start = f"{uri.registry}/{uri.path}/" if uri.path else f"{uri.registry}/"
        auths = self._table("auths")
        return sorted(key for key in auths if key.startswith(start) and not key.endswith("/"))

    def _table(self, name: str) -> dict[str, Any]:
        table = self.content.get(name)
        if table is None:
            return {}
        if not isinstance(table, dict):
            raise CredentialsMissing(f"{self.path}: {name} must be a JSON object")
        return table

    def _from_helper(self, name: object, key: str) -> Credentials | None:
        if not isinstance(name, str):
            raise CredentialsMissing(f"{self.path}: the name of a credential helper must be a text")
        return credential_helpers.ask(name, key, timeout_s=HELPER_TIMEOUT_S)

    def _host_keys(self, registry: str) -> Iterator[str]:
        """Keys of a whole registry: its name, then URLs of it, https first."""
        names = _names(registry)
        yield from (name for name in names if "://" not in name)
        urls = [key for key in self._table("auths") if _is_url(key) and _host(key) in names]
        yield from sorted(urls, key=lambda key: key.startswith("http://"))

    def _first(self, registry: str, keys: Iterator[str]) -> Credentials | None:
        """The first login that one of the keys has."""
        auths = self._table("auths")
        for key in keys:
            if auths.get(key):
                login = self._entry(registry, auths[key])
                if login is not None:
                    return login
        return None

    def _entry(self, registry: str, entry: object) -> Credentials | None:
        unreadable = f"{self.path}: the login for {registry} cannot be read"
        if not isinstance(entry, dict):
            raise CredentialsMissing(f"{unreadable}: it must be a JSON object")
        token = entry.get("identitytoken")
        if token:
            return Credentials(IDENTITY_USER, SecretStr(str(token)))
        if entry.get("auth"):
            try:
                text = base64.b64decode(str(entry["auth"]), validate=True).decode()
            except (binascii.Error, UnicodeError, ValueError):
                text = ""
            username, colon, password = text.partition(":")
            if not colon:
                raise CredentialsMissing(f"{unreadable}; run: docker login {registry}")
            # The docker command pads the text with NUL bytes.
            return Credentials(username, SecretStr(password.strip("\0")))
        if entry.get("username") and entry.get("password"):
            return Credentials(str(entry["username"]), SecretStr(str(entry["password"])))
        return None


def key_of(registry: str) -> str:
    """How the ``docker`` command calls a registry (``host[:port]``) in its logins."""
    return DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def from_docker_config(uri: RegistryUri, component: str) -> Credentials:
    """The host's login for a component's URI: of its longest path that has one, or its registry.

    The first file that has one counts.

    Raises:
        CredentialsMissing: there is none, or it cannot be had; says what to run.
    """
    says = f"component {component!r} says credentials: docker-config"
    registry = uri.registry
    locations, longer = _locations(os.environ), set[str]()
    try:
        for location in locations:
            file = _AuthFile.read(location)
            if file is None:
                continue
            login = file.login(uri)
            if login is not None:
                return login
            longer.update(file.longer_paths(uri))
    except CredentialsMissing as error:
        raise CredentialsMissing(f"{says}, but {error.message}") from None
    if longer:
        shown = ", ".join(sorted(longer)[:_PATHS_SHOWN])
        raise CredentialsMissing(
            f"{says}, but this host has no login for {uri}, only for paths below it ({shown}); "
            "set uri: to such a path"
        )
    files = ", ".join(str(location.path) for location in locations)
    raise CredentialsMissing(
        f"{says}, but this host has no login for {registry}; run: docker login {registry} "
        f"(looked in {files})"
    )


def _locations(environment: Mapping[str, str]) -> list[_Location]:
    """The files in the order in which they are read; the order is containers/image's.

    A file or folder that a variable names comes first.
    """
    named = environment.get("REGISTRY_AUTH_FILE")
    if named:
        return [_Location(Path(named))]
    home = expanded("~")
    settings = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    podman = [_Location(settings / "containers/auth.json", required=False)]
    if sys.platform == "linux":
        runtime = environment.get("XDG_RUNTIME_DIR")
        folder = Path(runtime) / "containers" if runtime else Path(f"/run/containers/{os.getuid()}")
        podman.insert(0, _Location(folder / "auth.json", required=False))
    docker = environment.get("DOCKER_CONFIG")
    if docker:
        return [_Location(Path(docker) / "config.json"), *podman]
    return [*podman, _Location(home / ".docker/config.json")]


def _paths(uri: RegistryUri) -> Iterator[str]:
    """Keys of the URI's path and of those above it, the longest first."""
    parts = uri.path.split("/") if uri.path else []
    for length in range(len(parts), 0, -1):
        yield "/".join([uri.registry, *parts[:length]])


def _names(registry: str) -> tuple[str, ...]:
    """How a registry may be called, without a path."""
    if registry == DOCKER_HUB:
        return (DOCKER_HUB, DOCKER_HUB_KEY, *_HUB_HOSTS)
    return (registry,)


def _is_url(key: str) -> bool:
    """Whether a key is a URL of a whole registry, as old versions of Docker wrote them."""
    return key.startswith(("http://", "https://")) or key.endswith("/")


def _host(key: str) -> str:
    """``host[:port]`` of a key that is a URL."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]
