"""What a hostile registry can make a worker read, wait for and keep has an end."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.images.registry_client import (
    BLOB,
    EMPTY_DIGEST,
    LOGIN,
    MANIFEST,
    TAG,
    UPLOADS,
    asking,
    get_1,
    make_manifest,
)
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from transship.errors import (
    AnswerMalformed,
    DigestMismatch,
    ManifestUnsupported,
    PushError,
    RegistryUnavailable,
)
from transship_worker.oci import blobs, manifests, referrers, tags, uploads
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import (
    MANIFEST_LIMIT,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    parse_manifest,
)
from transship_worker.oci.exchange import Request
from transship_worker.oci.listing import NAMES_LIMIT
from transship_worker.transports.copy.tree import DEPTH_MOST, MANIFESTS_MOST, TreeReader

LIST = "/v2/acme/app/tags/list"
TOKEN = "/token"
#: Much, and far less than what is sent. Unit: bytes.
MOST = 32 * 2**20


@pytest.mark.parametrize("with_length", [True, False])
@pytest.mark.parametrize("over", [0, 1])
async def test_a_manifest_of_4_mib_is_read_and_one_byte_more_is_not(
    server: HostileServer, with_length: bool, over: int
) -> None:
    made = MANIFEST.raw.ljust(MANIFEST_LIMIT + over)
    headers = {"Content-Type": OCI_MANIFEST}
    server.expect("GET", TAG, Reply(200, made, headers, chunked=not with_length))
    if not over:
        assert len((await asking(server, manifest_1)).raw) == MANIFEST_LIMIT
        return
    with pytest.raises(AnswerMalformed, match="more than 4194304 bytes, which are not read"):
        await asking(server, get_1)


async def manifest_1(repository: Repository) -> Manifest:
    return await manifests.get(repository, "1")


# --- memory ------------------------------------------------------------------------------


async def all_tags(repository: Repository) -> int:
    return sum([len(page) async for page in tags.tags(repository)])


async def small_blob(repository: Repository) -> bytes:
    return await blobs.fetch(repository, EMPTY_DIGEST, limit=1_000)


async def upload(repository: Repository) -> object:
    return await uploads.start(repository)


async def listed(repository: Repository) -> object:
    return await referrers.referrers(repository, MANIFEST.digest)


async def listed_by_api(repository: Repository) -> object:
    return await referrers.referrers(repository, MANIFEST.digest, tagged=False)


async def peak_of(work: Callable[[], Awaitable[object]]) -> int:
    """The most memory that Python held at once for this. Unit: bytes."""
    tracemalloc.start()
    try:
        await work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    ("method", "target", "work"),
    [
        ("GET", TAG, get_1),
        ("GET", f"{LIST}?n=1000", all_tags),
        ("GET", BLOB, small_blob),
        ("POST", UPLOADS, upload),
        ("GET", f"/v2/acme/app/referrers/{MANIFEST.digest}", listed),
    ],
)
async def test_an_answer_without_end_is_left_before_it_takes_memory(
    server: HostileServer,
    method: str,
    target: str,
    work: Callable[[Repository], Awaitable[object]],
    status: int,
) -> None:
    endless = Reply(status, b"[" * 65_536, {"Location": "/up"}, endless=True)
    server.expect(method, target, endless)
    if work is listed:
        # There may be a tag besides.
        tag = referrers.fallback_tag(MANIFEST.digest)
        server.follow(f"/v2/acme/app/manifests/{tag}", lambda _: Reply(500, b"[", endless=True))

    async def ask() -> None:
        with pytest.raises(PushError):
            await asking(server, work)

    assert await peak_of(ask) < MOST


async def test_a_token_without_end_is_left_before_it_takes_memory(server: HostileServer) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.base}{TOKEN}"'}
    server.expect("GET", TAG, Reply(401, b"x" * 65_536, challenge, endless=True))
    server.follow(TOKEN, lambda _: Reply(200, b'{"token": "' + b"t" * 65_536, endless=True))

    async def ask() -> None:
        with pytest.raises(AnswerMalformed, match="which are not read"):
            await asking(server, get_1, login=LOGIN)

    assert await peak_of(ask) < MOST


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Long": "x" * 100_000},
        {f"X-{number}": "x" for number in range(5_000)},
        {"WWW-Authenticate": "Bearer " + ",".join(f'a{n}="b"' for n in range(20_000))},
    ],
)
async def test_a_head_without_measure_is_not_read(
    server: HostileServer, headers: dict[str, str]
) -> None:
    server.expect("GET", TAG, Reply(401, b"", headers))
    with pytest.raises(AnswerMalformed):
        await asking(server, get_1, login=LOGIN)


# --- time --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
async def test_bytes_that_drip_do_not_keep_an_exchange_open(
    server: HostileServer, status: int
) -> None:
    server.expect("GET", "/v2/slow", Reply(status, b"{}", drip_s=0.02))

    async def ask(repository: Repository) -> None:
        url = (await repository.client.base()).with_path("/v2/slow")
        await repository.client.ask(Request("GET", url, about="it", total_s=0.5), limit=10**6)

    with pytest.raises(RegistryUnavailable):
        await asking(server, ask)


async def test_pages_without_end_end(server: HostileServer) -> None:
    place = f"/v2/acme/app/referrers/{MANIFEST.digest}"
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()

    def next_page(seen: Seen) -> Reply:
        number = int(seen.target.rpartition("=")[2]) + 1 if "=" in seen.target else 1
        return Reply(200, body, {"Link": f'<{place}?page={number}>; rel="next"'})

    server.follow(place, next_page)
    with pytest.raises(AnswerMalformed, match="has more than 100 pages, which are not read"):
        await asking(server, listed_by_api)
    assert len(server.seen) == referrers.REFERRER_PAGES


async def test_a_list_of_more_referrers_than_are_read_is_left(server: HostileServer) -> None:
    place = f"/v2/acme/app/referrers/{MANIFEST.digest}"
    entry = {"mediaType": OCI_MANIFEST, "size": 2}

    def next_page(seen: Seen) -> Reply:
        number = int(seen.target.rpartition("=")[2]) + 1 if "=" in seen.target else 1
        digests = (f"sha256:{number:032x}{n:032x}" for n in range(500))
        page = {"schemaVersion": 2, "mediaType": OCI_INDEX}
        body = json.dumps(page | {"manifests": [{**entry, "digest": one} for one in digests]})
        return Reply(200, body.encode(), {"Link": f'<{place}?page={number}>; rel="next"'})

    server.follow(place, next_page)
    with pytest.raises(AnswerMalformed, match="has more than 2000 entries"):
        await asking(server, listed_by_api)
    assert len(server.seen) == 5


@pytest.mark.parametrize(
    "more",
    [
        {"annotations": {str(n): "" for n in range(250_000)}},
        {"unknown": [[]] * 250_000},
        {"unknown": [{}] * 130_000},
    ],
)
async def test_a_manifest_of_very_many_values_is_not_read(
    server: HostileServer, more: dict[str, Any]
) -> None:
    raw = json.dumps(json.loads(MANIFEST.raw) | more, separators=(",", ":")).encode()
    assert len(raw) < MANIFEST_LIMIT
    server.expect("GET", TAG, Reply(200, raw, {"Content-Type": OCI_MANIFEST}))
    with pytest.raises(ManifestUnsupported, match="more than 250000 values"):
        await asking(server, get_1)


async def test_an_index_of_more_bytes_than_are_copied_costs_no_request(
    server: HostileServer,
) -> None:
    entry = {"mediaType": OCI_MANIFEST, "size": MANIFEST_LIMIT}
    root = make_index([{**entry, "digest": f"sha256:{n:064x}"} for n in range(9)])
    with pytest.raises(ManifestUnsupported, match="more than 32 MiB of them"):
        await read_tree(server, root, {})
    assert server.seen == []


# --- a million tags ----------------------------------------------------------------------


async def test_a_million_tags_are_read_a_page_at_a_time_and_no_more_than_that(
    server: HostileServer,
) -> None:
    def page(seen: Seen) -> Reply:
        number = int(seen.target.rpartition("last=")[2]) if "last=" in seen.target else 0
        names = '","'.join([f"{number}-{n}" for n in range(10_000)])
        link = {"Link": f'<{LIST}?last={number + 1}>; rel="next"'}
        return Reply(200, f'{{"tags": ["{names}"]}}'.encode(), link)

    server.follow(LIST, page)
    count = 0

    async def read(repository: Repository) -> None:
        nonlocal count
        async for names in tags.tags(repository, page_size=10_000):
            count += len(names)

    async def ask() -> None:
        with pytest.raises(AnswerMalformed, match=f"more than {NAMES_LIMIT} names"):
            await asking(server, read)

    peak = await peak_of(ask)
    assert count == NAMES_LIMIT == 1_000_000
    assert peak < MOST, f"{peak / 2**20:.1f} MiB"


# --- indexes -----------------------------------------------------------------------------


def make_index(entries: list[dict[str, Any]]) -> Manifest:
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return parse_manifest(json.dumps(data).encode(), what="made here")


def index(*children: Manifest, **lies: Any) -> Manifest:
    entries = [{**child.descriptor.as_json(), **lies} for child in children]
    return make_index(entries)


async def read_tree(server: HostileServer, root: Manifest, held: dict[str, Manifest]) -> None:
    """Read a tree from a server that gives whatever it is said to hold."""

    def give(seen: Seen) -> Reply:
        found = held.get(seen.target.rpartition("/")[2])
        if found is None:
            return Reply(404)
        return Reply(200, found.raw, {"Content-Type": found.media_type})

    server.follow("/v2/acme/app/manifests/", give)

    async def read(repository: Repository) -> None:
        async def one(digest: str) -> Manifest:
            return await manifests.get(repository, digest)

        await TreeReader("acme/app:1").tree(root, one)

    await asking(server, read)


async def test_an_index_that_leads_to_itself_is_not_what_its_digest_says(
    server: HostileServer,
) -> None:
    made_up = f"sha256:{7:064x}"
    root = make_index([{"mediaType": OCI_INDEX, "digest": made_up, "size": 200}])
    with pytest.raises(DigestMismatch):
        await read_tree(server, root, {made_up: root})


async def test_indexes_within_indexes_without_end_are_left(server: HostileServer) -> None:
    held, root = {}, make_manifest()
    for _ in range(10 * DEPTH_MOST):
        held[root.digest] = root
        root = index(root)
    with pytest.raises(ManifestUnsupported, match=f"more than {DEPTH_MOST} deep"):
        await read_tree(server, root, held)
    assert len(server.seen) == DEPTH_MOST


async def test_an_index_of_more_manifests_than_are_read_costs_no_request(
    server: HostileServer,
) -> None:
    entry = {"mediaType": OCI_MANIFEST, "size": 2}
    root = make_index([{**entry, "digest": f"sha256:{n:064x}"} for n in range(MANIFESTS_MOST)])
    with pytest.raises(ManifestUnsupported, match=f"more than {MANIFESTS_MOST} manifests"):
        await read_tree(server, root, {})
    assert server.seen == []


@pytest.mark.parametrize("size", [0, 1, len(MANIFEST.raw) + 1, 2**62])
async def test_an_index_that_lies_about_a_size_is_refused(server: HostileServer, size: int) -> None:
    with pytest.raises(AnswerMalformed, match=f"has {size} bytes; it has {len(MANIFEST.raw)}"):
        await read_tree(server, index(MANIFEST, size=size), {MANIFEST.digest: MANIFEST})
