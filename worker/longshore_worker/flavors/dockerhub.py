"""``dockerhub``: Docker Hub."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import field_validator

from longshore_config.errors import CredentialsMissing, PrepareFailed
from longshore_config.reference import DOCKER_HUB, RegistryUri
from longshore_worker.flavors.base import BaseContainerRegistry
from longshore_worker.transports.port import Credentials

#: Namespaces are user and organisation names: lower-case letters and digits, in old names
#: and in organisations also '-' and '_' inside; at most 30 (docs.docker.com, "Docker ID").
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,28}[a-z0-9])?", re.ASCII)
#: The namespace of Docker's own images; nobody else can push there.
_OFFICIAL = "library"


class DockerHubRegistry(BaseContainerRegistry):
    """Docker Hub, all of it (``docker.io``) or one namespace (``docker.io/acme``)."""

    FLAVOR: ClassVar[str] = "dockerhub"
    URI_EXAMPLE: ClassVar[str] = "docker.io/acme"

    @field_validator("uri")
    @classmethod
    def _hub_uri(cls, value: str) -> str:
        uri = RegistryUri.parse(value)
        if uri.host != DOCKER_HUB:
            raise ValueError(
                f"uri {value!r} is not on Docker Hub; write uri: {cls.URI_EXAMPLE}, "
                "or flavor: default for another registry"
            )
        if uri.path == _OFFICIAL:
            raise ValueError(
                f"uri {value!r} is the place of Docker's own images; write your namespace: "
                f"{cls.URI_EXAMPLE}"
            )
        if uri.path and not _NAMESPACE.fullmatch(uri.path):
            raise ValueError(
                f"uri {value!r} must end with one namespace (a user or an organisation), for "
                f"example uri: {cls.URI_EXAMPLE}"
            )
        return value

    def prepare_image_push(self, image_name: str) -> None:
        """Refuse names that Docker Hub cannot take, before a byte moves.

        Raises:
            PrepareFailed: the name is not ``docker.io/NAMESPACE/NAME``.
        """
        image = self.placed(image_name)
        namespace, _, name = image.repository.partition("/")
        if namespace == _OFFICIAL:
            raise PrepareFailed(
                f"{image} would be one of Docker's own images; write "
                f"{DOCKER_HUB}/NAMESPACE/{name}:{image.tag} with your namespace"
            )
        if not _NAMESPACE.fullmatch(namespace):
            raise PrepareFailed(
                f"{image}: {namespace!r} is not a Docker Hub namespace; it is lower-case letters "
                "and digits, '-' or '_' between them, 30 at most"
            )
        if not name or "/" in name:
            raise PrepareFailed(
                f"{image} is not a Docker Hub name; it has one namespace and one name: "
                f"{DOCKER_HUB}/{namespace}/{image.repository.rpartition('/')[2]}:{image.tag}"
            )

    def credentials(self) -> Credentials:
        """The login; Docker Hub takes no push without one.

        Raises:
            CredentialsMissing: the component has none, or it cannot be had.
        """
        found = super().credentials()
        if found is None:
            raise CredentialsMissing(
                f"component {self.name!r} has no login, and Docker Hub takes no push without "
                "one; set username and password (an access token), or credentials: docker-config"
            )
        return found
