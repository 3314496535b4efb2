"""Lists of referrers of a scripted registry: in pages, joined, and never taken for empty."""

from __future__ import annotations

import json

import pytest

from tests.support.images.registry_client import MANIFEST, asking, make_manifest
from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import AnswerMalformed, PushError, PushRejected, RegistryUnavailable
from transship_worker.oci import referrers
from transship_worker.oci.descriptors import OCI_INDEX


@pytest.mark.parametrize("body", [b"{}", b'{"errors": []}', b'{"manifests": {}}'])
async def test_an_answer_without_a_list_of_referrers_is_no_empty_list(
    server: HostileServer, body: bytes
) -> None:
    server.expect("GET", f"/v2/acme/app/referrers/{MANIFEST.digest}", Reply(200, body))
    with pytest.raises(AnswerMalformed):
        await asking(server, lambda r: referrers.referrers(r, MANIFEST.digest, tagged=False))


async def test_referrers_come_in_pages_from_the_api(server: HostileServer) -> None:
    place = f"/v2/acme/app/referrers/{MANIFEST.digest}"
    entry = MANIFEST.descriptor.as_json()
    second = make_manifest(annotations={"n": "2"}).descriptor.as_json()
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    link = {"Link": f'<{place}?p=2>; rel="next"'}
    server.expect("GET", place, Reply(200, json.dumps(body).encode(), link))
    body["manifests"] = [entry, second]
    server.expect("GET", f"{place}?p=2", Reply(200, json.dumps(body).encode()))

    found = await asking(server, lambda r: referrers.referrers(r, MANIFEST.digest, tagged=False))

    assert [d.digest for d in found.manifests] == [entry["digest"], second["digest"]]
    assert not found.by_tag


async def test_referrers_of_the_api_and_of_the_fallback_tag_are_joined(
    server: HostileServer,
) -> None:
    """A registry that gained the API, and does not list what was pushed before."""
    old, both, new = (make_manifest(annotations={"n": n}).descriptor for n in "123")
    lists = {
        f"/v2/acme/app/referrers/{MANIFEST.digest}": (both, new),
        f"/v2/acme/app/manifests/{referrers.fallback_tag(MANIFEST.digest)}": (old, both),
    }
    for place, entries in lists.items():
        body = {"schemaVersion": 2, "manifests": [one.as_json() for one in entries]}
        reply = Reply(200, json.dumps(body).encode(), {"Content-Type": OCI_INDEX})
        server.expect("GET", place, reply)

    found = await asking(server, lambda r: referrers.referrers(r, MANIFEST.digest))

    assert [d.digest for d in found.manifests] == [both.digest, new.digest, old.digest]
    assert not found.by_tag


@pytest.mark.parametrize("entries", [None, [MANIFEST.descriptor.as_json()]])
async def test_a_fallback_tag_that_is_known_not_to_exist_costs_no_request(
    server: HostileServer, entries: list[object] | None
) -> None:
    place = f"/v2/acme/app/referrers/{MANIFEST.digest}"
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    server.expect("GET", place, Reply(200, json.dumps(index).encode()) if entries else Reply(404))
    found = await asking(server, lambda r: referrers.referrers(r, MANIFEST.digest, tagged=False))
    assert len(found.manifests) == len(entries or ())
    assert [seen.target for seen in server.seen if seen.target != "/v2/"] == [place]


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        (404, AnswerMalformed, "does not have the next page"),
        (405, PushRejected, "answered 405"),
        (501, RegistryUnavailable, "answered 501"),
    ],
)
async def test_referrers_whose_next_page_is_missing_are_an_error(
    server: HostileServer, status: int, error: type[PushError], match: str
) -> None:
    place = f"/v2/acme/app/referrers/{MANIFEST.digest}"
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    link = {"Link": f'<{place}?p=2>; rel="next"'}
    server.expect("GET", place, Reply(200, json.dumps(body).encode(), link))
    server.expect("GET", f"{place}?p=2", Reply(status))
    with pytest.raises(error, match=match):
        await asking(server, lambda r: referrers.referrers(r, MANIFEST.digest, tagged=False))
