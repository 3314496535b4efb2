"""``dockerhub``: Docker Hub.

Source of the web API: docs.docker.com/reference/api/hub ("Create access token", "List
repositories in a namespace").
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import SecretStr, field_validator

from transship.errors import AnswerMalformed, CannotList, CredentialsMissing, PrepareFailed
from transship.model.references import DOCKER_HUB, RegistryUri
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.docker_config import IDENTITY_USER
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.options import Use
from transship_worker.flavors.web import Api, named, pages

if TYPE_CHECKING:
    from transship_worker.oci.client import RegistryClient

#: Namespaces are user and organisation names: lower-case letters and digits, in old names
#: and in organisations also '-' and '_' inside; at most 30 (docs.docker.com, "Docker ID").
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,28}[a-z0-9])?", re.ASCII)
#: The namespace of Docker's own images; nobody else can push there.
_OFFICIAL = "library"
#: Repositories on a page of the web API; it gives no more.
_PAGE_SIZE: Final = 100


class DockerHubRegistry(BaseContainerRegistry):
    """Docker Hub, all of it (``docker.io``) or one namespace (``docker.io/acme``)."""

    FLAVOR: ClassVar[str] = "dockerhub"
    URI_EXAMPLE: ClassVar[str] = "docker.io/acme"
    #: Docker Hub's web API.
    API: ClassVar[str] = "https://hub.docker.com"

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

    def credentials(self) -> Credentials | None:
        """The login. Docker Hub takes no push without one; who only reads can do without.

        Raises:
            CredentialsMissing: the component has none, or it cannot be had.
        """
        found = super().credentials()
        if found is None and self.allow != {Use.COPY_FROM}:
            raise CredentialsMissing(
                f"component {self.name!r} has no login, and Docker Hub takes no push without "
                "one; set username and password (an access token), or credentials: "
                "docker-config, or allow: [copy_from] to read what is public"
            )
        return found

    async def list_repositories(
        self,
        client: RegistryClient,  # noqa: ARG002 - Docker Hub's registry lists none
    ) -> AsyncIterator[list[str]]:
        """The namespace's repositories; without a login, or the right to list, the public ones.

        Raises:
            CannotList: the URI names no namespace.
            PushError: Docker Hub refuses, or does not answer.
        """
        namespace = self.registry_uri.path
        if not namespace:
            raise CannotList(
                f"component {self.name!r} is all of Docker Hub, which lists the repositories of "
                f"a namespace only; set uri: {self.URI_EXAMPLE} with your namespace, or write "
                "the repositories' names out"
            )
        api, about = Api("Docker Hub", self.API), f"the repositories of {namespace}"
        token = await asyncio.to_thread(self._api_token, api)
        first = f"{api.base}/v2/namespaces/{namespace}/repositories?page_size={_PAGE_SIZE}"
        async for page in pages(api, first, _next, about=about, token=token):
            if "results" not in page:
                raise AnswerMalformed(f"Docker Hub: {about}: the answer has no list of results")
            yield [f"{namespace}/{name}" for name in named(page, "results", about)]

    def _api_token(self, api: Api) -> SecretStr | None:
        """A token of the web API for the component's login; ``None``: it has none."""
        login = super().credentials()
        if login is None:
            return None
        if login.username == IDENTITY_USER:
            raise CredentialsMissing(
                f"component {self.name!r} has an identity token, which Docker Hub's API does not "
                "take; set username and password (an access token)"
            )
        answer = api.ask(
            f"{api.base}/v2/auth/token",
            about="a token of its API",
            body={"identifier": login.username, "secret": login.password.get_secret_value()},
        )
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise AnswerMalformed("Docker Hub gave no token of its API")
        return SecretStr(token)


def _next(page: dict[str, Any]) -> str | None:
    url = page.get("next")
    if url is None or isinstance(url, str):
        return url
    raise AnswerMalformed("Docker Hub names a next page that is no URL")
