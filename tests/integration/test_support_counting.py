"""The server before a registry counts, passes on, and does what it is told to."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest
import requests

from tests.matrix.registries import shapes
from tests.matrix.registries.shapes import attested_index
from tests.matrix.registries.wire import Wire
from tests.support.processes import eventually
from tests.support.proxies.counting import FrontRules, Fronts
from tests.support.strict_registry.registry import StrictRegistry


@pytest.fixture(scope="module")
def strict() -> Iterator[StrictRegistry]:
    with StrictRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def fronts() -> Iterator[Fronts]:
    with Fronts() as made:
        yield made


def test_an_image_passes_through_in_both_directions(strict: StrictRegistry, fronts: Fronts) -> None:
    front = fronts.make(strict.address, FrontRules())
    wire, shape = Wire(f"http://{front.address}"), attested_index("front")
    shape.put(wire, "front/through")
    shape.check(wire, "front/through")
    assert front.count("POST", kind="uploads") == len(shape.blobs)
    with front.counting() as asked:
        assert wire.tags("front/through") == ["v1"]
        # A request is counted when its answer is sent, which the client may have read before.
        eventually(lambda: bool(asked), what="a counted request")
    assert [(one.method, one.kind, one.status) for one in asked] == [("GET", "tags", 200)]


def test_a_client_may_send_a_header_more_than_once(strict: StrictRegistry, fronts: Fronts) -> None:
    shape = attested_index("accept")
    shape.hold(strict, "front/accept")
    front = fronts.make(strict.address, FrontRules())
    connection = http.client.HTTPConnection(front.address, timeout=10)
    connection.putrequest("HEAD", "/v2/front/accept/manifests/v1")
    connection.putheader("Accept", shapes.OCI_INDEX)
    connection.putheader("Accept", shapes.OCI_MANIFEST)
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()


def test_a_head_a_large_body_and_a_client_without_a_login_are_refused(
    strict: StrictRegistry, fronts: Fronts
) -> None:
    rules = FrontRules(head={"blobs": 405}, max_body=10, hidden=True, throttle_first=1)
    front = fronts.make(strict.address, rules)
    base = f"http://{front.address}/v2"
    assert requests.get(f"{base}/", timeout=10).headers["Retry-After"] == "1"
    login = {"Authorization": "Basic eDp5"}
    assert requests.head(f"{base}/a/blobs/x", timeout=10, headers=login).status_code == 405
    url = f"{base}/a/blobs/uploads/"
    assert requests.post(url, data=b"0" * 11, timeout=10).status_code == 413
    assert requests.get(f"{base}/a/tags/list", timeout=10).status_code == 404
    assert front.throttled == 1


def test_lists_lose_their_link_and_gain_names(strict: StrictRegistry, fronts: Fronts) -> None:
    shape = attested_index("lists")
    shape.tags = dict.fromkeys(("v1", "v2", "v3"), shape.tags["v1"])
    shape.hold(strict, "front/lists")
    front = fronts.make(strict.address, FrontRules(links=False, more_tags=(".no",)))
    answer = requests.get(f"http://{front.address}/v2/front/lists/tags/list?n=2", timeout=10)
    assert answer.json()["tags"] == ["v1", "v2", ".no"]
    assert "Link" not in answer.headers
