"""Whether something is there: a login is used, and HEAD is not the last word.

The registries are scripted: each behaves as the one that is named beside it was reported to.
"""

from __future__ import annotations

import base64
from collections import Counter

import pytest

from tests.support.images.registry_client import (
    BLOB,
    EMPTY_DIGEST,
    GOOD,
    LOGIN,
    MANIFEST,
    TAG,
    UPLOADS,
    asking,
    errors,
)
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from transship.errors import Denied, PushRejected, RegistryUnavailable, UploadLost
from transship_worker.oci import blobs, learned, manifests, referrers, uploads
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import OCI_MANIFEST
from transship_worker.oci.manifests import ManifestHead
from transship_worker.transports.copy.registry import RegistryRepository

BASIC = f"Basic {base64.b64encode(b'pusher:s3cret-password').decode()}"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="x"'}
HEAD = ManifestHead(MANIFEST.digest, OCI_MANIFEST, len(MANIFEST.raw))
HEADERS = {
    "Content-Type": OCI_MANIFEST,
    "Docker-Content-Digest": MANIFEST.digest,
    "Content-Length": str(len(MANIFEST.raw)),
}
#: What a registry or a proxy may answer to a method that it does not want.
REFUSED = [400, 403, 405, 501]


def target(repository: Repository) -> Repository:
    """The same repository to write to."""
    return repository.client.repository(repository.name, writing=True)


def asked(server: HostileServer) -> Counter[str]:
    return Counter(seen.method for seen in server.seen)


# --- logins ------------------------------------------------------------------------------


def hides_from_strangers(server: HostileServer, status: int, challenge: dict[str, str]) -> None:
    """A registry that tells strangers that nothing is there, and asks for logins at ``/v2/``."""

    def answer(seen: Seen) -> Reply:
        known = seen.headers.get("authorization") == BASIC
        if seen.target == "/v2/":
            return Reply(200) if known or not challenge else Reply(401, headers=challenge)
        if not known:
            return Reply(status)
        if "/2" in seen.target:
            return Reply(404)
        if "/blobs/" in seen.target:
            return Reply(200)
        return Reply(200, MANIFEST.raw, HEADERS)

    server.follow("/v2/", answer)


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("challenge", [CHALLENGE, {}])
async def test_a_login_is_used_before_not_found_is_believed(
    server: HostileServer, status: int, challenge: dict[str, str]
) -> None:
    hides_from_strangers(server, status, challenge)

    async def look(repository: Repository) -> list[object]:
        return [
            await manifests.head(repository, "1"),
            (await manifests.get(repository, "1")).digest,
            await manifests.head(target(repository), "2"),
            await blobs.head(repository, EMPTY_DIGEST) is not None,
        ]

    assert await asking(server, look, login=LOGIN) == [HEAD, MANIFEST.digest, None, True]
    # The first one without the login, then /v2/ once, and each with the login from then on.
    assert [seen.target for seen in server.seen[:3]] == [TAG, "/v2/", TAG]
    assert ["authorization" in seen.headers for seen in server.seen] == [False] * 2 + [True] * 4


async def test_without_a_login_not_found_is_one_answer(server: HostileServer) -> None:
    hides_from_strangers(server, 404, CHALLENGE)
    assert await asking(server, lambda r: manifests.head(target(r), "1")) is None
    assert [seen.target for seen in server.seen] == [TAG]


async def test_not_found_is_not_believed_while_the_registry_does_not_say_how_to_log_in(
    server: HostileServer,
) -> None:
    server.expect("HEAD", TAG, Reply(404))
    server.expect("GET", "/v2/", Reply(503))
    with pytest.raises(RegistryUnavailable):
        await asking(server, lambda r: manifests.head(r, "1"), login=LOGIN)


async def test_a_wrong_login_that_was_learned_is_denied_at_once(server: HostileServer) -> None:
    server.expect("POST", UPLOADS, Reply(404), headers={"Authorization": None})
    server.expect("GET", "/v2/", Reply(401, headers=CHALLENGE))
    server.expect("POST", UPLOADS, Reply(401, errors("UNAUTHORIZED"), CHALLENGE))
    with pytest.raises(Denied):
        await asking(server, lambda r: uploads.start(target(r)), login=LOGIN)


async def test_the_scope_of_a_sample_repository_is_not_asked_for(server: HostileServer) -> None:
    # GHCR's challenge at /v2/.
    sample = f'Bearer realm="{server.base}/token",service="s",scope="repository:user/image:pull"'
    server.expect("HEAD", TAG, Reply(404), headers={"Authorization": None})
    server.expect("GET", "/v2/", Reply(401, headers={"WWW-Authenticate": sample}))
    scope = "scope=repository:acme/app:pull"
    server.expect(
        "GET",
        f"/token?service=s&{scope}&client_id=transship&account=pusher",
        Reply(200, b'{"token": "t"}'),
    )
    server.expect("HEAD", TAG, Reply(200, b"", HEADERS), headers={"Authorization": "Bearer t"})
    assert await asking(server, lambda r: manifests.head(r, "1"), login=LOGIN) == HEAD


# --- HEAD at a source --------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, *REFUSED])
async def test_get_decides_where_head_is_refused_and_head_is_not_tried_again(
    server: HostileServer, status: int
) -> None:
    # Nexus answers HEAD of manifests with 404 (andrey-pohilko/registry-cli#14, #43).
    server.follow(TAG, lambda seen: GOOD if seen.method == "GET" else Reply(status))

    async def look(repository: Repository) -> list[object]:
        return [await manifests.head(repository, "1") for _ in range(5)]

    assert await asking(server, look) == [HEAD] * 5
    assert asked(server) == {"HEAD": 1, "GET": 5}


async def test_head_is_tried_again_after_some_time(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "RETRY_S", 0.0)
    server.follow(TAG, lambda seen: GOOD if seen.method == "GET" else Reply(405))

    async def look(repository: Repository) -> list[object]:
        return [await manifests.head(repository, "1") for _ in range(2)]

    assert await asking(server, look) == [HEAD] * 2
    assert asked(server) == {"HEAD": 2, "GET": 2}


async def test_a_manifest_that_arrives_between_head_and_get_does_not_end_head(
    server: HostileServer,
) -> None:
    there = Reply(200, b"", HEADERS)
    for reply in (there, Reply(404), there):
        server.expect("HEAD", TAG, reply)
    server.expect("GET", TAG, GOOD)

    async def look(repository: Repository) -> list[object]:
        return [await manifests.head(repository, "1") for _ in range(3)]

    assert await asking(server, look) == [HEAD] * 3


@pytest.mark.parametrize("status", [404, 405])
async def test_what_is_not_there_is_not_there(server: HostileServer, status: int) -> None:
    server.expect("HEAD", TAG, Reply(status))
    server.expect("GET", TAG, Reply(404, errors("MANIFEST_UNKNOWN")))
    assert await asking(server, lambda r: manifests.head(r, "1")) is None


async def test_a_source_that_refuses_get_too_is_denied(server: HostileServer) -> None:
    server.expect("HEAD", TAG, Reply(403))
    server.expect("GET", TAG, Reply(403, errors("DENIED", "no rights")))
    with pytest.raises(Denied, match="no rights"):
        await asking(server, lambda r: manifests.head(r, "1"))


def signed(server: HostileServer, *, heads: bool) -> str:
    """A registry with one image, and a signature beside it; returns the signature's tag."""
    signature = f"{referrers.fallback_tag(MANIFEST.digest)}.sig"

    def answer(seen: Seen) -> Reply:
        if seen.target.rpartition("/")[2] not in {MANIFEST.digest, signature}:
            return Reply(404)
        if seen.method == "HEAD":
            return Reply(200, b"", HEADERS) if heads else Reply(404)
        return GOOD

    server.follow("/v2/acme/app/manifests/", answer)
    return signature


async def test_a_signature_is_found_where_head_finds_nothing(server: HostileServer) -> None:
    signature = signed(server, heads=False)
    found = await asking(server, lambda r: referrers.cosign_tags(r, MANIFEST.digest))
    assert found == {signature: HEAD}


async def test_where_head_works_an_absent_signature_costs_no_get(server: HostileServer) -> None:
    signature = signed(server, heads=True)

    async def twice(repository: Repository) -> list[object]:
        return [await referrers.cosign_tags(repository, MANIFEST.digest) for _ in range(2)]

    assert await asking(server, twice) == [{signature: HEAD}] * 2
    # Three tags each, and once the image itself to see that HEAD works.
    assert asked(server) == {"HEAD": 7}


# --- HEAD at a target --------------------------------------------------------------------


async def test_what_a_target_does_not_have_yet_costs_one_head(server: HostileServer) -> None:
    server.expect("HEAD", TAG, Reply(404), times=3)

    async def look(repository: Repository) -> list[object]:
        return [await manifests.head(target(repository), "1") for _ in range(3)]

    assert await asking(server, look) == [None] * 3


@pytest.mark.parametrize("status", REFUSED)
async def test_a_target_that_refuses_head_is_asked_by_get(
    server: HostileServer, status: int
) -> None:
    server.follow(TAG, lambda seen: GOOD if seen.method == "GET" else Reply(status))
    assert await asking(server, lambda r: manifests.head(target(r), "1")) == HEAD


async def test_a_target_that_refuses_what_is_not_there_yet_does_not_say(
    server: HostileServer,
) -> None:
    server.follow(TAG, lambda _: Reply(403, errors("DENIED")))

    async def look(repository: Repository) -> list[object]:
        return [await manifests.head(target(repository), "1") for _ in range(3)]

    assert await asking(server, look) == [None] * 3
    # That GET says no more is learned.
    assert asked(server) == {"HEAD": 3, "GET": 1}


@pytest.mark.parametrize("status", [400, 403])
async def test_a_target_whose_tag_must_be_known_is_not_written_to_where_it_refuses(
    server: HostileServer, status: int
) -> None:
    server.follow(TAG, lambda _: Reply(status, errors("DENIED")))

    async def look(repository: Repository) -> list[object]:
        known: list[object] = [await manifests.head(target(repository), "1") for _ in range(2)]
        with pytest.raises((Denied, PushRejected)):
            await manifests.head(target(repository), "1", certain=True)
        return known

    assert await asking(server, look) == [None] * 2


async def test_a_target_whose_tag_must_be_known_is_asked_by_get_where_head_finds_nothing(
    server: HostileServer,
) -> None:
    server.follow(TAG, lambda seen: GOOD if seen.method == "GET" else Reply(404))
    assert await asking(server, lambda r: manifests.head(target(r), "1", certain=True)) == HEAD


@pytest.mark.parametrize(("status", "heads"), [(405, 1), (501, 1), (403, 3), (400, 3)])
async def test_a_blob_whose_head_is_refused_is_not_known(
    server: HostileServer, status: int, heads: int
) -> None:
    server.follow(BLOB, lambda _: Reply(status))

    async def look(repository: Repository) -> list[object]:
        return [await blobs.head(target(repository), EMPTY_DIGEST) for _ in range(3)]

    assert await asking(server, look) == [None] * 3
    assert asked(server) == {"HEAD": heads}


@pytest.mark.parametrize(
    ("headers", "there"),
    [
        ({"Content-Length": "2"}, True),
        ({"Content-Length": "1"}, False),
        ({"Content-Length": "2", "Docker-Content-Digest": MANIFEST.digest}, False),
    ],
    ids=["whole", "a part", "another"],
)
async def test_a_blob_of_another_size_or_digest_is_not_there(
    server: HostileServer, headers: dict[str, str], there: bool
) -> None:
    server.follow(BLOB, lambda _: Reply(200, b"", headers))
    server.follow("/v2/acme/app/blobs/", lambda _: Reply(404))

    async def look(repository: Repository) -> bool:
        return await blobs.head(target(repository), EMPTY_DIGEST, 2) is not None

    assert await asking(server, look) is there


async def test_a_wrong_login_at_a_target_is_denied_by_its_first_look(
    server: HostileServer,
) -> None:
    server.expect("HEAD", TAG, Reply(401, headers=CHALLENGE), times=2)
    with pytest.raises(Denied):
        await asking(server, lambda r: manifests.head(target(r), "1"), login=LOGIN)


@pytest.mark.parametrize("status", [403, 405])
async def test_a_target_without_head_takes_an_upload(server: HostileServer, status: int) -> None:
    location = {"Location": f"{UPLOADS}1"}
    server.follow(BLOB, lambda _: Reply(status))
    server.expect("POST", UPLOADS, Reply(202, headers=location))
    server.expect("PUT", f"{UPLOADS}1?digest={EMPTY_DIGEST}", Reply(201))

    async def write(repository: Repository) -> None:
        where = RegistryRepository(target(repository))
        assert await where.blob_head(EMPTY_DIGEST) is None
        await (await uploads.start(target(repository))).finish(EMPTY_DIGEST, b"{}")

    await asking(server, write)


async def test_an_upload_that_was_sent_is_not_sent_again_for_a_doubt(
    server: HostileServer,
) -> None:
    location = {"Location": f"{UPLOADS}1"}
    server.expect("POST", UPLOADS, Reply(202, headers=location))
    server.expect("PATCH", f"{UPLOADS}1", Reply(404))

    async def write(repository: Repository) -> None:
        async def pieces() -> object:
            yield b"{}"

        await (await uploads.start(target(repository))).patch(pieces)  # type: ignore[arg-type]

    with pytest.raises(UploadLost):
        await asking(server, write, login=LOGIN)
