"""Amazon ECR Public (``public.ecr.aws``): an API of its own, in one region for all of the world.

Images are called ``public.ecr.aws/ALIAS/NAME``. An alias belongs to one account, which may have
several; the API knows the account's repositories by their names without it. Sources:
docs.aws.amazon.com/AmazonECRPublic/latest/APIReference; ``AmazonECR/latest/public``, "Amazon ECR
Public service quotas" and "Public registries".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from transship.errors import CannotList, PrepareFailed, PushError, RepositoryMissing
from transship.model.references import ImageReference
from transship_worker.credentials.access import Credentials
from transship_worker.flavors.aws.answers import login_of, repository_pages
from transship_worker.flavors.aws.errors import translated
from transship_worker.flavors.aws.known import Known

#: Its host, and the one that has IPv6 addresses as well.
HOSTS: Final = frozenset({"public.ecr.aws", "ecr-public.aws.com"})
#: Where its API is.
REGION: Final = "us-east-1"
#: CompleteLayerUpload and pulls with a login, the lowest of its quotas.
REQUESTS_PER_SECOND: Final = 10.0
#: Options that its repositories do not have.
PRIVATE_OPTIONS: Final = frozenset(
    {
        "account",
        "region",
        "mutability",
        "mutability_exclusions",
        "scan_on_push",
        "encryption",
        "kms_key",
        "lifecycle_policy",
    }
)
#: Aliases that a message names.
_SHOWN: Final = 5

_Names = Annotated[list[Annotated[str, Field(max_length=50)]], Field(max_length=50)]


class CatalogData(BaseModel):
    """What the gallery shows of a new repository."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    description: Annotated[str, Field(max_length=1_024)] | None = None
    about_text: Annotated[str, Field(max_length=25_600)] | None = None
    usage_text: Annotated[str, Field(max_length=25_600)] | None = None
    architectures: _Names | None = None
    operating_systems: _Names | None = None

    def arguments(self) -> dict[str, Any]:
        """The members of ``RepositoryCatalogDataInput``."""
        members = {
            "description": self.description,
            "aboutText": self.about_text,
            "usageText": self.usage_text,
            "architectures": self.architectures,
            "operatingSystems": self.operating_systems,
        }
        return {name: value for name, value in members.items() if value}


@dataclass(frozen=True, slots=True)
class NewPublicRepository:
    """How a repository is created."""

    catalog_data: CatalogData | None = None
    tags: dict[str, str] = field(default_factory=dict)
    #: A JSON text.
    repository_policy: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``create_repository``, without the name."""
        arguments: dict[str, Any] = {}
        data = self.catalog_data.arguments() if self.catalog_data is not None else {}
        if data:
            arguments["catalogData"] = data
        if self.tags:
            arguments["tags"] = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        return arguments


class EcrPublic:
    """The public registry of the account that the credentials belong to."""

    def __init__(self, client: Any, *, component: str) -> None:
        """``client``: a boto3 client for ``ecr-public``."""
        self._client = client
        self._component = component

    def login(self) -> Credentials:
        """A login, good for 12 hours.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        with self._translated("GetAuthorizationToken", "*"):
            data = self._client.get_authorization_token()["authorizationData"]
        return login_of(data)

    def find(self, name: str) -> str | None:
        """``ALIAS/NAME`` of the account's repository of exactly this name; ``None``: none.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        with self._translated("DescribeRepositories", f"repository {name}"):
            try:
                answer = self._client.describe_repositories(repositoryNames=[name])
            except self._client.exceptions.RepositoryNotFoundException:
                return None
        return _path(answer["repositories"][0])

    def aliases(self) -> frozenset[str]:
        """The account's aliases that can be used.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        with self._translated("DescribeRegistries", "the account's public registry"):
            registries = self._client.describe_registries()["registries"]
        return frozenset(
            str(alias["name"])
            for registry in registries
            for alias in registry["aliases"]
            if alias["status"] == "ACTIVE"
        )

    def create(self, name: str, settings: NewPublicRepository) -> bool:
        """Create a repository; ``False``: somebody else did so meanwhile.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        target = f"repository {name}"
        with self._translated("CreateRepository", target):
            try:
                self._client.create_repository(repositoryName=name, **settings.arguments())
            except self._client.exceptions.RepositoryAlreadyExistsException:
                return False
        if settings.repository_policy is not None:
            try:
                with self._translated("SetRepositoryPolicy", target):
                    self._client.set_repository_policy(
                        repositoryName=name, policyText=settings.repository_policy
                    )
            except PushError as error:
                # Never retried: the next attempt would find the repository without its policy.
                raise PrepareFailed(
                    f"repository {name} was created without its policy: {error.message}; set the "
                    "policy by hand, or delete the repository and retry the job"
                ) from error
        return True

    def prepare(
        self, image: ImageReference, known: Known, settings: NewPublicRepository | None
    ) -> bool:
        """Find the image's repository, or create it; whether it was created.

        ``settings``: ``None``: it is not to be created.

        Raises:
            RepositoryMissing: it does not exist, or the alias belongs to another account.
            PushError: AWS refused, or did not answer.
        """
        alias, _, name = image.repository.partition("/")
        if not name:
            raise PrepareFailed(
                f"{image} names no repository of ECR Public; write {image.registry}/ALIAS/NAME"
            )
        if image.repository in known:
            return False
        held = self.find(name)
        if held != image.repository:
            self.check_alias(alias)
        created = False
        if held is None:
            if settings is None:
                raise RepositoryMissing(
                    f"ECR Public has no repository {image.repository}, and component "
                    f"{self._component!r} says create: false; create it with: aws ecr-public "
                    f"create-repository --repository-name {name} --region {REGION}"
                )
            created = self.create(name, settings)
        known.add(image.repository)
        return created

    def check_alias(self, alias: str) -> None:
        """Return if an alias is one of the account's.

        Raises:
            RepositoryMissing: it is not.
        """
        aliases = self.aliases()
        if alias not in aliases:
            raise RepositoryMissing(
                f"the ECR Public alias {alias} is not one of this account's, which are "
                f"{_shown(aliases)}"
            )

    def list_pages(self, alias: str, page_size: int) -> Iterator[list[str]]:
        """Pages of the repositories under an alias, ``ALIAS/NAME``; without one, under its main.

        Raises:
            CannotList: the alias belongs to another account.
            PushError: AWS refused, or did not answer.
        """
        aliases = self.aliases() if alias else frozenset()
        if alias and alias not in aliases:
            raise CannotList(
                f"ECR Public lists the repositories of the account's own aliases "
                f"({_shown(aliases)}), and {alias} is none of them; write their names out"
            )
        for page in repository_pages(self._describe_all, page_size):
            names = [_path(repository) for repository in page]
            if alias:
                names = [f"{alias}/{name.partition('/')[2]}" for name in names]
            yield names

    def _describe_all(self, arguments: Mapping[str, Any]) -> Any:
        with self._translated("DescribeRepositories", "the account's public repositories"):
            return self._client.describe_repositories(**arguments)

    def _translated(self, operation: str, target: str) -> Any:
        return translated(self._component, f"ecr-public:{operation}", target)


def _path(repository: dict[str, Any]) -> str:
    """``ALIAS/NAME`` of a repository, as its URI says."""
    return str(repository["repositoryUri"]).partition("/")[2]


def _shown(aliases: frozenset[str]) -> str:
    return ", ".join(sorted(aliases)[:_SHOWN]) or "none"
