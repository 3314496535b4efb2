"""The host's own logins: Docker's ``config.json`` and the credential helpers it names.

Used only for a component that says ``credentials: docker-config``. The lookup is the
``docker`` command's: the helper of this registry (``credHelpers``), else the default helper
(``credsStore``), else the login in the file (``auths``). Sources: docs.docker.com, "docker
login"; the protocol of the helpers: github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from transship.errors import CredentialsMissing
from transship.model.references import DOCKER_HUB
from transship_worker.credentials.access import Credentials

#: The name under which the ``docker`` command keeps Docker Hub's login.
DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
#: With this user name the secret is an identity token: the engine wants it as
#: ``identitytoken`` and not as a password.
IDENTITY_USER: Final = "<token>"

#: How long a credential helper may take. Unit: s.
HELPER_TIMEOUT_S: Final = 30.0
#: What a helper says when it has no login; its words are part of the protocol.
_NOT_FOUND: Final = "credentials not found"


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """One Docker configuration file."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def find(cls) -> DockerConfig:
        """``config.json`` in ``DOCKER_CONFIG``, else in ``~/.docker``; it may not exist.

        Raises:
            CredentialsMissing: it cannot be read, or is not a JSON object.
        """
        folder = os.environ.get("DOCKER_CONFIG")
        path = (Path(folder) if folder else Path("~/.docker").expanduser()) / "config.json"
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise CredentialsMissing(f"{path}: {error.strerror or 'cannot be read'}") from None
        except ValueError:
            # The parser's message can quote the file.
            raise CredentialsMissing(f"{path} is not valid JSON") from None
        if not isinstance(content, dict):
            raise CredentialsMissing(f"{path} must hold a JSON object")
        return cls(path, content)

    def login(self, registry: str) -> Credentials | None:
        """The login for ``host[:port]``; ``None``: there is none.

        Raises:
            CredentialsMissing: a helper failed, or an entry cannot be read.
        """
        key = key_of(registry)
        helper = self._table("credHelpers").get(key) or self.content.get("credsStore")
        if helper:
            found = _ask_helper(str(helper), key)
            if found is not None:
                return found
        return self._in_file(registry)

    def _table(self, name: str) -> dict[str, Any]:
        table = self.content.get(name)
        return table if isinstance(table, dict) else {}

    def _in_file(self, registry: str) -> Credentials | None:
        for key, entry in self._table("auths").items():
            if isinstance(entry, dict) and entry and _registry_of(key) == registry:
                found = self._entry(key, entry)
                if found is not None:
                    return found
        return None

    def _entry(self, key: str, entry: dict[str, Any]) -> Credentials | None:
        token = entry.get("identitytoken")
        if token:
            return Credentials(IDENTITY_USER, SecretStr(str(token)))
        if entry.get("auth"):
            try:
                text = base64.b64decode(str(entry["auth"]), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                text = ""
            username, colon, password = text.partition(":")
            if not colon:
                raise CredentialsMissing(
                    f"{self.path}: the login for {key} cannot be read; "
                    f"run: docker login {_registry_of(key)}"
                )
            # The docker command pads the text with NUL bytes.
            return Credentials(username, SecretStr(password.strip("\0")))
        if entry.get("username") and entry.get("password"):
            return Credentials(str(entry["username"]), SecretStr(str(entry["password"])))
        return None


def key_of(registry: str) -> str:
    """How the ``docker`` command calls a registry (``host[:port]``) in its logins."""
    return DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def from_docker_config(registry: str, component: str) -> Credentials:
    """The host's login for a registry (``host[:port]``).

    Raises:
        CredentialsMissing: there is none, or it cannot be had; says what to run.
    """
    says = f"component {component!r} says credentials: docker-config"
    try:
        config = DockerConfig.find()
        found = config.login(registry)
    except CredentialsMissing as error:
        raise CredentialsMissing(f"{says}, but {error.message}") from None
    if found is None:
        raise CredentialsMissing(
            f"{says}, but {config.path} has no login for {registry}; run: docker login {registry}"
        )
    return found


def _registry_of(key: str) -> str:
    """``host[:port]`` of a key in ``auths``; old files have URLs there."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in {"index.docker.io", "registry-1.docker.io"} else host


def _ask_helper(name: str, key: str) -> Credentials | None:
    """Run ``docker-credential-NAME get``; ``None``: it has no login for this registry."""
    program = f"docker-credential-{name}"
    path = shutil.which(program)
    if path is None or "/" in name:
        raise CredentialsMissing(f"its credential helper {program} is not on the PATH")
    try:
        answer = subprocess.run(
            [path, "get"],
            input=key.encode(),
            # It logs in to a registry; how to reach the queue is not for it.
            env={n: value for n, value in os.environ.items() if not n.startswith("TRANSSHIP_")},
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CredentialsMissing(
            f"its credential helper {program} gave no answer in {HELPER_TIMEOUT_S:g} s"
        ) from None
    except OSError as error:
        raise CredentialsMissing(f"{program} cannot be run: {error.strerror}") from None
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).decode(errors="replace").strip()
        if _NOT_FOUND in said.lower():
            return None
        # Helpers report errors on standard output; nothing in it is known to be safe to show.
        raise CredentialsMissing(f"{program} failed with status {answer.returncode} for {key}")
    try:
        found = json.loads(answer.stdout)
        username, secret = found["Username"], found["Secret"]
    except (ValueError, KeyError, TypeError):
        raise CredentialsMissing(f"{program} gave no login that can be read for {key}") from None
    # docker-credential-pass answers so when it has none.
    return Credentials(str(username), SecretStr(str(secret))) if secret else None
