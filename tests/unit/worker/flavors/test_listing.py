"""Listing repositories: what every flavor promises, and how each vendor's API is asked.

Docker Hub, Google and the registries behind ``_catalog`` are scripted fakes here, which answer
as the vendors document it; a real registry and moto are tried elsewhere.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from botocore.stub import Stubber
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.scripted_servers.cloud_tokens import Asked, FakeCloud, Reply
from tests.support.scripted_servers.hostile import HostileServer
from tests.support.scripted_servers.hostile import Reply as Page
from tests.support.servers.ecr import ACCOUNT, KEY_ID, REGION, SECRET
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
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors import BUILT_IN, built_in
from transship_worker.flavors.dockerhub import DockerHubRegistry
from transship_worker.flavors.gcp import GcpRegistry
from transship_worker.flavors.listing import repositories
from transship_worker.oci.client import RegistryClient
from transship_worker.oci.pool import ClientPool

ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
HUB_LIST = "/v2/namespaces/acme/repositories"
GOOGLE_LIST = "/v1/projects/my-acme/locations/europe-west3/repositories/ml/packages"
GOOGLE_URI = "europe-west3-docker.pkg.dev/my-acme/ml"
TOKEN = {"username": "oauth2accesstoken", "password": "hunter22-secret"}


class Listed(BaseContainerRegistry):
    """A custom flavor that lists what it is told, or raises it."""

    FLAVOR: ClassVar[str] = "listed"
    pages: tuple[list[Any], ...] = ()
    error: Any = None
    #: How often a list was closed.
    closed: ClassVar[list[str]] = []

    async def list_repositories(self, client: RegistryClient) -> AsyncIterator[list[str]]:
        try:
            for page in self.pages:
                yield page
            if self.error is not None:
                raise self.error
        finally:
            self.closed.append(self.name)


async def listed(component: BaseContainerRegistry) -> list[list[str]]:
    """All pages of a component's repositories, asked as a worker does."""

    async with ClientPool({}) as pool:
        client = pool.client(component.registry_endpoint)
        return [page async for page in repositories(component, client)]


def make(flavor: str, uri: str, **options: Any) -> BaseContainerRegistry:
    kind = Listed if flavor == "listed" else built_in(flavor)
    return kind.model_validate({"name": "prod", "uri": uri, **options})


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    """A fake of Docker Hub's and Google's APIs."""
    with FakeCloud() as fake:
        monkeypatch.setattr(DockerHubRegistry, "API", fake.url)
        monkeypatch.setattr(GcpRegistry, "API", fake.url)
        monkeypatch.setattr(
            "transship_worker.flavors.gcp._TOKENS", TokenCache(margin=timedelta(minutes=5))
        )
        yield fake


def catalog(server: HostileServer, names: list[str], size: int = 1_000) -> None:
    body = json.dumps({"repositories": names}).encode()
    server.expect("GET", f"/v2/_catalog?n={size}", Page(body=body))


def google(cloud: FakeCloud, *pages: list[str], path: str = GOOGLE_LIST) -> None:
    """Artifact Registry's list, a page after the other."""

    def answer(asked: Asked) -> Reply:
        number = int(asked.fields.get("pageToken", "0/x").partition("/")[0])
        parent = path.removeprefix("/v1/")
        packages = [{"name": f"{parent}/{name}"} for name in pages[number]]
        more = {"nextPageToken": f"{number + 1}/x+&y"} if number + 1 < len(pages) else {}
        return Reply(body={"packages": packages, **more})

    cloud.answers[path] = answer


def hub(cloud: FakeCloud, *pages: list[str]) -> None:
    """Docker Hub's list of a namespace, a page after the other."""

    def answer(asked: Asked) -> Reply:
        number = int(asked.fields.get("page", "1"))
        following = f"{cloud.url}{HUB_LIST}?page={number + 1}&page_size=100"
        results = [{"name": name, "namespace": "acme"} for name in pages[number - 1]]
        more = following if number < len(pages) else None
        return Reply(body={"count": 7, "next": more, "previous": None, "results": results})

    cloud.answers[HUB_LIST] = answer


@dataclass(frozen=True)
class Case:
    """A component with a path, and its registry with these repositories."""

    make: Callable[[pytest.FixtureRequest], BaseContainerRegistry]


def _default(request: pytest.FixtureRequest) -> BaseContainerRegistry:
    server: HostileServer = request.getfixturevalue("server")
    catalog(server, ["ml", "ml/a", "ml/b/c", "mlx/a", "other/ml/a"])
    return make("default", "registry.example.com/ml", endpoint=server.base)


def _azure(request: pytest.FixtureRequest) -> BaseContainerRegistry:
    server: HostileServer = request.getfixturevalue("server")
    catalog(server, ["ml", "ml/a", "ml/b/c", "mlx/a", "other/ml/a"], size=100)
    return make("azure", "myregistry.azurecr.io/ml", endpoint=server.base)


def _hub(request: pytest.FixtureRequest) -> BaseContainerRegistry:
    hub(request.getfixturevalue("cloud"), ["a"], ["b"])
    return make("dockerhub", "docker.io/acme")


def _google(request: pytest.FixtureRequest) -> BaseContainerRegistry:
    google(request.getfixturevalue("cloud"), ["team", "team%2Fa", "x"], ["team%2Fb%2Fc", "teamx"])
    return make("gcp", f"{GOOGLE_URI}/team", **TOKEN)


def _aws(request: pytest.FixtureRequest) -> BaseContainerRegistry:
    stubber: Stubber = request.getfixturevalue("ecr")
    whole = {"registryId": ACCOUNT, "maxResults": 1_000}
    first = [{"repositoryName": name} for name in ("ml", "ml/a", "mlx/a")]
    stubber.add_response(
        "describe_repositories", {"repositories": first, "nextToken": "more"}, whole
    )
    second = [{"repositoryName": name} for name in ("ml/b/c", "other/ml/a")]
    stubber.add_response(
        "describe_repositories", {"repositories": second}, {**whole, "nextToken": "more"}
    )
    return make("aws", f"{ECR}/ml", access_key_id=KEY_ID, secret_access_key=SECRET)


def _custom(request: pytest.FixtureRequest) -> BaseContainerRegistry:
    pages = [["ml", "ml/a", "mlx/a"], ["other/a"], ["ml/b/c"]]
    return make("listed", "registry.example.com/ml", pages=pages)


CASES = {
    "default": Case(_default),
    "azure": Case(_azure),
    "dockerhub": Case(_hub),
    "gcp": Case(_google),
    "aws": Case(_aws),
    "listed": Case(_custom),
}


def test_the_suite_covers_every_built_in_flavor_that_is_a_registry() -> None:
    assert {"default", "azure", "dockerhub", "gcp", "aws"} <= set(BUILT_IN) & set(CASES)


@pytest.mark.parametrize("name", CASES)
async def test_repositories_are_named_as_they_follow_the_uri(
    name: str, request: pytest.FixtureRequest
) -> None:
    pages = await listed(CASES[name].make(request))
    names = [name for page in pages for name in page]
    # On Docker Hub a namespace holds names of one part.
    assert names == (["a", "b"] if name == "dockerhub" else ["a", "b/c"])


async def test_a_component_without_a_path_lists_all_of_its_registry(server: HostileServer) -> None:
    catalog(server, ["a", "ml/b"])
    assert await listed(make("default", "registry.example.com", endpoint=server.base)) == [
        ["a", "ml/b"]
    ]


async def test_a_flavor_that_says_nothing_of_listing_cannot() -> None:
    class Minimal(BaseContainerRegistry):
        FLAVOR: ClassVar[str] = "minimal"

    with pytest.raises(CannotList) as caught:
        await listed(Minimal.model_validate({"name": "a", "uri": "registry.example.com"}))
    assert caught.value.message == (
        "flavor 'minimal' cannot list repositories; write their names out"
    )
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("error", "kind", "right"),
    [
        (KeyError("names"), CannotList, "flavor 'listed' failed over listing repositories: "),
        (ValueError("bad\n hunter22"), CannotList, "repositories: bad ***"),
        (ValueError(), CannotList, "repositories: ValueError"),
        (CloudUnavailable("hunter22", retry_after_s=7), CloudUnavailable, "***"),
        (Denied("no"), Denied, "no"),
    ],
)
async def test_what_a_custom_flavor_raises_is_typed_and_without_its_secrets(
    error: Exception, kind: type[PushError], right: str
) -> None:
    login = {"username": "someone", "password": "hunter22"}
    component = make("listed", "registry.example.com", pages=[["a"]], error=error, **login)
    with pytest.raises(kind) as caught:
        await listed(component)
    assert right in caught.value.message
    assert "hunter22" not in caught.value.message
    assert caught.value.retry_after_s == getattr(error, "retry_after_s", None)


async def listed_with_warnings(component: BaseContainerRegistry) -> tuple[list[str], list[str]]:
    """A component's repositories, and what is said of their list."""
    warnings: list[str] = []
    async with ClientPool({}) as pool:
        client = pool.client(component.registry_endpoint, component.credentials())
        pages = repositories(component, client, warnings.append)
        return [name async for page in pages for name in page], warnings


@pytest.mark.parametrize("name", ["A", "a/../b", "", 7, None])
async def test_a_name_that_cannot_be_asked_for_is_skipped_with_a_warning(name: object) -> None:
    component = make("listed", "registry.example.com", pages=[["a", name], ["b"]])
    names, [warning] = await listed_with_warnings(component)
    assert names == ["a", "b"]
    shown = "null" if name is None else str(name)
    assert warning == f"skipped 1 name that is not a valid repository name: {shown!r}"


async def test_all_skipped_names_of_a_catalog_are_one_warning_without_secrets(
    server: HostileServer,
) -> None:
    entries = ["Hunter22", "a", None, 7, "B/c", "hunter22 UP"]
    body = json.dumps({"repositories": entries}).encode()
    server.expect("GET", "/v2/", Page(200))
    server.expect("GET", "/v2/_catalog?n=1000", Page(body=body))
    login = {"username": "someone", "password": "Hunter22"}
    component = make("default", "registry.example.com", endpoint=server.base, **login)
    names, warnings = await listed_with_warnings(component)
    assert names == ["a"]
    assert warnings == [
        "skipped 5 names that are not valid repository names, for example '***'",
    ]


@pytest.mark.parametrize("login", [True, False])
async def test_an_empty_catalog_is_said(server: HostileServer, login: bool) -> None:
    # ACR answers so to a login whose scope map has no right to list (Azure/acr#751).
    if login:
        server.expect("GET", "/v2/", Page(200))
    catalog(server, [])
    options = {"username": "someone", "password": "hunter22"} if login else {}
    component = make("default", "registry.example.com", endpoint=server.base, **options)
    names, [warning] = await listed_with_warnings(component)
    assert names == []
    assert warning.startswith("registry.example.com lists no repositories ")
    assert ("which may lack the right to list them" in warning) == login


async def test_a_catalog_with_nothing_below_the_uri_is_said(server: HostileServer) -> None:
    catalog(server, ["other/a", "mlx/b"])
    component = make("default", "registry.example.com/ml", endpoint=server.base)
    assert await listed_with_warnings(component) == (
        [],
        ["none of the 2 listed repositories lies under registry.example.com/ml"],
    )


async def test_a_page_of_a_custom_flavor_that_is_no_list_is_refused() -> None:
    class Texts(Listed):
        async def list_repositories(self, client: RegistryClient) -> AsyncIterator[list[str]]:
            yield "abc"  # type: ignore[misc]

    with pytest.raises(CannotList, match="a page is a list of names, not str"):
        await listed(Texts.model_validate({"name": "prod", "uri": "registry.example.com"}))


async def test_a_list_that_is_not_read_to_its_end_is_closed(pool: ClientPool) -> None:
    component = make("listed", "registry.example.com", pages=[["a"], ["b"]])
    Listed.closed.clear()
    pages = repositories(component, pool.client(component.registry_endpoint))
    assert await anext(pages) == ["a"]
    await pages.aclose()  # type: ignore[attr-defined]
    assert Listed.closed == ["prod"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "right"),
    [
        (404, b"404 page not found", CannotList, "registry.example.com does not list its "),
        (405, b'{"errors":[{"code":"UNSUPPORTED"}]}', CannotList, "write their names out ("),
        (403, b'{"errors":[{"code":"DENIED"}]}', Denied, "if this registry lists none, write "),
        (200, b'{"repositories": "a"}', AnswerMalformed, "the answer has no list of repositories"),
    ],
)
async def test_a_registry_without_a_catalogue_says_what_to_do(
    server: HostileServer, status: int, body: bytes, kind: type[PushError], right: str
) -> None:
    server.expect("GET", "/v2/_catalog?n=1000", Page(status, body))
    with pytest.raises(kind) as caught:
        await listed(make("default", "registry.example.com", endpoint=server.base))
    assert right in caught.value.message


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
