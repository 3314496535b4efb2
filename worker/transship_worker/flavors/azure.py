"""``azure``: Azure Container Registry.

Sources: azure.github.io/acr/AAD-OAuth.html (the exchange of an Entra access token for a
registry refresh token, which is the password of a user named by a null GUID);
learn.microsoft.com, "Azure Container Registry endpoints" (login servers) and "National
clouds" (authorities and audiences).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import SecretStr, field_validator

from transship.errors import CloudUnavailable, CredentialsMissing, Denied, PrepareFailed
from transship.model.references import RegistryUri
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.listing import catalog
from transship_worker.flavors.sdk import check_proxy, needed
from transship_worker.oci.headers import retry_after

if TYPE_CHECKING:
    import requests
    from azure.core.credentials import TokenCredential

    from transship_worker.oci.client import RegistryClient

#: The user whose password is a refresh token of the registry.
NULL_GUID_USER: Final = "00000000-0000-0000-0000-000000000000"
#: Connecting to the registry, and waiting for its answer. Unit: s.
EXCHANGE_TIMEOUT_S: Final = (5.0, 20.0)
#: More than a token is not read. Unit: bytes.
LONGEST_ANSWER: Final = 262_144
#: How much is read at once. Unit: bytes.
PIECE: Final = 16_384

#: A name of 5 to 50 letters and digits; with a domain name label, ``-`` and a hash.
_NAME = re.compile(r"[a-z0-9]{5,50}(?:-[a-z0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cloud:
    """One of Azure's clouds."""

    #: Where its identities log in.
    authority: str
    #: What an access token must be for.
    scope: str


_CLOUDS: Final = {
    "azurecr.io": Cloud(
        "login.microsoftonline.com", "https://containerregistry.azure.net/.default"
    ),
    "azurecr.cn": Cloud("login.chinacloudapi.cn", "https://management.chinacloudapi.cn/.default"),
    "azurecr.us": Cloud(
        "login.microsoftonline.us", "https://management.usgovcloudapi.net/.default"
    ),
}

#: Refresh tokens live some three hours.
_TOKENS = TokenCache(margin=timedelta(minutes=15))


class AzureRegistry(BaseContainerRegistry):
    """An Azure Container Registry.

    With ``username`` and ``password`` (a service principal, a repository token, the admin
    user) they are used. Else the identity of the worker's host is (azure-identity's default
    chain: variables, workload identity, managed identity, ``az login``), whose access token
    the registry exchanges for one of its own.
    """

    FLAVOR: ClassVar[str] = "azure"
    URI_EXAMPLE: ClassVar[str] = "myregistry.azurecr.io"
    #: Large requests with a length were reported to get 413 (goharbor/harbor#23015); its own
    #: clients send chunks of 4 MiB, far smaller than ours.
    CHUNKED: ClassVar[bool] = False
    #: It gives no more at once.
    PAGE_SIZE: ClassVar[int] = 100

    #: The tenant of the identity, where it is not the one that azure-identity finds.
    tenant_id: str | None = None
    #: The user-assigned managed identity, where the host has several.
    client_id: str | None = None

    @field_validator("uri")
    @classmethod
    def _login_server(cls, value: str) -> str:
        uri = RegistryUri.parse(value)
        name, _, suffix = uri.host.partition(".")
        if suffix not in _CLOUDS or uri.port is not None:
            raise ValueError(
                f"uri {value!r} is not an Azure login server, which ends with "
                f"{', '.join('.' + known for known in _CLOUDS)}; write for example "
                f"uri: {cls.URI_EXAMPLE}"
            )
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"uri {value!r}: {name!r} is not an Azure registry's name, which has 5 to 50 "
                f"letters and digits; write for example uri: {cls.URI_EXAMPLE}"
            )
        return value

    def credentials(self) -> Credentials | None:
        """The component's own login, else a refresh token for the host's identity.

        Raises:
            CredentialsMissing: no identity here.
            Denied: the registry does not know the identity.
            CloudUnavailable: Azure did not answer.
        """
        if self.credentials_from or self._is_set("username") or self._is_set("password"):
            return super().credentials()
        identity = (os.environ.get("AZURE_CLIENT_ID", ""), self.client_id)
        key = (self.registry_uri.registry, self.tenant_id, identity)
        return _TOKENS.get(key, self._refresh_token)

    def list_repositories(self, client: RegistryClient) -> AsyncIterator[list[str]]:
        """What the registry's ``_catalog`` names.

        Raises:
            PushError: it refuses, or does not answer.
        """
        return catalog(self, client)

    def exchange_url(self) -> str:
        """Where the registry exchanges an access token."""
        return f"https://{self.registry_uri.registry}/oauth2/exchange"

    def identity(self) -> TokenCredential:
        """The identity of the worker's host."""
        with needed("azure-identity", flavor=self.FLAVOR, extra="azure"):
            from azure.identity import DefaultAzureCredential
        settings: dict[str, Any] = {}
        if not os.environ.get("AZURE_AUTHORITY_HOST"):
            settings["authority"] = self._cloud.authority
        if self.client_id is not None:
            settings["managed_identity_client_id"] = self.client_id
        return DefaultAzureCredential(**settings)

    @property
    def _cloud(self) -> Cloud:
        return _CLOUDS[self.registry_uri.host.partition(".")[2]]

    def _refresh_token(self) -> Credentials:
        with needed("azure-identity", flavor=self.FLAVOR, extra="azure"):
            from azure.core.exceptions import AzureError, ClientAuthenticationError
        check_proxy("requests", self.exchange_url())
        options: dict[str, Any] = {} if self.tenant_id is None else {"tenant_id": self.tenant_id}
        try:
            access = self.identity().get_token(self._cloud.scope, **options)
        except ClientAuthenticationError as error:
            # azure-identity's text names every source it tried; its first line says enough.
            said = str(error.message or "").strip().partition("\n")[0][:300]
            raise CredentialsMissing(
                f"component {self.name!r}: this host has no Azure identity that can be used "
                f"({said}); set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, run "
                "az login, or set username and password"
            ) from None
        except AzureError as error:
            if "SOCKS" in str(error):
                check_proxy("azure-identity", f"https://{self._cloud.authority}")
            raise CloudUnavailable(f"Azure gave no access token: {type(error).__name__}") from error
        token = self._exchange(access.token)
        return Credentials(NULL_GUID_USER, SecretStr(token), expiry(token))

    def _session(self) -> requests.Session:
        import requests

        session = requests.Session()
        if self.ca is not None:
            from transship_worker.credentials.private_ca import PrivateCaAdapter

            session.mount("https://", PrivateCaAdapter())
        return session

    def _exchange(self, access_token: str) -> str:
        """The one call that this flavor makes to the registry itself."""
        import requests

        registry = self.registry_uri.registry
        form = {"grant_type": "access_token", "service": registry, "access_token": access_token}
        if self.tenant_id is not None:
            form["tenant"] = self.tenant_id
        try:
            with (
                self._session() as session,
                session.post(
                    self.exchange_url(),
                    data=form,
                    timeout=EXCHANGE_TIMEOUT_S,
                    allow_redirects=False,
                    stream=True,
                    verify=str(self.ca) if self.ca else True,
                ) as answer,
            ):
                body = b"".join(islice(answer.iter_content(PIECE), LONGEST_ANSWER // PIECE))
        except (requests.RequestException, OSError) as error:
            raise CloudUnavailable(
                f"{registry} did not answer the token exchange: {type(error).__name__}"
            ) from error
        if answer.status_code in {401, 403}:
            raise Denied(
                f"{registry} does not let this host's Azure identity in; give it the role AcrPush"
            )
        if answer.status_code == 429 or answer.status_code >= 500:
            raise CloudUnavailable(
                f"{registry} answered the token exchange with {answer.status_code}",
                retry_after_s=retry_after(answer.headers),
            )
        token = _refresh_token_in(body) if answer.status_code == 200 else None
        if token is None:
            raise PrepareFailed(
                f"{registry} gave no refresh token (status {answer.status_code}); is it an Azure "
                "Container Registry?"
            )
        return token


def _refresh_token_in(body: bytes) -> str | None:
    try:
        token = json.loads(body)["refresh_token"]
    except (ValueError, KeyError, TypeError):
        return None
    return token if isinstance(token, str) and token else None


def expiry(token: str) -> datetime | None:
    """``exp`` of a JSON web token, read and not verified; ``None``: it says nothing of that."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return None
