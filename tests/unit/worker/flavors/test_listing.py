"""Listing repositories: what every flavor promises, and how each vendor's API is asked.

Docker Hub, Google and the registries behind ``_catalog`` are scripted fakes here, which answer
as the vendors document it; a real registry and moto are tried elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from botocore.stub import Stubber

from tests.support.flavors.listing import ECR, GOOGLE_URI, TOKEN, google, hub, listed
from tests.support.scripted_servers.hostile import HostileServer
from tests.support.scripted_servers.hostile import Reply as Page
from tests.support.servers.ecr import ACCOUNT, KEY_ID, SECRET
from transship.errors import (
    AnswerMalformed,
    CannotList,
    CloudUnavailable,
    Denied,
    PushError,
)
from transship_worker import BaseContainerRegistry
from transship_worker.flavors import BUILT_IN, built_in
from transship_worker.flavors.listing import repositories
from transship_worker.oci.client import RegistryClient
from transship_worker.oci.pool import ClientPool


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


def make(flavor: str, uri: str, **options: Any) -> BaseContainerRegistry:
    kind = Listed if flavor == "listed" else built_in(flavor)
    return kind.model_validate({"name": "prod", "uri": uri, **options})


def catalog(server: HostileServer, names: list[str], size: int = 1_000) -> None:
    body = json.dumps({"repositories": names}).encode()
    server.expect("GET", f"/v2/_catalog?n={size}", Page(body=body))


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
