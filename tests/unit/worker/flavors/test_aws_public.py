"""The ``aws`` flavor at ECR Public, against what AWS documents. moto does not have this service."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from botocore.stub import Stubber
from pydantic import ValidationError

from tests.support.servers.ecr import KEY_ID, SECRET, no_aws_login
from transship.errors import (
    CannotList,
    CredentialsMissing,
    Denied,
    PrepareFailed,
    PushError,
    RepositoryMissing,
)
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.aws import AwsRegistry
from transship_worker.flavors.aws.client import Clients, Endpoint, Identity
from transship_worker.flavors.notes import collected_notes
from transship_worker.fleet.limits import Limits

IMAGE = "public.ecr.aws/acme/tools/cat:42"
LOOKUP = {"repositoryNames": ["tools/cat"]}


@pytest.fixture(autouse=True)
def fresh_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TokenCache(margin=timedelta(minutes=15))
    monkeypatch.setattr("transship_worker.flavors.aws.registry._TOKENS", cache)


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """A Stubber, which checks each request against botocore's description of the API."""
    client = boto3.client(
        "ecr-public",
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    )

    def made(self: Clients, identity: Identity, endpoint: Endpoint) -> Any:
        assert (endpoint.service, endpoint.region) == ("ecr-public", "us-east-1")
        return client

    monkeypatch.setattr("transship_worker.flavors.aws.client.Clients.ecr", made)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def registry(**options: Any) -> AwsRegistry:
    return AwsRegistry.model_validate({"name": "pub", "uri": "public.ecr.aws/acme", **options})


def repositories(*paths: str, **more: str) -> dict[str, Any]:
    found = [
        {"repositoryName": path.partition("/")[2], "repositoryUri": f"public.ecr.aws/{path}"}
        for path in paths
    ]
    return {"repositories": found, **more}


def registries(**aliases: str) -> dict[str, Any]:
    flags = {"primaryRegistryAlias": True, "defaultRegistryAlias": False}
    return {
        "registries": [
            {
                "registryId": "123456789012",
                "registryArn": "arn:aws:ecr-public::123456789012:registry/123456789012",
                "registryUri": "public.ecr.aws/acme",
                "verified": False,
                "aliases": [{"name": n, "status": s, **flags} for n, s in aliases.items()],
            }
        ]
    }


def test_the_client_is_that_of_its_own_service_in_one_region() -> None:
    identity = Identity(access_key_id=KEY_ID, secret_access_key=SECRET)
    client = Clients("pub").ecr(identity, Endpoint("us-east-1", service="ecr-public"))
    assert client.meta.service_model.service_name == "ecr-public"
    assert client.meta.endpoint_url == "https://api.ecr-public.us-east-1.amazonaws.com"


def test_a_login_is_fetched_once_and_shared(ecr: Stubber) -> None:
    end = datetime.now(UTC) + timedelta(hours=12)
    text = base64.b64encode(b"AWS:hunter22").decode()
    data = {"authorizationToken": text, "expiresAt": end}
    ecr.add_response("get_authorization_token", {"authorizationData": data}, {})
    for name in ("one", "two"):
        found = registry(name=name, uri="public.ecr.aws").credentials()
        assert found is not None
        assert (found.username, found.password.get_secret_value()) == ("AWS", "hunter22")
        assert found.expires_at == end


def test_who_only_reads_needs_no_aws_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with no_aws_login(monkeypatch, str(tmp_path)):
        assert registry(allow=["copy_from"]).credentials() is None
        with pytest.raises(CredentialsMissing, match="component 'pub' has no AWS credentials"):
            registry().credentials()


def test_a_repository_is_found_by_its_name_without_the_alias(ecr: Stubber) -> None:
    ecr.add_response("describe_repositories", repositories("acme/tools/cat"), LOOKUP)
    made = registry()
    made.prepare_image_push(IMAGE)
    # It is not looked up again.
    made.prepare_image_push(IMAGE)


def test_a_second_alias_of_the_account_is_as_good(ecr: Stubber) -> None:
    ecr.add_response("describe_repositories", repositories("main/tools/cat"), LOOKUP)
    ecr.add_response("describe_registries", registries(main="ACTIVE", acme="ACTIVE"), {})
    registry().prepare_image_push(IMAGE)


@pytest.mark.parametrize("aliases", [{"main": "ACTIVE"}, {"main": "ACTIVE", "acme": "PENDING"}, {}])
@pytest.mark.parametrize("held", [True, False])
def test_an_alias_of_another_account_is_refused_and_nothing_is_created(
    ecr: Stubber, aliases: dict[str, str], held: bool
) -> None:
    if held:
        ecr.add_response("describe_repositories", repositories("main/tools/cat"), LOOKUP)
    else:
        ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response("describe_registries", registries(**aliases), {})
    with pytest.raises(RepositoryMissing, match="the ECR Public alias acme is not one of this"):
        registry().prepare_image_push(IMAGE)


def test_a_missing_repository_is_created_as_the_component_says(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response("describe_registries", registries(acme="ACTIVE"), {})
    created = {"repository": repositories("acme/tools/cat")["repositories"][0]}
    catalog_data = {"description": "Cats", "architectures": ["x86-64"], "about_text": "# Cats"}
    right = {
        "repositoryName": "tools/cat",
        "catalogData": {"description": "Cats", "architectures": ["x86-64"], "aboutText": "# Cats"},
        "tags": [{"Key": "team", "Value": "ml"}],
    }
    ecr.add_response("create_repository", created, right)
    policy = {"repositoryName": "tools/cat", "policyText": '{"Version": "2012-10-17"}'}
    ecr.add_response("set_repository_policy", {}, policy)
    made = registry(
        catalog_data=catalog_data,
        tags={"team": "ml"},
        repository_policy={"Version": "2012-10-17"},
    )
    with collected_notes() as notes:
        made.prepare_image_push(IMAGE)
    assert notes == ["created repository acme/tools/cat"]


def test_a_repository_that_another_creates_meanwhile_is_no_error(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response("describe_registries", registries(acme="ACTIVE"), {})
    ecr.add_client_error("create_repository", "RepositoryAlreadyExistsException")
    with collected_notes() as notes:
        registry().prepare_image_push(IMAGE)
    assert notes == []


@pytest.mark.parametrize(
    ("code", "kind", "right"),
    [
        ("AccessDeniedException", Denied, "ecr-public:CreateRepository on repository tools/cat"),
        ("LimitExceededException", PrepareFailed, "AWS refused ecr-public:CreateRepository"),
    ],
)
def test_a_refusal_names_the_action(
    ecr: Stubber, code: str, kind: type[PushError], right: str
) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response("describe_registries", registries(acme="ACTIVE"), {})
    ecr.add_client_error("create_repository", code, "no", http_status_code=400)
    with pytest.raises(kind, match=right):
        registry().prepare_image_push(IMAGE)


def test_what_must_not_be_created_is_told_with_the_command(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response("describe_registries", registries(acme="ACTIVE"), {})
    with pytest.raises(RepositoryMissing, match="aws ecr-public create-repository") as caught:
        registry(create=False).prepare_image_push(IMAGE)
    assert "--repository-name tools/cat --region us-east-1" in caught.value.message
    with pytest.raises(PrepareFailed, match=r"write public\.ecr\.aws/ALIAS/NAME"):
        registry(uri="public.ecr.aws").prepare_image_push("public.ecr.aws/acme:1")


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"scan_on_push": True}, "ECR Public has no scan_on_push; leave that out"),
        (
            {"mutability": "immutable", "mutability_exclusions": ["a"]},
            "ECR Public has no mutability and no mutability_exclusions; leave that out",
        ),
        ({"encryption": "KMS", "kms_key": "alias/x"}, "has no encryption and no kms_key"),
        ({"lifecycle_policy": {"rules": []}}, "has no lifecycle_policy"),
        ({"region": "eu-central-1"}, "has no region"),
        ({"account": "123456789012"}, "has no account"),
        ({"max_body": "1MB"}, "max_body is not for aws"),
        ({"catalog_data": {"logo": "x"}}, "catalog_data.logo"),
        ({"access_key_id": KEY_ID}, "access_key_id and secret_access_key go together"),
        (
            {"uri": "123456789012.dkr.ecr.eu-central-1.amazonaws.com", "catalog_data": {}},
            "catalog_data is for ECR Public only",
        ),
    ],
)
def test_options_of_another_service_are_refused(options: dict[str, Any], right: str) -> None:
    with pytest.raises(ValidationError) as caught:
        registry(**options)
    assert right in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("public.ecr.aws/acme", [["acme/aa", "acme/tools/cat"], ["acme/bb"]]),
        ("public.ecr.aws/acme/tools", [["acme/aa", "acme/tools/cat"], ["acme/bb"]]),
        ("public.ecr.aws", [["main/aa", "main/tools/cat"], ["main/bb"]]),
    ],
)
async def test_repositories_are_listed_page_by_page_under_the_alias(
    ecr: Stubber, uri: str, right: list[list[str]]
) -> None:
    if uri != "public.ecr.aws":
        ecr.add_response("describe_registries", registries(main="ACTIVE", acme="ACTIVE"), {})
    first = repositories("main/aa", "main/tools/cat", nextToken="more")
    ecr.add_response("describe_repositories", first, {"maxResults": 1_000})
    more = {"maxResults": 1_000, "nextToken": "more"}
    ecr.add_response("describe_repositories", repositories("main/bb"), more)
    listed = registry(uri=uri).list_repositories(cast("Any", None))
    assert [page async for page in listed] == right


async def test_repositories_of_another_account_cannot_be_listed(ecr: Stubber) -> None:
    ecr.add_response("describe_registries", registries(main="ACTIVE"), {})
    listed = registry().list_repositories(cast("Any", None))
    with pytest.raises(CannotList, match=r"own aliases \(main\), and acme is none of them"):
        await anext(aiter(listed))


def test_its_quotas_are_lower_than_those_of_private_registries() -> None:
    assert registry().quotas == Limits(requests_per_second=10)
    assert registry(limits={"requests_per_second": 50}).quotas == Limits(requests_per_second=50)
    assert registry(uri="ecr-public.aws.com/acme").quotas == Limits(requests_per_second=10)
