"""How the APIs of Docker Hub, Google and AWS are asked for repositories, and what they refuse.

Docker Hub and Google are scripted fakes here, which answer as they document it.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from botocore.stub import Stubber
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.flavors.listing import (
    ECR,
    GOOGLE_LIST,
    GOOGLE_URI,
    HUB_LIST,
    TOKEN,
    google,
    hub,
    listed,
)
from tests.support.scripted_servers.cloud_tokens import FakeCloud, Reply
from tests.support.servers.ecr import KEY_ID, SECRET
from transship.errors import (
    AnswerMalformed,
    CannotList,
    CloudUnavailable,
    CredentialsMissing,
    Denied,
    PushError,
    RepositoryMissing,
)
from transship_worker import BaseContainerRegistry
from transship_worker.flavors import built_in
from transship_worker.flavors.dockerhub import DockerHubRegistry


def make(flavor: str, uri: str, **options: Any) -> BaseContainerRegistry:
    return built_in(flavor).model_validate({"name": "prod", "uri": uri, **options})


async def test_docker_hubs_list_is_asked_with_a_token_of_its_api(cloud: FakeCloud) -> None:
    hub(cloud, ["a"], ["b"])
    cloud.answers["/v2/auth/token"] = Reply(body={"access_token": "jwt"})
    component = make("dockerhub", "docker.io/acme", username="bot", password="hunter22")
    assert await listed(component) == [["a"], ["b"]]
    login, *lists = cloud.asked
    assert login.method == "POST"
    assert login.headers["Content-Type"] == "application/json"
    assert [(a.fields, a.headers["Authorization"]) for a in lists] == [
        ({"page_size": "100"}, "Bearer jwt"),
        ({"page": "2", "page_size": "100"}, "Bearer jwt"),
    ]


@pytest.mark.parametrize(
    "body", [{"message": "hello"}, {"results": 0}, {"results": [], "next": 2}, {"results": [{}]}]
)
async def test_an_answer_of_docker_hub_without_a_list_is_no_empty_list(
    cloud: FakeCloud, body: dict[str, Any]
) -> None:
    cloud.answers[HUB_LIST] = Reply(body=body)
    with pytest.raises(AnswerMalformed):
        await listed(make("dockerhub", "docker.io/acme", allow=["copy_from"]))


async def test_docker_hubs_public_repositories_need_no_login(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    hub(cloud, ["a"])
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert await listed(make("dockerhub", "docker.io/acme", allow=["copy_from"])) == [["a"]]
    [asked] = cloud.asked
    assert "Authorization" not in asked.headers


def test_only_a_component_that_never_writes_to_docker_hub_can_do_without_a_login() -> None:
    assert make("dockerhub", "docker.io", allow=["copy_from"]).credentials() is None
    for allow in (["copy_from", "copy_to"], ["push"]):
        with pytest.raises(CredentialsMissing, match=r"allow: \[copy_from\] to read"):
            make("dockerhub", "docker.io", allow=allow).credentials()


async def test_all_of_docker_hub_cannot_be_listed(cloud: FakeCloud) -> None:
    with pytest.raises(CannotList, match=r"set uri: docker\.io/acme with your namespace"):
        await listed(make("dockerhub", "docker.io"))
    assert cloud.asked == []


async def test_an_identity_token_is_no_login_of_docker_hubs_api(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    auths = {"https://index.docker.io/v1/": {"identitytoken": "hunter22"}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(CredentialsMissing, match="identity token"):
        await listed(make("dockerhub", "docker.io/acme", credentials="docker-config"))
    assert cloud.asked == []


@pytest.mark.parametrize(
    ("answer", "kind", "right"),
    [
        (Reply(401, {}), Denied, "refused a request without a login for the repositories of acme"),
        (Reply(404, {}), RepositoryMissing, "has nothing to show for the repositories of acme"),
        (Reply(429, {}, {"Retry-After": "7"}), CloudUnavailable, "asks for fewer requests"),
        (Reply(503, b"<html>"), CloudUnavailable, "answered 503"),
        (Reply(302, {}, {"Location": "http://x.example.com"}), AnswerMalformed, "answered 302"),
        (Reply(200, b"<html>"), AnswerMalformed, "did not answer with a JSON object"),
        (Reply(200, b"[]"), AnswerMalformed, "did not answer with a JSON object"),
        (Reply(200, {"results": [7]}), AnswerMalformed, "not a list of things with a name"),
        (Reply(200, {"results": 7}), AnswerMalformed, "not a list of things with a name"),
        (Reply(200, b" " * 9_000_000), AnswerMalformed, "are more than 8388608 bytes"),
        (
            Reply(200, {"results": [], "next": "http://evil.example.com/v2?page=2"}),
            AnswerMalformed,
            "go on at another host, evil.example.com",
        ),
    ],
)
async def test_a_refusal_of_docker_hub_is_typed(
    cloud: FakeCloud, answer: Reply, kind: type[PushError], right: str
) -> None:
    cloud.answers[HUB_LIST] = answer
    with pytest.raises(kind) as caught:
        await listed(make("dockerhub", "docker.io/acme"))
    assert right in caught.value.message
    assert caught.value.retry_after_s == (7 if answer.status == 429 else None)


async def test_docker_hub_tells_the_time_at_which_it_may_be_asked_again(cloud: FakeCloud) -> None:
    until = str(int(time.time()) + 600)
    cloud.answers[HUB_LIST] = Reply(429, {}, {"X-Retry-After": until})
    with pytest.raises(CloudUnavailable) as caught:
        await listed(make("dockerhub", "docker.io/acme"))
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 600


async def test_pages_that_go_in_a_circle_end_the_list(cloud: FakeCloud) -> None:
    first = f"{cloud.url}{HUB_LIST}?page_size=100"
    cloud.answers[HUB_LIST] = Reply(200, {"results": [{"name": "a"}], "next": first})
    with pytest.raises(AnswerMalformed, match="the pages of the repositories of acme have no end"):
        await listed(make("dockerhub", "docker.io/acme"))


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, {"access_token": 7}])
async def test_a_token_answer_of_docker_hub_without_a_token_is_told(
    cloud: FakeCloud, answer: dict[str, Any]
) -> None:
    cloud.answers["/v2/auth/token"] = Reply(body=answer)
    with pytest.raises(AnswerMalformed, match="gave no token"):
        await listed(make("dockerhub", "docker.io/acme", username="bot", password="hunter22"))


async def test_an_api_that_cannot_be_reached_may_be_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FakeCloud() as gone:
        monkeypatch.setattr(DockerHubRegistry, "API", gone.url)
    with pytest.raises(CloudUnavailable, match="Docker Hub did not answer"):
        await listed(make("dockerhub", "docker.io/acme"))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (GOOGLE_URI, GOOGLE_LIST),
        ("us-docker.pkg.dev/my-acme/ml", GOOGLE_LIST.replace("europe-west3", "us")),
        ("gcr.io/my-acme", "/v1/projects/my-acme/locations/us/repositories/gcr.io/packages"),
        (
            "eu.gcr.io/example.com/my-acme",
            "/v1/projects/example.com:my-acme/locations/europe/repositories/eu.gcr.io/packages",
        ),
    ],
)
async def test_artifact_registry_is_asked_for_the_place_that_the_host_means(
    cloud: FakeCloud, uri: str, path: str
) -> None:
    google(cloud, ["a", "b%2Fc"], ["d"], path=path)
    assert await listed(make("gcp", uri, **TOKEN)) == [["a", "b/c"], ["d"]]
    assert [(a.fields, a.headers["Authorization"]) for a in cloud.asked] == [
        ({"pageSize": "1000"}, "Bearer hunter22-secret"),
        ({"pageSize": "1000", "pageToken": "1/x+&y"}, "Bearer hunter22-secret"),
    ]


async def test_a_google_host_of_nobody_in_particular_lists_nothing(cloud: FakeCloud) -> None:
    with pytest.raises(CannotList, match=r"mirror\.gcr\.io cannot list repositories, as gcr\.io"):
        await listed(make("gcp", "mirror.gcr.io/my-acme", **TOKEN))
    assert cloud.asked == []


@pytest.mark.parametrize("user", ["_json_key", "_json_key_base64"])
async def test_a_key_is_exchanged_for_a_token_of_googles_api(cloud: FakeCloud, user: str) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    key = {"type": "service_account", "client_email": "ci@my-acme.example", "private_key": pem}
    text = json.dumps({**key, "token_uri": f"{cloud.url}/token"})
    password = base64.b64encode(text.encode()).decode() if user.endswith("64") else text
    cloud.answers["/token"] = Reply(body={"access_token": "minted", "expires_in": 3600})
    google(cloud, ["a"])
    assert await listed(make("gcp", GOOGLE_URI, username=user, password=password)) == [["a"]]
    assert cloud.asked[-1].headers["Authorization"] == "Bearer minted"


async def test_a_key_that_signs_nothing_is_told_without_its_content() -> None:
    key = {"type": "service_account", "client_email": "a@b.example", "private_key": "hunter22"}
    text = json.dumps({**key, "token_uri": "http://127.0.0.1:1"})
    with pytest.raises(CredentialsMissing, match="not a Google service account key") as caught:
        await listed(make("gcp", GOOGLE_URI, username="_json_key", password=text))
    assert "hunter22" not in caught.value.message


async def test_a_refusal_of_ecr_names_the_action_to_allow(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "AccessDeniedException", "no", 400)
    with pytest.raises(Denied, match="ecr:DescribeRepositories on the repositories of account"):
        await listed(make("aws", f"{ECR}/ml", access_key_id=KEY_ID, secret_access_key=SECRET))
