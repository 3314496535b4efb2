"""Lists that a registry gives in pages: bounded, checked, and never in a circle."""

from __future__ import annotations

import json

import pytest

from tests.support.images.registry_client import MANIFEST, asking, make_manifest
from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import AnswerMalformed
from transship_worker.oci import referrers, tags
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import OCI_INDEX


async def all_tags(repository: Repository) -> list[str]:
    return [tag async for page in tags.tags(repository, page_size=2) for tag in page]


def page(*names: object, link: str | None = None) -> Reply:
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return Reply(200, json.dumps({"name": "acme/app", "tags": list(names)}).encode(), headers)


LIST = "/v2/acme/app/tags/list"


async def test_pages_are_followed_whether_their_links_are_relative_or_not(
    server: HostileServer,
) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", "b", link=f"{LIST}?n=2&last=b"))
    server.expect("GET", f"{LIST}?n=2&last=b", page("c", link=f"{server.base}{LIST}?last=c%2F"))
    server.expect("GET", f"{LIST}?last=c%2F", Reply(200, b'{"tags": null}'))
    assert await asking(server, all_tags) == ["a", "b", "c"]


async def test_pages_that_go_in_a_circle_end(server: HostileServer) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", link=f"{LIST}?last=a"))
    server.expect("GET", f"{LIST}?last=a", page("b", link=f"{LIST}?n=2"))
    with pytest.raises(AnswerMalformed, match="circle"):
        await asking(server, all_tags)


async def test_a_next_page_at_another_host_is_not_asked_for(
    server: HostileServer, other: HostileServer
) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", link=f"{other.base}{LIST}?last=a"))
    with pytest.raises(AnswerMalformed, match="another host"):
        await asking(server, all_tags)


@pytest.mark.parametrize("names", [("../../x",), (1,), ("a b",)])
async def test_names_that_are_no_tags_are_refused(
    server: HostileServer, names: tuple[object, ...]
) -> None:
    server.expect("GET", f"{LIST}?n=2", page(*names))
    with pytest.raises(AnswerMalformed, match="cannot be asked for"):
        await asking(server, all_tags)


async def test_referrers_come_in_pages_from_the_api(server: HostileServer) -> None:
    place = f"/v2/acme/app/referrers/{MANIFEST.digest}"
    entry = MANIFEST.descriptor.as_json()
    second = make_manifest(annotations={"n": "2"}).descriptor.as_json()
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    link = {"Link": f'<{place}?p=2>; rel="next"'}
    server.expect("GET", place, Reply(200, json.dumps(body).encode(), link))
    body["manifests"] = [entry, second]
    server.expect("GET", f"{place}?p=2", Reply(200, json.dumps(body).encode()))

    found = await asking(server, lambda r: referrers.referrers(r, MANIFEST.digest))

    assert [d.digest for d in found.manifests] == [entry["digest"], second["digest"]]
    assert not found.by_tag
