"""What a component says for copies: another address, token servers, uses and limits."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from transship.errors import InvalidReference, NotAllowed, PushError
from transship.model.references import ImageReference
from transship_config.errors import InvalidSettings
from transship_worker.credentials.access import Access, Credentials
from transship_worker.flavors import BUILT_IN, built_in
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.flavors.options import Use
from transship_worker.fleet.limits import Limits
from transship_worker.oci.endpoint import Endpoint

DIGEST = f"sha256:{'d' * 64}"
#: Base URLs, and what is none.
ENDPOINTS = {
    "http://registry:5000": True,
    "https://registry.example.com": True,
    "https://registry.example.com/": True,
    "http://[::1]:5000": True,
    "http://127.0.0.1:5000": True,
    "https://registry.example.com/repository/x": True,
    "https://registry.example.com/repository/x/": True,
    "http://registry/v2/x": True,
    "http://registry/x/v2": False,
    "http://registry/x/v2/": False,
    "http://registry//x": False,
    "http://registry/a b": False,
    "registry:5000": False,
    "ftp://registry": False,
    "http://": False,
    "http://registry/v2": False,
    "http://registry/v2/": False,
    "http://user:hunter22@registry": False,
    "http://user@registry": False,
    "http://registry?a=b": False,
    "http://registry/#a": False,
    "http://registry:0x50": False,
    "http://registry:99999": False,
    "http://[::1": False,
    "": False,
}


def registry(**options: Any) -> DefaultRegistry:
    values = {"name": "prod", "uri": "registry.example.com/ml", **options}
    return DefaultRegistry.model_validate(values)


def mistake(**options: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        registry(**options)
    [error] = caught.value.errors()
    return str(error["msg"]).removeprefix("Value error, ")


class Recorder:
    """A transport that pushes nothing and counts how often it was asked."""

    def __init__(self) -> None:
        self.pushes = 0

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        self.pushes += 1
        return DIGEST


@pytest.mark.parametrize("url", ENDPOINTS)
def test_an_endpoint_is_judged_as_the_client_judges_it(url: str) -> None:
    good = ENDPOINTS[url]
    if good:
        assert registry(endpoint=url).registry_endpoint.bases
        return
    assert mistake(endpoint=url) == (
        "endpoint is not a base URL; write for example endpoint: http://registry:5000"
    )
    with pytest.raises(InvalidSettings):
        Endpoint("registry.example.com", endpoint=url)


@pytest.mark.parametrize("value", [7, ["http://registry"], {"env": "X"}, None])
def test_an_endpoint_is_a_text(value: object) -> None:
    if value is None:
        assert registry(endpoint=value).endpoint is None
    else:
        assert "endpoint is not a base URL" in mistake(endpoint=value)


def test_the_client_gets_all_that_it_needs() -> None:
    found = registry(
        uri="registry.example.com:8443/ml",
        endpoint="http://registry:5000/",
        insecure=True,
        auth_realms=["Auth.example.com", "tokens.example.com:8443", "[::1]:5001"],
    ).registry_endpoint
    assert found == Endpoint(
        "registry.example.com:8443",
        Access(insecure=True),
        "http://registry:5000",
        frozenset({"auth.example.com", "tokens.example.com:8443", "::1:5001"}),
    )


@pytest.mark.parametrize(
    "value",
    [
        "auth.example.com",
        ["https://auth.example.com/token"],
        ["auth.example.com/token"],
        ["auth.example.com:"],
        ["auth.example.com:0"],
        ["auth.example.com:70000"],
        ["user:hunter22@auth.example.com"],
        [""],
        [7],
        {"a": "b"},
    ],
)
def test_a_token_server_is_a_host(value: object) -> None:
    found = mistake(auth_realms=value)
    assert "write for example auth_realms: [auth.example.com]" in found
    assert "hunter22" not in found


def test_networks_are_read_from_a_list() -> None:
    made = DefaultRegistry.model_validate(
        {"name": "a", "uri": "r.example.com", "allowed_networks": ["10.0.0.0/8", "fd00::1"]}
    )
    expected = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::1/128"))
    assert made.registry_endpoint.allowed_networks == expected
    assert made.model_dump(mode="json")["allowed_networks"] == ["10.0.0.0/8", "fd00::1/128"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("10.0.0.0/8", "must be a list of at most 64 networks"),
        (["10.0.0.0/8"] * 65, "must be a list of at most 64 networks"),
        (["10.0.0.1/8"], "'10.0.0.1/8' is not a network of IPv4 or IPv6; write 10.0.0.0/8"),
        (["cdn.example.com"], "is not a network of IPv4 or IPv6; write for example"),
        ([167772160], "is not a network of IPv4 or IPv6; write for example"),
        ([None], "is not a network of IPv4 or IPv6; write for example"),
    ],
)
def test_a_network_is_an_address_with_the_bits_that_count(value: object, message: str) -> None:
    assert message in mistake(allowed_networks=value)


# A folder has no server and none of its options.
@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"layout"}))
def test_a_push_path_loads_no_client(name: str) -> None:
    uri = built_in(name).URI_EXAMPLE
    script = (
        "import sys\n"
        "from transship_worker.flavors import built_in\n"
        f"made = built_in({name!r}).model_validate({{'name': 'a', 'uri': {uri!r},"
        " 'endpoint': 'http://x:1', 'auth_realms': ['a.b'], 'limits': {'transfers': 2}})\n"
        "print(sorted({'aiohttp', 'yarl'} & set(sys.modules)))\n"
        "print(made.registry_endpoint.registry, 'yarl' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    host = uri.partition("/")[0]
    assert (done.stdout, done.stderr) == (f"[]\n{host} True\n", "")


def test_a_component_is_for_everything_unless_it_says_so() -> None:
    for use in Use:
        registry().check_allows(use)
    only = registry(allow=["copy_from", "copy_to"])
    only.check_allows(Use.COPY_FROM)
    only.check_allows(Use.COPY_TO)
    with pytest.raises(NotAllowed) as caught:
        only.check_allows(Use.PUSH)
    assert isinstance(caught.value, PushError)
    assert caught.value.code == "not_allowed"
    assert caught.value.message == (
        "component 'prod' is not for push: it says allow: [copy_from, copy_to]; add push there in "
        "the worker's catalogue, or name another component"
    )


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("push", "allow must be a list of some of push, copy_from, copy_to"),
        ([], "leave it out to allow all"),
        ({"push": True}, "allow must be a list"),
        (["copy"], "allow: unknown use 'copy'; did you mean 'copy_to'? known: push, copy_from"),
        (["push", 7], "allow: unknown use 7; known: push, copy_from, copy_to"),
        ([["push"]], "allow: unknown use ['push']"),
    ],
)
def test_a_use_that_there_is_not_is_told_with_those_that_are(value: object, right: str) -> None:
    assert right in mistake(allow=value)


def test_a_push_to_a_component_without_push_prepares_nothing() -> None:
    prepared: list[str] = []

    class Watched(DefaultRegistry):
        def prepare_image_push(self, image_name: str) -> None:
            prepared.append(image_name)

    values = {"name": "prod", "uri": "registry.example.com/ml", "allow": ["copy_to"]}
    component, transport = Watched.model_validate(values), Recorder()
    with pytest.raises(NotAllowed):
        component.push_image("registry.example.com/ml/train:1", transport=transport)
    assert (prepared, transport.pushes) == ([], 0)
    component.prepared("registry.example.com/ml/train:1", use=Use.COPY_TO)
    assert prepared == ["registry.example.com/ml/train:1"]
    with pytest.raises(NotAllowed):
        component.prepared("registry.example.com/ml/train:1", use=Use.COPY_FROM)


@pytest.mark.parametrize(
    ("name", "options", "image"),
    [
        ("default", {}, "registry.example.com/ml/train"),
        ("dockerhub", {"uri": "docker.io/acme"}, "docker.io/acme/train"),
        ("gcp", {"uri": "gcr.io/my-acme"}, "gcr.io/my-acme/train"),
    ],
)
def test_a_copy_without_a_tag_is_prepared_by_its_digest(
    name: str, options: dict[str, Any], image: str
) -> None:
    values = {"name": "prod", "uri": "registry.example.com/ml", **options}
    component = built_in(name).model_validate(values)
    pinned = f"{image}@{DIGEST}"
    assert str(component.prepared(pinned, use=Use.COPY_TO)) == pinned
    with pytest.raises(InvalidReference, match="a push needs a tag"):
        component.prepared(pinned)


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ({}, Limits()),
        ({"requests_per_second": 0.5}, Limits(requests_per_second=0.5)),
        ({"requests_per_second": "50"}, Limits(requests_per_second=50)),
        ({"transfers": 4}, Limits(transfers=4)),
        ({"transfers": "4"}, Limits(transfers=4)),
        ({"bytes_per_second": 1}, Limits(bytes_per_second=1)),
        ({"bytes_per_second": "50MB"}, Limits(bytes_per_second=50_000_000)),
        ({"bytes_per_second": "20MiB"}, Limits(bytes_per_second=20_971_520)),
        ({"bytes_per_second": "1.5 GiB"}, Limits(bytes_per_second=1_610_612_736)),
        ({"bytes_per_second": "200kB", "transfers": 1}, Limits(None, 1, 200_000)),
    ],
)
def test_limits_are_read_as_people_write_them(value: dict[str, Any], right: Limits) -> None:
    made = registry(limits=value)
    assert made.limits == right
    again = registry(limits=json.loads(made.model_dump_json())["limits"])
    assert again.limits == right


@pytest.mark.parametrize(
    ("value", "right"), [(1, 1), ("900kB", 900_000), ("1MB", 1_000_000), ("20 MiB", 20_971_520)]
)
def test_max_body_is_a_size_and_the_client_gets_it(value: object, right: int) -> None:
    made = registry(max_body=value)
    assert (made.max_body, made.registry_endpoint.max_body) == (right, right)
    assert registry(max_body=json.loads(made.model_dump_json())["max_body"]).max_body == right
    assert registry().registry_endpoint.max_body is None


@pytest.mark.parametrize("value", [0, -1, True, "1mb", "many", "0.5", [1], {"bytes": 1}])
def test_what_is_no_size_is_told_with_what_would_be(value: object) -> None:
    assert mistake(max_body=value) == (
        "max_body must be a positive number of bytes, or one with a unit, such as 50MB or 20MiB"
    )


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("aws", "max_body is not for aws: ECR drops the bytes of every chunk after the first"),
        ("gcp", "max_body is not for gcp: Artifact Registry does not support chunked uploads"),
        ("azure", None),
        ("dockerhub", None),
    ],
)
def test_max_body_is_refused_where_chunks_cannot_be_used(name: str, right: str | None) -> None:
    values = {"name": "a", "uri": built_in(name).URI_EXAMPLE, "max_body": "1MB"}
    if right is None:
        assert built_in(name).model_validate(values).max_body == 1_000_000
        return
    with pytest.raises(ValidationError) as caught:
        built_in(name).model_validate(values)
    assert right in str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (7, "limits must be a mapping, for example limits: {transfers: 4}"),
        ({"transfer": 7}, "limits: unknown 'transfer'; did you mean 'transfers'? known: requests"),
        ({7: 7}, "limits: unknown 7; known: requests_per_second, transfers, bytes_per_second"),
        *(
            ({"requests_per_second": value}, "must be a positive number, such as 50 or 0.5")
            for value in (0, -1, True, "fast", float("nan"), float("inf"), None, [1])
        ),
        *(
            ({"transfers": value}, "transfers must be a positive whole number, such as 4")
            for value in (0, -1, 1.5, True, "many", float("inf"), None)
        ),
        *(
            ({"bytes_per_second": value}, "such as 50MB or 20MiB")
            for value in (0, -5, True, "50Mb", "MB", "50 MB/s", "0.1", "1e9", None, [1])
        ),
    ],
)
def test_what_is_no_limit_is_told_with_what_would_be(value: object, right: str) -> None:
    assert right in mistake(limits=value)


def test_a_components_own_limits_come_before_its_vendors() -> None:
    class Vendors(DefaultRegistry):
        QUOTAS = Limits(requests_per_second=100, transfers=8)

    own = {"requests_per_second": 500, "bytes_per_second": "1MB"}
    made = Vendors.model_validate({"name": "a", "uri": "r.example.com", "limits": own})
    assert made.quotas == Limits(500, 8, 1_000_000)
    assert registry().quotas == Limits()


@pytest.mark.parametrize(
    ("name", "uri", "right"),
    [
        ("default", "registry.example.com", (True, False, 1_000, None)),
        ("default", "ghcr.io/acme", (False, False, 1_000, None)),
        ("dockerhub", "docker.io/acme", (True, False, 1_000, None)),
        ("azure", "myregistry.azurecr.io", (False, False, 100, None)),
        ("gcp", "gcr.io/my-acme", (False, False, 1_000, 300)),
        (
            "aws",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            (False, True, 1_000, 100),
        ),
    ],
)
def test_a_flavor_knows_what_its_registry_permits(
    name: str, uri: str, right: tuple[bool, bool, int, float | None]
) -> None:
    made = built_in(name).model_validate({"name": "a", "uri": uri})
    found = (made.chunked, made.MOUNTS_NEED_MANIFEST, made.PAGE_SIZE)
    assert (*found, made.quotas.requests_per_second) == right
