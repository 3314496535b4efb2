"""The ``aws`` flavor against what AWS documents; moto and a registry are tried elsewhere."""

from __future__ import annotations

import base64
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from pydantic import ValidationError

from tests.support.servers.ecr import ACCOUNT, KEY_ID, REGION, SECRET, no_aws_login
from transship.errors import (
    CloudUnavailable,
    CredentialsMissing,
    Denied,
    ImmutableTag,
    PrepareFailed,
    PushError,
    RepositoryMissing,
)
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.aws import AwsRegistry
from transship_worker.flavors.aws.client import Clients, Endpoint, Identity
from transship_worker.flavors.aws.hosts import EcrHost
from transship_worker.flavors.notes import collected_notes

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
IMAGE = f"{HOST}/ml/train:42"
LOOKUP = {"registryId": ACCOUNT, "repositoryNames": ["ml/train"]}
FOUND = {"repositories": [{"repositoryName": "ml/train", "imageTagMutability": "MUTABLE"}]}
LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 14,
            },
            "action": {"type": "expire"},
        }
    ]
}
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture(autouse=True)
def fresh_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TokenCache(margin=timedelta(minutes=15))
    monkeypatch.setattr("transship_worker.flavors.aws.registry._TOKENS", cache)


def registry(**options: Any) -> AwsRegistry:
    return AwsRegistry.model_validate({"name": "prod", "uri": f"{HOST}/ml", **options})


def token(password: str, expires_at: datetime) -> dict[str, Any]:
    text = base64.b64encode(f"AWS:{password}".encode()).decode()
    return {"authorizationData": [{"authorizationToken": text, "expiresAt": expires_at}]}


def hours(number: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


class Transport:
    """Raises or returns what it is told."""

    def __init__(self, outcome: str | PushError) -> None:
        self.outcome = outcome

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        if isinstance(self.outcome, PushError):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("host", "right"),
    [
        (HOST, EcrHost(ACCOUNT, REGION)),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
         EcrHost(ACCOUNT, "us-gov-west-1", fips=True)),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", EcrHost(ACCOUNT, "cn-north-1")),
        ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", EcrHost(ACCOUNT, "us-iso-east-1")),
        ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", EcrHost(ACCOUNT, "us-isob-east-1")),
        ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
         EcrHost(ACCOUNT, "us-isof-south-1")),
        ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", EcrHost(ACCOUNT, "eu-isoe-west-1")),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", EcrHost(ACCOUNT, "eusc-de-east-1")),
        ("123456789012.dkr-ecr.us-east-1.on.aws",
         EcrHost(ACCOUNT, "us-east-1", dual_stack=True)),
        ("123456789012.dkr-ecr-fips.us-east-1.on.aws",
         EcrHost(ACCOUNT, "us-east-1", fips=True, dual_stack=True)),
        ("registry.example.com", None),
        ("12345.dkr.ecr.eu-central-1.amazonaws.com", None),
    ],
)  # fmt: skip
def test_account_and_region_are_read_from_the_host_in_every_partition(
    host: str, right: EcrHost | None
) -> None:
    assert EcrHost.parse(host) == right


def test_every_partition_of_botocore_has_its_suffix() -> None:
    """The table of host suffixes against the one that botocore ships."""
    import boto3

    for partition in boto3.Session().get_available_partitions():
        regions = boto3.Session().get_available_regions("ecr", partition_name=partition)
        for region in regions:
            client = boto3.client(
                "ecr", region_name=region, aws_access_key_id="x", aws_secret_access_key="y"
            )
            suffix = client.meta.endpoint_url.partition(f".{region}.")[2]
            host = f"{ACCOUNT}.dkr.ecr.{region}.{suffix}"
            assert EcrHost.parse(host) == EcrHost(ACCOUNT, region), host
            break
        else:
            assert partition.startswith("aws-iso"), "botocore lists no regions of these"


def test_the_endpoint_follows_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity(access_key_id=KEY_ID, secret_access_key=SECRET)
    urls = {
        Endpoint("eu-central-1"): "https://api.ecr.eu-central-1.amazonaws.com",
        Endpoint("us-east-1", fips=True): "https://ecr-fips.us-east-1.amazonaws.com",
        Endpoint("us-east-1", dual_stack=True): "https://ecr.us-east-1.api.aws",
        Endpoint("cn-north-1"): "https://api.ecr.cn-north-1.amazonaws.com.cn",
        Endpoint("us-east-1", url="http://127.0.0.1:1"): "http://127.0.0.1:1",
    }
    for endpoint, url in urls.items():
        assert Clients("prod").ecr(identity, endpoint).meta.endpoint_url == url


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"uri": "ecr.example.com/ml"}, "is not on an ECR host; write uri: 123456789012.dkr.ecr"),
        ({"account": "999999999999"}, "account is 999999999999, but the host of uri says 1234"),
        ({"region": "us-east-1"}, "region is us-east-1, but the host of uri says eu-central-1"),
        ({"access_key_id": KEY_ID}, "access_key_id and secret_access_key go together"),
        ({"access_key_id": KEY_ID, "secret_access_key": SECRET, "profile": "p"}, "choose one"),
        ({"kms_key": "alias/ml", "encryption": "AES256"}, "kms_key needs encryption: KMS"),
        ({"mutability_exclusions": ["a b"]}, "should match pattern"),
        ({"lifecycle_policy": 7}, "the policy itself or the path of a JSON file"),
        ({"endpoint_url": "https://user:pw@vpce.example.com"}, "should match pattern"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], right: str) -> None:
    with pytest.raises(ValidationError) as caught:
        registry(**options)
    assert right in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_name_of_ones_own_in_front_of_ecr_needs_account_and_region(ecr: Stubber) -> None:
    ecr.add_response("describe_repositories", FOUND, LOOKUP)
    own = registry(uri="images.example.com/ml", account=ACCOUNT, region=REGION)
    own.prepare_image_push("images.example.com/ml/train:42")


def test_the_repository_is_looked_up_by_its_exact_name_in_one_question(ecr: Stubber) -> None:
    """Not by reading pages of a list: the Stubber refuses any second request or page size."""
    ecr.add_response("describe_repositories", {**FOUND, "nextToken": "more"}, LOOKUP)
    registry().prepare_image_push(IMAGE)


def test_a_missing_repository_is_created_as_the_component_says(
    ecr: Stubber, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"Version": "2012-10-17",\n "Statement": []}')
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response(
        "create_repository",
        {"repository": {"repositoryName": "ml/train"}},
        {
            "registryId": ACCOUNT,
            "repositoryName": "ml/train",
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [
                {"filterType": "WILDCARD", "filter": "latest"},
                {"filterType": "WILDCARD", "filter": "dev-*"},
            ],
            "imageScanningConfiguration": {"scanOnPush": True},
            "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/ml"},
            "tags": [{"Key": "team", "Value": "ml"}],
        },
    )
    ecr.add_response(
        "put_lifecycle_policy",
        {},
        {
            "registryId": ACCOUNT,
            "repositoryName": "ml/train",
            "lifecyclePolicyText": json.dumps(LIFECYCLE),
        },
    )
    ecr.add_response(
        "set_repository_policy",
        {},
        {
            "registryId": ACCOUNT,
            "repositoryName": "ml/train",
            "policyText": '{"Version": "2012-10-17", "Statement": []}',
        },
    )
    made = registry(
        mutability="immutable",
        mutability_exclusions=["latest", "dev-*"],
        scan_on_push=True,
        kms_key="alias/ml",
        tags={"team": "ml"},
        lifecycle_policy=LIFECYCLE,
        repository_policy=str(policy),
    )
    with collected_notes() as notes:
        made.prepare_image_push(IMAGE)
    assert notes == [f"created repository ml/train in account {ACCOUNT}, {REGION}"]


def test_a_repository_is_created_with_awss_own_defaults_unless_told(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    wanted = {
        "registryId": ACCOUNT,
        "repositoryName": "ml/train",
        "imageTagMutability": "MUTABLE",
    }
    ecr.add_response("create_repository", {}, wanted)
    registry().prepare_image_push(IMAGE)


def test_losing_the_race_to_create_is_success_and_leaves_the_winners_settings(
    ecr: Stubber,
) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_client_error("create_repository", "RepositoryAlreadyExistsException")
    with collected_notes() as notes:
        registry(lifecycle_policy=LIFECYCLE).prepare_image_push(IMAGE)
    assert notes == []


def test_a_missing_repository_that_is_not_to_be_created_says_how_to(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    with pytest.raises(RepositoryMissing) as caught:
        registry(create=False).prepare_image_push(IMAGE)
    assert "aws ecr create-repository --repository-name ml/train" in caught.value.message


def test_a_repository_that_stays_without_its_policy_is_no_silent_success(ecr: Stubber) -> None:
    """Even when waiting might help: the next attempt would find the repository and go on."""
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response("create_repository", {})
    ecr.add_client_error("put_lifecycle_policy", "ThrottlingException")
    with pytest.raises(PrepareFailed, match="was created without its lifecycle policy") as caught:
        registry(lifecycle_policy=LIFECYCLE).prepare_image_push(IMAGE)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("content", "right"),
    [(None, "No such file"), ("{rules", "is not valid JSON"), ("[]", "must hold a JSON object")],
)
def test_a_policy_file_that_cannot_be_used_stops_before_anything_is_created(
    ecr: Stubber, tmp_path: Path, content: str | None, right: str
) -> None:
    file = tmp_path / "policy.json"
    if content is not None:
        file.write_text(content)
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    with pytest.raises(PrepareFailed, match=right):
        registry(lifecycle_policy=str(file)).prepare_image_push(IMAGE)


@pytest.mark.parametrize(
    ("code", "status", "kind", "right"),
    [
        ("AccessDeniedException", 400, Denied, "ecr:DescribeRepositories"),
        ("ExpiredTokenException", 400, CredentialsMissing, "have expired"),
        ("UnrecognizedClientException", 400, Denied, "does not accept the credentials"),
        ("InvalidSignatureException", 400, Denied, "does not accept the credentials"),
        ("ThrottlingException", 400, CloudUnavailable, "fewer requests"),
        ("TooManyRequestsException", 429, CloudUnavailable, "fewer requests"),
        ("ServerException", 500, CloudUnavailable, "AWS has a problem"),
        ("", 503, CloudUnavailable, "AWS has a problem"),
        ("InvalidParameterException", 400, PrepareFailed, "InvalidParameterException"),
    ],
)
def test_errors_of_aws_are_typed(
    ecr: Stubber, code: str, status: int, kind: type[PushError], right: str
) -> None:
    ecr.add_client_error("describe_repositories", code, "why", status)
    with pytest.raises(kind) as caught:
        registry().prepare_image_push(IMAGE)
    assert type(caught.value) is kind
    assert right in caught.value.message
    assert caught.value.retryable is (kind is CloudUnavailable)


def test_a_denied_creation_says_that_the_repository_is_missing_and_which_right(
    ecr: Stubber,
) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    said = f"User: arn:aws:iam::{ACCOUNT}:user/ci is not authorized to perform: ecr:TagResource"
    ecr.add_client_error("create_repository", "AccessDeniedException", said)
    with pytest.raises(Denied) as caught:
        registry(tags={"a": "b"}).prepare_image_push(IMAGE)
    assert "ECR has no repository ml/train" in caught.value.message
    assert "ecr:TagResource" in caught.value.message


def test_the_quota_of_repositories_is_not_waited_for(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_client_error("create_repository", "LimitExceededException", "quota")
    with pytest.raises(PrepareFailed, match="quota"):
        registry().prepare_image_push(IMAGE)


def test_no_credentials_at_all_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_aws_login(monkeypatch, str(tmp_path)):
        with pytest.raises(CredentialsMissing, match="component 'prod' has no AWS credentials"):
            registry().credentials()
        with pytest.raises(CredentialsMissing, match="absent"):
            registry(profile="absent").credentials()


def test_an_api_that_does_not_answer_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    own = registry(
        endpoint_url="http://127.0.0.1:1", access_key_id=KEY_ID, secret_access_key=SECRET
    )
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(CloudUnavailable, match=r"AWS does not answer \(ecr:GetAuthorizationToken"):
        own.credentials()


def test_a_login_is_shared_until_shortly_before_its_end(ecr: Stubber) -> None:
    ecr.add_response("get_authorization_token", token("first", hours(12)), {})
    assert registry().credentials() == registry().credentials()
    found = registry().credentials()
    assert found is not None
    assert (found.username, found.password.get_secret_value()) == ("AWS", "first")


def test_a_login_near_its_end_is_replaced(ecr: Stubber) -> None:
    ecr.add_response("get_authorization_token", token("first", hours(0.2)), {})
    ecr.add_response("get_authorization_token", token("second", hours(12)), {})
    passwords = []
    for _ in range(3):
        found = registry().credentials()
        assert found is not None
        passwords.append(found.password.get_secret_value())
    assert passwords == ["first", "second", "second"]


def test_other_identities_and_regions_have_logins_of_their_own(ecr: Stubber) -> None:
    for password in ("one", "two", "three"):
        ecr.add_response("get_authorization_token", token(password, hours(12)), {})
    others = [
        registry(),
        registry(access_key_id=KEY_ID, secret_access_key=SECRET),
        registry(uri=f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"),
    ]
    found = [other.credentials() for other in others]
    assert [c.password.get_secret_value() for c in found if c] == ["one", "two", "three"]


def test_one_login_is_asked_for_however_many_jobs_start_at_once(ecr: Stubber) -> None:
    ecr.add_response("get_authorization_token", token("only", hours(12)), {})
    ready = threading.Barrier(8)
    found: list[Credentials | None] = []

    def job() -> None:
        ready.wait(10)
        found.append(registry().credentials())

    threads = [threading.Thread(target=job) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert {c.password.get_secret_value() for c in found if c} == {"only"}


def test_a_login_that_the_registry_refused_is_not_used_again(ecr: Stubber) -> None:
    ecr.add_response("describe_repositories", FOUND, LOOKUP)
    ecr.add_response("get_authorization_token", token("revoked", hours(12)), {})
    ecr.add_response("get_authorization_token", token("fresh", hours(12)), {})
    with pytest.raises(Denied):
        registry().push_image(IMAGE, transport=Transport(Denied("denied")))
    found = registry().credentials()
    assert found is not None
    assert found.password.get_secret_value() == "fresh"


def test_an_immutable_tag_that_holds_another_image_says_which(ecr: Stubber) -> None:
    pushed_at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    ecr.add_response("describe_repositories", FOUND, LOOKUP)
    ecr.add_response("get_authorization_token", token("p", hours(12)), {})
    ecr.add_response(
        "describe_images",
        {"imageDetails": [{"imageDigest": DIGEST, "imagePushedAt": pushed_at}]},
        {"registryId": ACCOUNT, "repositoryName": "ml/train", "imageIds": [{"imageTag": "42"}]},
    )
    with pytest.raises(ImmutableTag) as caught:
        registry().push_image(IMAGE, transport=Transport(ImmutableTag("tag invalid")))
    assert caught.value.message == (
        f"{IMAGE} is immutable and holds another image, {DIGEST} since 2026-01-02 03:04 UTC; "
        "push this one under another tag"
    )


def test_pushing_the_image_that_an_immutable_tag_holds_is_no_conflict(ecr: Stubber) -> None:
    """ECR accepts it, so the transport returns the digest and nothing more is asked."""
    immutable = {
        "repositories": [{"repositoryName": "ml/train", "imageTagMutability": "IMMUTABLE"}]
    }
    ecr.add_response("describe_repositories", immutable, LOOKUP)
    ecr.add_response("get_authorization_token", token("p", hours(12)), {})
    assert registry().push_image(IMAGE, transport=Transport(DIGEST)) == DIGEST


@pytest.mark.parametrize("code", ["AccessDeniedException", "ImageNotFoundException"])
def test_without_the_right_to_look_the_engines_words_remain(ecr: Stubber, code: str) -> None:
    ecr.add_response("describe_repositories", FOUND, LOOKUP)
    ecr.add_response("get_authorization_token", token("p", hours(12)), {})
    ecr.add_client_error("describe_images", code)
    with pytest.raises(ImmutableTag, match="tag invalid"):
        registry().push_image(IMAGE, transport=Transport(ImmutableTag("tag invalid")))


def test_a_role_is_assumed_anew_before_its_credentials_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The role's credentials live an hour, a worker for months."""
    import boto3

    assumed: list[str] = []
    lifetimes = [timedelta(minutes=2), timedelta(hours=1)]
    real = boto3.Session.client

    class FakeSts:
        """Stands in for AWS STS."""

        def assume_role(self, **arguments: str) -> dict[str, Any]:
            assumed.append(arguments["RoleArn"])
            expiration = datetime.now(UTC) + lifetimes[len(assumed) - 1]
            return {
                "Credentials": {
                    "AccessKeyId": "ASIAROLE",
                    "SecretAccessKey": "x",
                    "SessionToken": "y",
                    "Expiration": expiration,
                }
            }

    def client(self: Any, service: str, **arguments: Any) -> Any:
        return FakeSts() if service == "sts" else real(self, service, **arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(boto3.Session, "client", client)
    clients = Clients("prod")
    role = "arn:aws:iam::999999999999:role/pusher"
    identity = Identity(access_key_id=KEY_ID, secret_access_key=SECRET, role_arn=role)
    for _ in range(3):
        clients.ecr(identity, Endpoint(REGION))
    assert assumed == [role, role]


def test_policies_are_sent_as_json(ecr: Stubber) -> None:
    made = registry(lifecycle_policy={"rules": [{"description": "ünïcode"}]})
    text = made._policy_text("lifecycle_policy")
    assert text is not None
    assert json.loads(text) == {"rules": [{"description": "ünïcode"}]}
