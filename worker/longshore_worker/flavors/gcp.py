"""``gcp``: Google Artifact Registry, and Container Registry's names, which lead there today.

Sources: cloud.google.com/artifact-registry/docs, "Set up authentication for Docker" (user
names and keys) and "Repository and image names" (hosts, domain-scoped projects).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from datetime import UTC, timedelta
from typing import Any, ClassVar, Final, Self

from pydantic import SecretStr, field_validator, model_validator

from longshore_config.component import did_you_mean
from longshore_config.errors import CloudUnavailable, CredentialsMissing, Denied, PrepareFailed
from longshore_config.reference import RegistryUri
from longshore_worker.flavors.base import BaseContainerRegistry
from longshore_worker.flavors.sdk import needed
from longshore_worker.fleet.limits import Limits
from longshore_worker.tokens import TokenCache
from longshore_worker.transports.port import Credentials

OAUTH_USER: Final = "oauth2accesstoken"
KEY_USER: Final = "_json_key"
ENCODED_KEY_USER: Final = "_json_key_base64"
_USERS: Final = (OAUTH_USER, KEY_USER, ENCODED_KEY_USER)

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_ARTIFACT_HOST = re.compile(r"[a-z]+(?:-[a-z]+\d*)*-docker\.pkg\.dev", re.ASCII)
_CONTAINER_HOST = re.compile(r"(?:[a-z]+\.)?gcr\.io", re.ASCII)
_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", re.ASCII)

#: Access tokens live an hour at most.
_TOKENS = TokenCache(margin=timedelta(minutes=5))


class GcpRegistry(BaseContainerRegistry):
    """A repository of Artifact Registry, or a project's images under ``gcr.io``.

    Without a login of its own it uses the application-default credentials of the worker's
    host. A service account's key is the password of ``_json_key`` (the JSON itself) or
    ``_json_key_base64``.
    """

    FLAVOR: ClassVar[str] = "gcp"
    URI_EXAMPLE: ClassVar[str] = "europe-west3-docker.pkg.dev/my-project/my-repository"
    #: cloud.google.com/artifact-registry/docs/reference/docker-api.
    CHUNKED: ClassVar[bool] = False
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
        """Google's error as ours; its text holds no token, at most the account's name."""
        said = " ".join(str(error.args[0] if error.args else error).split())[:300]
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
