"""The ``aws`` flavor: options of a component, and what is done before and after a push."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    Field,
    PlainValidator,
    PrivateAttr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from transship.errors import (
    CredentialsMissing,
    Denied,
    ImmutableTag,
    PrepareFailed,
    PushError,
    RepositoryMissing,
)
from transship.model.references import RegistryUri
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.cache import TokenCache
from transship_worker.credentials.secret_sources import Kind, Secret, Text, local_path
from transship_worker.flavors.aws import public
from transship_worker.flavors.aws.api import Ecr, NewRepository
from transship_worker.flavors.aws.client import Clients, Endpoint, Identity
from transship_worker.flavors.aws.hosts import EXAMPLE, REGION, EcrHost
from transship_worker.flavors.aws.known import Known
from transship_worker.flavors.aws.public import CatalogData, EcrPublic, NewPublicRepository
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.options import Use
from transship_worker.fleet.limits import Limits
from transship_worker.transports.port import PushTransport

if TYPE_CHECKING:
    from transship_worker.oci.client import RegistryClient

#: ECR's logins live 12 hours; a push may take long, so the last quarter of an hour is not used.
_TOKENS = TokenCache(margin=timedelta(minutes=15))

#: How long a repository that was there is taken to be there. Unit: s.
KNOWN_S: Final = 300.0
#: The longest policy that is read from a file; ECR takes 30,720 characters. Unit: bytes.
_LONGEST_POLICY: Final = 65_536

_Exclusion = Annotated[str, StringConstraints(pattern=r"^[0-9a-zA-Z._*-]{1,128}$")]


def _policy(value: object, info: ValidationInfo) -> object:
    if value is None or isinstance(value, dict | Path):
        return value
    if isinstance(value, str) and value:
        return local_path(value, info)
    raise ValueError(f"{info.field_name} must be the policy itself or the path of a JSON file")


_Policy = Annotated[dict[str, Any] | Path, PlainValidator(_policy), Kind.PATH]


class AwsRegistry(BaseContainerRegistry):
    """A private ECR registry, or a part of it; or an alias of ECR Public.

    Account and region stand in the host. Where the host is another one (a proxy or a name of
    one's own in front of ECR) ``account`` and ``region`` say them.

    A repository that does not exist is created unless ``create: false``; ECR, unlike other
    registries, does not do so by itself. The options that say how count for new repositories
    only: one that exists is left as it is.
    """

    FLAVOR: ClassVar[str] = "aws"
    URI_EXAMPLE: ClassVar[str] = EXAMPLE
    #: Its answers to chunks tell a stale offset (aws/containers-roadmap#2831).
    CHUNKED: ClassVar[bool] = False
    NO_MAX_BODY: ClassVar[str] = (
        "ECR drops the bytes of every chunk after the first (aws/containers-roadmap#2831)"
    )
    #: aws/containers-roadmap#2860.
    MOUNTS_NEED_MANIFEST: ClassVar[bool] = True
    #: InitiateLayerUpload and CompleteLayerUpload, the lowest that a layer needs ("Amazon ECR
    #: service quotas", docs.aws.amazon.com). Of manifests it takes 10 a second, and says when
    #: that is too much.
    QUOTAS: ClassVar[Limits] = Limits(requests_per_second=100)

    #: Needed only where the host does not say it; 12 digits, in quotes.
    account: Annotated[str, StringConstraints(pattern=r"^\d{12}$")] | None = None
    #: Needed only where the host does not say it.
    region: Annotated[str, StringConstraints(pattern=rf"^{REGION}$")] | None = None
    #: A profile of the AWS configuration files of the worker's host.
    profile: str | None = None
    #: A role to assume with the credentials that are there.
    role_arn: Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::\d{12}:role/.+$")] | (
        None
    ) = None
    access_key_id: Text | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    #: Another address of the ECR API: a VPC endpoint.
    endpoint_url: Annotated[str, StringConstraints(pattern=r"^https?://[^/@]+/?$")] | None = None

    #: Create repositories that do not exist.
    create: bool = True
    mutability: Literal["mutable", "immutable"] = "mutable"
    #: Tags for which ``mutability`` is the other way round; ``*`` stands for anything.
    mutability_exclusions: Annotated[list[_Exclusion], Field(max_length=5)] = Field(
        default_factory=list
    )
    #: Left out: what the account's registry settings say.
    scan_on_push: bool | None = None
    #: Left out: AES256, or KMS when there is a ``kms_key``.
    encryption: Literal["AES256", "KMS", "KMS_DSSE"] | None = None
    kms_key: str | None = None
    tags: Annotated[dict[str, str], Field(max_length=50)] = Field(default_factory=dict)
    #: The policy itself, or the path of a JSON file.
    lifecycle_policy: _Policy | None = None
    #: The policy itself, or the path of a JSON file.
    repository_policy: _Policy | None = None
    #: What the gallery of ECR Public shows of a new repository.
    catalog_data: CatalogData | None = None

    _clients: Clients = PrivateAttr()
    _known: Known = PrivateAttr()

    def model_post_init(self, _context: Any) -> None:
        """Give the component a place for what it keeps; nothing is opened."""
        self._clients = Clients(self.name)
        self._known = Known(KNOWN_S)

    @field_validator("uri")
    @classmethod
    def _ecr_uri(cls, value: str) -> str:
        uri = RegistryUri.parse(value)
        EcrHost.parse(uri.registry)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        host = EcrHost.parse(self.registry_uri.registry)
        if self._is_public:
            self._check_public_options()
        elif self.catalog_data is not None:
            raise ValueError("catalog_data is for ECR Public only (uri: public.ecr.aws/ALIAS)")
        elif host is None and not (self.account and self.region):
            raise ValueError(
                f"uri {self.uri!r} is not on an ECR host; write uri: {self.URI_EXAMPLE}, or set "
                "account and region where it is another name for ECR"
            )
        for option, said in (("account", host and host.account), ("region", host and host.region)):
            given = getattr(self, option)
            if said and given and given != said:
                raise ValueError(f"{option} is {given}, but the host of uri says {said}")
        if self._is_set("access_key_id") != self._is_set("secret_access_key"):
            raise ValueError("access_key_id and secret_access_key go together; set both or none")
        if self._is_set("access_key_id") and self.profile:
            raise ValueError("choose one: profile, or access_key_id and secret_access_key")
        if self.kms_key and self.encryption == "AES256":
            raise ValueError("kms_key needs encryption: KMS or KMS_DSSE")
        return self

    def prepare_image_push(self, image_name: str) -> None:
        """Find the image's repository, or create it as the component says.

        One that was there a few minutes ago is not looked up again.

        Raises:
            RepositoryMissing: it does not exist, and ``create`` is false.
            PushError: AWS refused, or did not answer.
        """
        image = self.placed(image_name)
        name = image.repository
        if self._is_public:
            settings = self._new_public_repository() if self.create else None
            if self._ecr_public().prepare(image, self._known, settings):
                self.note(f"created repository {name}")
            return
        if name in self._known:
            return
        ecr = self._ecr()
        if ecr.find(name) is not None:
            self._known.add(name)
            return
        if not self.create:
            raise RepositoryMissing(
                f"ECR has no repository {name} in account {self._account}, {self._region}, and "
                f"component {self.name!r} says create: false; create it with: aws ecr "
                f"create-repository --repository-name {name} --region {self._region}"
            )
        try:
            created = ecr.create(name, self._new_repository())
        except Denied as error:
            raise Denied(f"ECR has no repository {name}, and {error.message}") from error
        self._known.add(name)
        if created:
            self.note(f"created repository {name} in account {self._account}, {self._region}")

    def push_image(self, image_name: str, *, transport: PushTransport | None = None) -> str:
        """Push, and say of an immutable tag what it holds.

        A push of the very image that the tag holds is no conflict: ECR accepts it.
        """
        try:
            return super().push_image(image_name, transport=transport)
        except ImmutableTag as error:
            raise self._conflict(image_name, error) from error
        except RepositoryMissing:
            self._known.drop(self.belonging(image_name).repository)
            raise
        except Denied:
            # It may have been revoked; a retry by hand must not meet it again.
            _TOKENS.forget(self._token_key())
            raise

    def credentials(self) -> Credentials | None:
        """The component's own login, else one from ECR, shared by all jobs of this process.

        Raises:
            PushError: AWS refused, or did not answer, or there are no AWS credentials.
        """
        if self.credentials_from or self._is_set("username") or self._is_set("password"):
            return super().credentials()
        if not self._is_public:
            return _TOKENS.get(self._token_key(), lambda: self._ecr().login())
        try:
            return _TOKENS.get(self._token_key(), lambda: self._ecr_public().login())
        except CredentialsMissing:
            # Everybody may read there.
            if self.allow == {Use.COPY_FROM}:
                return None
            raise

    async def list_repositories(
        self,
        client: RegistryClient,  # noqa: ARG002 - ECR's own API tells them
    ) -> AsyncIterator[list[str]]:
        """The account's repositories in the region, or those under its alias of ECR Public.

        Raises:
            PushError: AWS refused, or did not answer, or there are no AWS credentials.
        """
        if self._is_public:
            alias = self.registry_uri.path.partition("/")[0]
            public_ecr = await asyncio.to_thread(self._ecr_public)
            pages = public_ecr.list_pages(alias, self.PAGE_SIZE)
        else:
            ecr = await asyncio.to_thread(self._ecr)
            pages = ecr.list_pages(self.PAGE_SIZE)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield page

    @property
    def quotas(self) -> Limits:
        """The component's own limits, and where it has none those of its service."""
        limits = super().quotas
        if self._is_public and self.limits.requests_per_second is None:
            return replace(limits, requests_per_second=public.REQUESTS_PER_SECOND)
        return limits

    @property
    def _is_public(self) -> bool:
        return self.registry_uri.registry in public.HOSTS

    def _check_public_options(self) -> None:
        wrong = sorted(self.model_fields_set & public.PRIVATE_OPTIONS)
        if wrong:
            raise ValueError(
                f"ECR Public has no {' and no '.join(wrong)}; leave that out, or write "
                f"uri: {self.URI_EXAMPLE} for a private registry"
            )

    @property
    def _host(self) -> EcrHost:
        if self._is_public:
            return EcrHost(account="", region=public.REGION)
        found = EcrHost.parse(self.registry_uri.registry)
        return found or EcrHost(account=self.account or "", region=self.region or "")

    @property
    def _account(self) -> str:
        return self._host.account

    @property
    def _region(self) -> str:
        return self._host.region

    def _identity(self) -> Identity:
        return Identity(
            access_key_id=self.resolve("access_key_id"),
            secret_access_key=self.resolve("secret_access_key"),
            session_token=self.resolve("session_token"),
            profile=self.profile,
            role_arn=self.role_arn,
        )

    def _token_key(self) -> tuple[Any, ...]:
        return (self._account, self._region, self.endpoint_url, self._identity().key)

    def _ecr(self) -> Ecr:
        host = self._host
        endpoint = Endpoint(
            region=host.region, fips=host.fips, dual_stack=host.dual_stack, url=self.endpoint_url
        )
        client = self._clients.ecr(self._identity(), endpoint)
        return Ecr(client, account=host.account, component=self.name)

    def _ecr_public(self) -> EcrPublic:
        endpoint = Endpoint(public.REGION, url=self.endpoint_url, service="ecr-public")
        client = self._clients.ecr(self._identity(), endpoint)
        return EcrPublic(client, component=self.name)

    def _new_public_repository(self) -> NewPublicRepository:
        return NewPublicRepository(
            self.catalog_data, self.tags, self._policy_text("repository_policy")
        )

    def _conflict(self, image_name: str, error: ImmutableTag) -> ImmutableTag:
        image = self.belonging(image_name)
        if self._is_public:
            return error
        try:
            held = self._ecr().tagged(image.repository, image.tag or "")
        except PushError:
            # The right to push does not bring the right to look; the engine's words remain.
            held = None
        if held is None:
            return error
        digest, pushed_at = held
        since = f" since {pushed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if pushed_at else ""
        return ImmutableTag(
            f"{image} is immutable and holds another image, {digest}{since}; push this one under "
            "another tag"
        )

    def _new_repository(self) -> NewRepository:
        encryption = self.encryption or ("KMS" if self.kms_key else None)
        return NewRepository(
            mutability=self.mutability.upper(),
            exclusions=tuple(self.mutability_exclusions),
            scan_on_push=self.scan_on_push,
            encryption=encryption,
            kms_key=self.kms_key,
            tags=self.tags,
            lifecycle_policy=self._policy_text("lifecycle_policy"),
            repository_policy=self._policy_text("repository_policy"),
        )

    def _policy_text(self, option: str) -> str | None:
        """The policy as compact JSON.

        Raises:
            PrepareFailed: the file cannot be read, or holds no JSON object.
        """
        value = getattr(self, option)
        if isinstance(value, Path):
            place = f"component {self.name!r}: {option} {value}"
            try:
                with value.open("rb") as stream:
                    value = json.loads(stream.read(_LONGEST_POLICY))
            except OSError as error:
                raise PrepareFailed(f"{place}: {error.strerror or 'cannot be read'}") from None
            except ValueError as error:
                raise PrepareFailed(f"{place} is not valid JSON: {error}") from None
            if not isinstance(value, dict):
                raise PrepareFailed(f"{place} must hold a JSON object")
        return None if value is None else json.dumps(value)
