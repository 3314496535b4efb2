"""What Transship asks of the ECR API: a login, a repository, a tag's digest.

Source of names and limits: docs.aws.amazon.com/AmazonECR/latest/APIReference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from transship.errors import PrepareFailed, PushError
from transship_worker.credentials.access import Credentials
from transship_worker.flavors.aws.answers import login_of, repository_pages
from transship_worker.flavors.aws.errors import translated


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as ECR describes it."""

    name: str
    #: ``MUTABLE``, ``IMMUTABLE``, or one of them ``_WITH_EXCLUSION``.
    mutability: str


@dataclass(frozen=True, slots=True)
class NewRepository:
    """How a repository is created."""

    mutability: str = "MUTABLE"
    exclusions: tuple[str, ...] = ()
    scan_on_push: bool | None = None
    encryption: str | None = None
    kms_key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    #: JSON texts.
    lifecycle_policy: str | None = None
    repository_policy: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``create_repository``, without name and account."""
        found: dict[str, Any] = {"imageTagMutability": self.mutability}
        if self.exclusions:
            found["imageTagMutability"] = f"{self.mutability}_WITH_EXCLUSION"
            found["imageTagMutabilityExclusionFilters"] = [
                {"filterType": "WILDCARD", "filter": pattern} for pattern in self.exclusions
            ]
        if self.scan_on_push is not None:
            found["imageScanningConfiguration"] = {"scanOnPush": self.scan_on_push}
        if self.encryption is not None:
            found["encryptionConfiguration"] = {"encryptionType": self.encryption}
            if self.kms_key is not None:
                found["encryptionConfiguration"]["kmsKey"] = self.kms_key
        if self.tags:
            found["tags"] = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        return found


class Ecr:
    """One account's registry in one region, for one component."""

    def __init__(self, client: Any, *, account: str, component: str) -> None:
        """``client``: a boto3 client; its methods are made at run time and have no types."""
        self._client = client
        self._account = account
        self._component = component

    def login(self) -> Credentials:
        """A login for the registry, good for 12 hours.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        # The parameter registryIds is deprecated: the token is good wherever its owner is.
        with translated(self._component, "ecr:GetAuthorizationToken", "*"):
            answer = self._client.get_authorization_token()
        return login_of(answer["authorizationData"][0])

    def find(self, name: str) -> Repository | None:
        """The repository of exactly this name; ``None``: there is none.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        with translated(self._component, "ecr:DescribeRepositories", self._target(name)):
            try:
                answer = self._client.describe_repositories(
                    registryId=self._account, repositoryNames=[name]
                )
            except self._client.exceptions.RepositoryNotFoundException:
                return None
        found = answer["repositories"][0]
        return Repository(name, found.get("imageTagMutability", "MUTABLE"))

    def list_pages(self, page_size: int) -> Iterator[list[str]]:
        """Pages of all repositories' names.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        for page in repository_pages(self._describe_all, page_size):
            yield [str(found["repositoryName"]) for found in page]

    def create(self, name: str, settings: NewRepository) -> bool:
        """Create a repository; ``False``: somebody else did so meanwhile, and it is left as it is.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        with translated(self._component, "ecr:CreateRepository", self._target(name)):
            try:
                self._client.create_repository(
                    registryId=self._account, repositoryName=name, **settings.arguments()
                )
            except self._client.exceptions.RepositoryAlreadyExistsException:
                return False
        if settings.lifecycle_policy is not None:
            self._put_policy(name, "PutLifecyclePolicy", settings.lifecycle_policy)
        if settings.repository_policy is not None:
            self._put_policy(name, "SetRepositoryPolicy", settings.repository_policy)
        return True

    def tagged(self, name: str, tag: str) -> tuple[str, datetime | None] | None:
        """Digest and push time of what a tag holds; ``None``: nothing, or no repository.

        Raises:
            PushError: AWS refused, or did not answer.
        """
        with translated(self._component, "ecr:DescribeImages", self._target(name)):
            try:
                answer = self._client.describe_images(
                    registryId=self._account, repositoryName=name, imageIds=[{"imageTag": tag}]
                )
            except (
                self._client.exceptions.ImageNotFoundException,
                self._client.exceptions.RepositoryNotFoundException,
            ):
                return None
        found = answer["imageDetails"][0]
        return str(found["imageDigest"]), found.get("imagePushedAt")

    def _describe_all(self, arguments: Mapping[str, Any]) -> Any:
        target = f"the repositories of account {self._account}"
        with translated(self._component, "ecr:DescribeRepositories", target):
            return self._client.describe_repositories(registryId=self._account, **arguments)

    def _put_policy(self, name: str, operation: str, policy: str) -> None:
        calls = {
            "PutLifecyclePolicy": ("put_lifecycle_policy", "lifecyclePolicyText", "lifecycle"),
            "SetRepositoryPolicy": ("set_repository_policy", "policyText", "repository"),
        }
        method, parameter, kind = calls[operation]
        try:
            with translated(self._component, f"ecr:{operation}", self._target(name)):
                getattr(self._client, method)(
                    registryId=self._account, repositoryName=name, **{parameter: policy}
                )
        except PushError as error:
            # Never retried: the next attempt would find the repository and leave it as it is,
            # without the policy, and nobody would hear of it.
            raise PrepareFailed(
                f"repository {name} was created without its {kind} policy: {error.message}; put "
                "the policy by hand, or delete the repository and retry the job"
            ) from error

    def _target(self, name: str) -> str:
        return f"repository {name} of account {self._account}"
