"""A target that says what is not true is caught before a copy succeeds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.fleet.alone_leads import AloneLeads
from tests.support.images.registry_client import (
    EMPTY,
    EMPTY_DIGEST,
    GOOD,
    MANIFEST,
    client,
    make_manifest,
)
from tests.support.images.registry_images import WatchedControl
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from transship.errors import AnswerMalformed, PushError, UploadLost
from transship.model.references import RegistryUri
from transship_worker.fleet.port import Place
from transship_worker.handlers.migration.readers import RegistrySide
from transship_worker.handlers.registries import OpenedRegistry
from transship_worker.oci.client import RegistryClient
from transship_worker.oci.descriptors import OCI_INDEX, OCI_MANIFEST, Manifest
from transship_worker.oci.digests import digest_of
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.referrers import fallback_tag
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask
from transship_worker.transports.copy.registry import RegistryRepository

#: A repository of the target that is said to hold the blob.
OTHER = "acme/other"


class Target:
    """A registry in memory; it checks a manifest's blobs, unless it is told to lie."""

    def __init__(self, server: HostileServer) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.checks = True
        self.lies: Callable[[Seen], Reply | None] = lambda _: None
        server.follow("/v2/", self._answer)

    def _answer(self, seen: Seen) -> Reply:
        kind = "uploads" if "/uploads/" in seen.target else seen.target.split("/")[-2]
        self.asked[f"{seen.method} {kind}"] += 1
        return self.lies(seen) or self._honest(seen)

    def _honest(self, seen: Seen) -> Reply:
        name = seen.target.rpartition("/")[2]
        if seen.target == "/v2/":
            return Reply(200)
        if "/uploads/" in seen.target:
            return self._upload(seen)
        if "/blobs/" in seen.target:
            body = self.blobs.get(name)
            return Reply(404) if body is None else Reply(200, body)
        if seen.method == "PUT":
            return self._put(name, seen.body)
        body = self.manifests.get(name)
        if body is None:
            return Reply(404)
        digest = f"{MANIFEST.digest if body == MANIFEST.raw else name}"
        return Reply(200, body, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest})

    def _upload(self, seen: Seen) -> Reply:
        if seen.method == "POST":
            return Reply(202, headers={"Location": "/v2/acme/app/blobs/uploads/1"})
        self.blobs[EMPTY_DIGEST] = seen.body
        return Reply(201, headers={"Docker-Content-Digest": EMPTY_DIGEST})

    def _put(self, name: str, body: bytes) -> Reply:
        if self.checks and EMPTY_DIGEST not in self.blobs:
            return Reply(400, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}')
        self.manifests[name] = self.manifests[MANIFEST.digest] = body
        return Reply(201, headers={"Docker-Content-Digest": MANIFEST.digest})


@pytest.fixture
def target(other: HostileServer) -> Target:
    return Target(other)


def source(server: HostileServer) -> None:
    """Has one small artifact."""

    def answer(seen: Seen) -> Reply:
        return Reply(200, EMPTY) if "/blobs/" in seen.target else said

    said = Reply(200, GOOD.body, {**GOOD.headers, "Docker-Content-Digest": MANIFEST.digest})
    server.follow("/v2/", answer)


async def copy(server: HostileServer, other: HostileServer, *, mount: bool = False) -> Copied:
    source(server)
    async with ClientPool({}) as pool:
        to = client(pool, other, None).repository("acme/app", writing=True)
        leads = AloneLeads()
        if mount:
            await leads.arrived(Place(other.address, OTHER), "another", [EMPTY_DIGEST])
        return await copy_image(
            CopyTask("1", ("1",)),
            RegistryRepository(client(pool, server, None).repository("acme/app")),
            RegistryRepository(to),
            leads,
            WatchedControl(),
            "a copy",
        )


@pytest.mark.parametrize("checks", [True, False])
async def test_a_head_that_always_says_yes_is_not_believed(
    server: HostileServer, other: HostileServer, target: Target, checks: bool
) -> None:
    target.checks = checks
    size = {"Content-Length": str(len(MANIFEST.raw)), "Docker-Content-Digest": MANIFEST.digest}
    blob = {"Content-Length": "2"}
    target.lies = lambda seen: (
        Reply(200, headers=blob if "/blobs/" in seen.target else size)
        if seen.method == "HEAD"
        else None
    )
    copied = await copy(server, other)
    assert not copied.skipped
    assert target.blobs == {EMPTY_DIGEST: EMPTY}
    assert target.manifests["1"] == MANIFEST.raw


async def test_a_mount_that_is_answered_without_the_blob_is_not_believed(
    server: HostileServer, other: HostileServer, target: Target
) -> None:
    target.checks = False
    target.lies = lambda seen: Reply(201) if "mount=" in seen.target else None
    await copy(server, other, mount=True)
    assert target.blobs == {EMPTY_DIGEST: EMPTY}


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_blob_whose_upload_is_not_answered_as_created_is_no_success(
    server: HostileServer, other: HostileServer, target: Target, status: int
) -> None:
    target.checks = False
    target.lies = lambda seen: (
        Reply(status) if seen.method == "PUT" and "/uploads/" in seen.target else None
    )
    with pytest.raises(PushError):
        await copy(server, other)
    assert target.manifests == {}


@pytest.mark.parametrize("status", [200, 202])
async def test_a_manifest_that_is_accepted_and_not_stored_is_no_success(
    server: HostileServer, other: HostileServer, target: Target, status: int
) -> None:
    """Not even where HEAD says that it is there."""
    size = {"Content-Length": str(len(MANIFEST.raw)), "Docker-Content-Digest": MANIFEST.digest}

    def lies(seen: Seen) -> Reply | None:
        if "/manifests/" not in seen.target:
            return None
        if seen.method == "PUT":
            return Reply(status)
        said_no = target.asked["PUT manifests"] == 0
        return Reply(200, headers=size) if seen.method == "HEAD" and not said_no else None

    target.lies = lies
    with pytest.raises(AnswerMalformed, match=f"answered its write with {status}"):
        await copy(server, other)


async def test_an_honest_target_is_asked_no_more_than_before(
    server: HostileServer, other: HostileServer, target: Target
) -> None:
    await copy(server, other)
    assert target.asked == {
        "HEAD manifests": 2,
        "HEAD blobs": 1,
        "POST uploads": 1,
        "PUT uploads": 1,
        "PUT manifests": 1,
        # Of the first uploads and images alone.
        "GET blobs": 1,
    }


async def test_one_request_more_tells_that_an_honest_target_has_all(
    server: HostileServer, other: HostileServer, target: Target
) -> None:
    target.manifests = {"1": MANIFEST.raw, MANIFEST.digest: MANIFEST.raw}
    target.blobs = {EMPTY_DIGEST: EMPTY}
    assert (await copy(server, other)).skipped
    assert target.asked == {"HEAD manifests": 2, "GET manifests": 1, "GET blobs": 1}


class Dropping(Target):
    """It takes a blob, loses it, and accepts manifests that name it."""

    #: Uploads that are lost.
    loses = 99
    #: How ``HEAD`` of what was lost is answered.
    head = 404

    def _upload(self, seen: Seen) -> Reply:
        reply = super()._upload(seen)
        if seen.method == "PUT" and self.loses:
            self.loses -= 1
            del self.blobs[EMPTY_DIGEST]
        return reply

    def _honest(self, seen: Seen) -> Reply:
        reply = super()._honest(seen)
        lost = "/blobs/" in seen.target and "/uploads/" not in seen.target and reply.status == 404
        was_uploaded = self.asked["PUT uploads"] > 0
        if not (lost and was_uploaded and seen.method == "HEAD"):
            return reply
        return Reply(self.head, headers={"Content-Length": "2"} if self.head == 200 else {})


@pytest.fixture
def dropping(other: HostileServer) -> Dropping:
    target = Dropping(other)
    target.checks = False
    return target


@pytest.mark.parametrize("head", [200, 404])
async def test_a_blob_that_is_lost_after_its_upload_is_no_success_however_often_it_is_tried(
    server: HostileServer, other: HostileServer, dropping: Dropping, head: int
) -> None:
    """Not by the same worker, which remembers it, nor by another, whose first looks are checked."""
    dropping.head = head
    source(server)
    for _ in range(2):
        async with ClientPool({}) as pool:
            for _ in range(3):
                with pytest.raises(UploadLost, match=f"{EMPTY_DIGEST}: the registry answered its"):
                    await copy_by(pool, server, other)
    assert dropping.manifests["1"] == MANIFEST.raw


async def test_a_blob_that_is_lost_once_is_uploaded_again_by_the_next_attempt(
    server: HostileServer, other: HostileServer, dropping: Dropping
) -> None:
    dropping.loses = 1
    source(server)
    async with ClientPool({}) as pool:
        with pytest.raises(UploadLost):
            await copy_by(pool, server, other)
        assert not (await copy_by(pool, server, other)).skipped
    assert dropping.blobs == {EMPTY_DIGEST: EMPTY}


@pytest.mark.parametrize("status", [401, 403, 405])
async def test_a_target_that_this_login_may_not_read_is_not_asked_in_vain(
    server: HostileServer, other: HostileServer, target: Target, status: int
) -> None:
    target.lies = lambda seen: Reply(status) if seen.method == "GET" else None
    assert not (await copy(server, other)).skipped
    assert (await copy(server, other)).skipped


async def test_a_blob_of_another_size_is_no_success(
    server: HostileServer, other: HostileServer, target: Target
) -> None:
    target.lies = lambda seen: (
        Reply(200, EMPTY + b"x") if seen.method == "GET" and "/blobs/" in seen.target else None
    )
    with pytest.raises(UploadLost):
        await copy(server, other)


@pytest.mark.parametrize("what", ["a manifest", "a blob"])
async def test_an_image_that_is_there_by_head_alone_is_copied(
    server: HostileServer, other: HostileServer, target: Target, what: str
) -> None:
    target.manifests = {"1": MANIFEST.raw, MANIFEST.digest: MANIFEST.raw}

    def lies(seen: Seen) -> Reply | None:
        written = target.asked["PUT manifests"] > 0
        hidden = what == "a manifest" and "/manifests/" in seen.target and not written
        return Reply(404) if hidden and seen.method == "GET" else None

    target.lies = lies
    assert not (await copy(server, other)).skipped
    assert target.blobs == {EMPTY_DIGEST: EMPTY}


@pytest.mark.parametrize("reference", ["1", MANIFEST.digest])
async def test_a_plan_believes_no_head_that_get_refutes(
    other: HostileServer, target: Target, reference: str
) -> None:
    size = {"Content-Length": str(len(MANIFEST.raw)), "Docker-Content-Digest": MANIFEST.digest}
    target.lies = lambda seen: (
        Reply(200, headers=size)
        if seen.method == "HEAD" and seen.target.endswith(reference)
        else None
    )
    async with ClientPool({}) as pool:
        way: Any = Ways(client(pool, other, None))
        opened = OpenedRegistry("prod", RegistryUri.parse(other.address), way.only.endpoint)
        assert await RegistrySide(opened, way, writing=True).head("acme/app", reference) is None


@dataclass(frozen=True)
class Ways:
    """Stands for the worker's clients: there is one."""

    only: RegistryClient

    def client(self, *_: Any) -> RegistryClient:
        return self.only


async def copy_by(pool: ClientPool, server: HostileServer, other: HostileServer) -> Copied:
    return await copy_image(
        CopyTask("1", ("1",)),
        RegistryRepository(client(pool, server, None).repository("acme/app")),
        RegistryRepository(client(pool, other, None).repository("acme/app", writing=True)),
        AloneLeads(),
        WatchedControl(),
        "a copy",
    )


# --- referrers ---------------------------------------------------------------------------


def sources_with(server: HostileServer, subject: str) -> Manifest:
    """A source whose image has one referrer, which says to refer to ``subject``."""
    descriptor = {"mediaType": OCI_MANIFEST, "digest": subject, "size": len(MANIFEST.raw)}
    referrer = make_manifest(subject=descriptor)
    page = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    listed = {**page, "manifests": [referrer.descriptor.as_json()]}

    def answer(seen: Seen) -> Reply:
        name = seen.target.rpartition("/")[2]
        if "/referrers/" in seen.target:
            return Reply(200, json.dumps(listed if name == MANIFEST.digest else page).encode())
        if "/blobs/" in seen.target:
            return Reply(200, EMPTY)
        found = {"1": MANIFEST, MANIFEST.digest: MANIFEST, referrer.digest: referrer}.get(name)
        if found is None:
            return Reply(404)
        kind = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": found.digest}
        return Reply(200, found.raw, kind)

    server.follow("/v2/", answer)
    return referrer


class ReferringTarget(Target):
    """One that keeps what it is given under its digest, and may forget to list it."""

    lists = True

    def _honest(self, seen: Seen) -> Reply:
        name = seen.target.rpartition("/")[2]
        if "/referrers/" in seen.target:
            entries = [
                make_descriptor(one)
                for one in self.manifests.values()
                if self.lists and b'"subject"' in one and name.encode() in one
            ]
            page = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
            return Reply(200, json.dumps(page).encode())
        if "/manifests/" in seen.target and seen.method == "PUT":
            digest = digest_of(seen.body)
            self.manifests[name] = self.manifests[digest] = seen.body
            subject = {"OCI-Subject": MANIFEST.digest} if b'"subject"' in seen.body else {}
            return Reply(201, headers={"Docker-Content-Digest": digest, **subject})
        body = self.manifests.get(name)
        if "/manifests/" in seen.target and body is not None:
            kind = OCI_INDEX if b'"manifests"' in body else OCI_MANIFEST
            digest = digest_of(body)
            return Reply(200, body, {"Content-Type": kind, "Docker-Content-Digest": digest})
        return super()._honest(seen)


def make_descriptor(body: bytes) -> dict[str, Any]:
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(body), "size": len(body)}


async def copy_with_referrers(server: HostileServer, other: HostileServer) -> WatchedControl:
    control = WatchedControl()
    async with ClientPool({}) as pool:
        await copy_image(
            CopyTask("1", ("1",), referrers=True),
            RegistryRepository(client(pool, server, None).repository("acme/app")),
            RegistryRepository(client(pool, other, None).repository("acme/app", writing=True)),
            AloneLeads(),
            control,
            "a copy",
        )
    return control


@pytest.mark.parametrize("lists", [True, False])
async def test_a_target_that_does_not_list_what_it_said_to_list_gets_a_list_by_tag(
    server: HostileServer, other: HostileServer, lists: bool
) -> None:
    target = ReferringTarget(other)
    target.lists = lists
    referrer = sources_with(server, MANIFEST.digest)
    await copy_with_referrers(server, other)
    assert referrer.digest in target.manifests
    by_tag = target.manifests.get(fallback_tag(MANIFEST.digest), b"")
    assert (referrer.digest.encode() in by_tag) is not lists


async def test_what_refers_to_another_manifest_is_left_out(
    server: HostileServer, other: HostileServer
) -> None:
    target = ReferringTarget(other)
    referrer = sources_with(server, f"sha256:{5:064x}")
    control = await copy_with_referrers(server, other)
    assert referrer.digest not in target.manifests
    assert any("which is not copied; it was left out" in one for one in control.warnings)
