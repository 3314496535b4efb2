"""``gcp``: Google Artifact Registry, and Container Registry's names, which lead there today.

Sources: cloud.google.com/artifact-registry/docs, "Set up authentication for Docker" (user
names and keys) and "Repository and image names" (hosts, domain-scoped projects);
docs/reference/rest/v1/projects.locations.repositories.packages (the list of images).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import quote, unquote

from pydantic import SecretStr, field_validator, model_validator

from transship.errors import CannotList, CloudUnavailable, CredentialsMissing, Denied, PrepareFailed
from transship.model.references import RegistryUri
from transship_config.text import did_you_mean
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.sdk import check_proxy, needed
from transship_worker.flavors.web import Api, named, pages
from transship_worker.fleet.limits import Limits

if TYPE_CHECKING:
    from transship_worker.oci.client import RegistryClient

OAUTH_USER: Final = "oauth2accesstoken"
KEY_USER: Final = "_json_key"
ENCODED_KEY_USER: Final = "_json_key_base64"
_USERS: Final = (OAUTH_USER, KEY_USER, ENCODED_KEY_USER)

#: Where most kinds of credentials are exchanged for a token.
_TOKEN_SERVER: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - a URL
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_ARTIFACT_HOST = re.compile(r"[a-z]+(?:-[a-z]+\d*)*-docker\.pkg\.dev", re.ASCII)
_CONTAINER_HOST = re.compile(r"(?:[a-z]+\.)?gcr\.io", re.ASCII)
_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", re.ASCII)

#: Access tokens live an hour at most.
_TOKENS = TokenCache(margin=timedelta(minutes=5))
#: Where Artifact Registry keeps what has a name of Container Registry; the repository is called
#: like the host (cloud.google.com/artifact-registry/docs/transition/gcr-repositories).
_LEGACY: Final = {
    "gcr.io": "us",
    "us.gcr.io": "us",
    "eu.gcr.io": "europe",
    "asia.gcr.io": "asia",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """A repository of Artifact Registry."""

    #: As the API names it.
    parent: str
    #: What its images' names start with.
    prefix: str


class GcpRegistry(BaseContainerRegistry):
    """A repository of Artifact Registry, or a project's images under ``gcr.io``.

    Without a login of its own it uses the application-default credentials of the worker's
    host. A service account's key is the password of ``_json_key`` (the JSON itself) or
    ``_json_key_base64``.
    """

    FLAVOR: ClassVar[str] = "gcp"
    URI_EXAMPLE: ClassVar[str] = "europe-west3-docker.pkg.dev/my-project/my-repository"
    #: Artifact Registry's API.
    API: ClassVar[str] = "https://artifactregistry.googleapis.com"
    #: cloud.google.com/artifact-registry/docs/reference/docker-api.
    CHUNKED: ClassVar[bool] = False
    NO_MAX_BODY: ClassVar[str] = "Artifact Registry does not support chunked uploads"
    #: 18,000 writes a minute for a project and region; reads have more than three times that
    #: (cloud.google.com/artifact-registry/quotas).
    QUOTAS: ClassVar[Limits] = Limits(requests_per_second=300)

    @field_validator("uri")
    @classmethod
    def _google_uri(cls, value: str) -> str:
        uri = RegistryUri.parse(value)
        artifact = _ARTIFACT_HOST.fullmatch(uri.registry) is not None
        if not artifact and not _CONTAINER_HOST.fullmatch(uri.registry):
            raise ValueError(
                f"uri {value!r} is on no Google host; write uri: {cls.URI_EXAMPLE} or "
                "uri: gcr.io/my-project"
            )
        project, rest = split_project(uri.path)
        if not project:
            wanted = "PROJECT/REPOSITORY" if artifact else "PROJECT"
            raise ValueError(
                f"uri {value!r} must name the project (6 to 30 lower-case letters, digits and "
                f"'-'); write uri: {uri.registry}/{wanted}"
            )
        if artifact and not rest:
            raise ValueError(
                f"uri {value!r} must name the repository too; write "
                f"uri: {uri.registry}/{uri.path}/REPOSITORY"
            )
        return value

    @model_validator(mode="after")
    def _known_user(self) -> Self:
        if self.username is None and self._is_set("password"):
            raise ValueError(
                f"username is missing; with a password it is one of {', '.join(_USERS)}"
            )
        if isinstance(self.username, str):
            if self.username not in _USERS:
                raise ValueError(
                    f"username {self.username!r} is none of Google's;"
                    f"{did_you_mean(self.username, _USERS)}"
                )
            if self.username != OAUTH_USER and not self._is_set("password"):
                raise ValueError(
                    f"password is missing: with username {self.username} it is the key, for "
                    "example password: {file: key.json}"
                )
        return self

    def prepare_image_push(self, image_name: str) -> None:
        """Refuse names without a place below the repository or project.

        Raises:
            PrepareFailed: the image's name ends where the URI does.
        """
        image = self.placed(image_name)
        if image.repository == self.registry_uri.path:
            raise PrepareFailed(
                f"{image} names no image below {self.uri}; write {self.uri}/NAME:{image.tag}"
            )

    def credentials(self) -> Credentials | None:
        """The component's own login, the key checked, else an access token of the host.

        Raises:
            CredentialsMissing: no credentials here, or a key that is none.
            Denied: Google refused them.
            CloudUnavailable: Google did not answer.
        """
        if self.credentials_from is not None:
            return super().credentials()
        username, password = self.resolve("username"), self.resolve("password")
        if username in {KEY_USER, ENCODED_KEY_USER}:
            self._check_key(password or "", encoded=username == ENCODED_KEY_USER)
        if password is not None:
            return super().credentials()
        source = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        return _TOKENS.get(("application-default", source), self._access_token)

    async def list_repositories(
        self,
        client: RegistryClient,  # noqa: ARG002 - Artifact Registry's own API tells them
    ) -> AsyncIterator[list[str]]:
        """The images of the repository, by Artifact Registry's API.

        Raises:
            CannotList: a host that is none of a project's own.
            PushError: Google refuses, or does not answer, or there are no credentials.
        """
        place = self._place()
        token = await asyncio.to_thread(self._api_token)
        api, about = Api("Artifact Registry", self.API), f"the images of {place.prefix}"
        first = f"{api.base}/v1/{place.parent}/packages?pageSize={self.PAGE_SIZE}"

        def following(page: dict[str, Any]) -> str | None:
            after = page.get("nextPageToken")
            return f"{first}&pageToken={quote(str(after), safe='')}" if after else None

        async for page in pages(api, first, following, about=about, token=token):
            names = named(page, "packages", about)
            # An image's name is one part of the package's: its slashes are escaped.
            yield [f"{place.prefix}/{unquote(name.rpartition('/')[2])}" for name in names]

    def _place(self) -> _Place:
        host, path = self.registry_uri.host, self.registry_uri.path
        project, rest = split_project(path)
        location, repository, prefix = _LEGACY.get(host, ""), host, project
        if _ARTIFACT_HOST.fullmatch(host):
            location = host.removesuffix("-docker.pkg.dev")
            repository = rest.partition("/")[0]
            prefix = f"{project}/{repository}"
        if not location:
            known = ", ".join(_LEGACY)
            raise CannotList(
                f"component {self.name!r}: {host} cannot list repositories, as {known} and "
                "Artifact Registry's own hosts can; write their names out"
            )
        # An organisation's project is written with a colon in the API.
        parent = f"projects/{project.replace('/', ':')}/locations/{location}"
        return _Place(f"{parent}/repositories/{repository}", prefix)

    def _api_token(self) -> SecretStr:
        """An access token for the component's login, whatever that is."""
        login = self.credentials()
        if login is None:
            raise CredentialsMissing(f"component {self.name!r} has no login for Google's API")
        if login.username not in {KEY_USER, ENCODED_KEY_USER}:
            return login.password
        return self._token_of_key(login)

    def _token_of_key(self, login: Credentials) -> SecretStr:
        with needed("google-auth", flavor=self.FLAVOR, extra="gcp"):
            import google.auth.exceptions
            import google.auth.transport.requests
            from google.oauth2 import service_account
        text = login.password.get_secret_value()
        try:
            content = base64.b64decode(text) if login.username == ENCODED_KEY_USER else text
            found = service_account.Credentials.from_service_account_info(
                json.loads(content), scopes=[_SCOPE]
            )
            found.refresh(google.auth.transport.requests.Request())
        except google.auth.exceptions.GoogleAuthError as error:
            raise self._translated(error) from error
        except ValueError:
            # Not with its cause, which may quote the key.
            raise CredentialsMissing(
                f"component {self.name!r}: the password is not a Google service account key that "
                "can be used"
            ) from None
        return SecretStr(found.token)

    def _check_key(self, key: str, *, encoded: bool) -> None:
        wrong = f"component {self.name!r}: the password is not a Google service account key"
        try:
            text = base64.b64decode("".join(key.split()), validate=True) if encoded else key
            content = json.loads(text)
        except (binascii.Error, ValueError):
            form = "base64 of the JSON file" if encoded else "the JSON file's content"
            raise CredentialsMissing(f"{wrong}: it must be {form}") from None
        fields = ("type", "client_email", "private_key")
        missing = [f for f in fields if not isinstance(content, dict) or not content.get(f)]
        if missing:
            raise CredentialsMissing(f"{wrong}: it has no {' and no '.join(missing)}")

    def _access_token(self) -> Credentials:
        with needed("google-auth", flavor=self.FLAVOR, extra="gcp"):
            import google.auth
            import google.auth.exceptions
            import google.auth.transport.requests
        try:
            found, _ = google.auth.default(scopes=[_SCOPE])
            found.refresh(google.auth.transport.requests.Request())
        except google.auth.exceptions.DefaultCredentialsError:
            raise CredentialsMissing(
                f"component {self.name!r}: this host has no Google application-default "
                "credentials that can be used; set GOOGLE_APPLICATION_CREDENTIALS to a key file, "
                "run gcloud auth application-default login, or set username: _json_key"
            ) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise self._translated(error) from error
        return _login(found)

    def _translated(self, error: Any) -> CloudUnavailable | Denied:
        """Google's error as ours; its text holds no token, at most the account's name.

        Raises:
            PrepareFailed: the library cannot use the proxy that the environment names.
        """
        said = " ".join(str(error.args[0] if error.args else error).split())[:300]
        if "SOCKS" in said:
            # Not before: the metadata server of a machine is asked without a proxy.
            check_proxy("google-auth", _TOKEN_SERVER)
        kind = type(error).__name__
        if getattr(error, "retryable", False) or kind == "TransportError":
            return CloudUnavailable(f"Google did not give an access token: {said}")
        return Denied(f"component {self.name!r}: Google refuses its credentials: {said}")


def _login(found: Any) -> Credentials:
    # google-auth's times are in UTC without saying so.
    expires = found.expiry.replace(tzinfo=UTC) if found.expiry is not None else None
    return Credentials(OAUTH_USER, SecretStr(found.token), expires)


def split_project(path: str) -> tuple[str, str]:
    """Project and the rest of a path; ``("", "")`` when it starts with no project.

    A project of an organisation has two parts, ``example.com/my-project``.
    """
    parts = path.split("/")
    length = 2 if "." in parts[0] else 1
    if len(parts) < length or not _PROJECT.fullmatch(parts[length - 1]):
        return "", ""
    return "/".join(parts[:length]), "/".join(parts[length:])
