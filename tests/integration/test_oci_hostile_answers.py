"""The registry client against answers that no good registry would give."""

from __future__ import annotations

import pytest

from tests.support.images.registry_client import (
    BLOB,
    EMPTY,
    EMPTY_DIGEST,
    GOOD,
    LOGIN,
    MANIFEST,
    TAG,
    asking,
    errors,
    get_1,
)
from tests.support.processes import free_port
from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import (
    AnswerMalformed,
    Denied,
    DigestMismatch,
    ImageNotFound,
    ImmutableTag,
    InvalidReference,
    PushError,
    RateLimited,
    RegistryUnavailable,
    RegistryUnreachable,
    RepositoryMissing,
)
from transship_worker.oci import blobs, manifests
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import OCI_INDEX, OCI_MANIFEST
from transship_worker.oci.errors import refusal_of


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, MANIFEST.raw[:-1], length=len(MANIFEST.raw)), RegistryUnavailable),
        (Reply(200, MANIFEST.raw, length=10), AnswerMalformed),
        (Reply(200, b" " * 65_536, endless=True), AnswerMalformed),
        (Reply(200, b"{}", {"Content-Length": "99999999"}), AnswerMalformed),
        (Reply(200, b"<html>hello</html>", {"Content-Type": "text/html"}), AnswerMalformed),
        (Reply(200, MANIFEST.raw, {"Content-Encoding": "gzip"}), AnswerMalformed),
        (Reply(200, MANIFEST.raw, {"Docker-Content-Digest": EMPTY_DIGEST}), DigestMismatch),
        (Reply(200, MANIFEST.raw, {"Content-Type": OCI_INDEX}), AnswerMalformed),
        (Reply(404, errors("MANIFEST_UNKNOWN")), ImageNotFound),
        (Reply(404, errors("NAME_UNKNOWN")), RepositoryMissing),
        (Reply(404, b"<html><title>nothing here</title>"), ImageNotFound),
        (Reply(401, errors("UNAUTHORIZED")), Denied),
        (Reply(403, errors("DENIED")), Denied),
        (Reply(429, b"", {"Retry-After": "7"}), RateLimited),
        (Reply(503, b"cut off", {"Retry-After": "8"}, length=100), RegistryUnavailable),
        (Reply(500, b"x" * 65_536, endless=True), RegistryUnavailable),
    ],
)
async def test_each_bad_answer_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    server.expect("GET", TAG, reply)
    with pytest.raises(kind) as caught:
        await asking(server, get_1)
    assert type(caught.value) is kind
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1_500
    said = reply.headers.get("Retry-After")
    assert caught.value.retry_after_s == (float(said) if said else None)


async def test_a_registry_that_hangs_up_is_unavailable_after_one_more_try(
    server: HostileServer,
) -> None:
    server.expect("GET", TAG, Reply(hang_up=True), times=2)
    with pytest.raises(RegistryUnavailable, match="broke off"):
        await asking(server, get_1)


async def test_a_registry_that_is_not_there_is_unreachable() -> None:
    port = free_port()
    with pytest.raises(RegistryUnreachable, match=f"neither of .*https://127.0.0.1:{port}"):
        await asking(f"127.0.0.1:{port}", get_1)


async def test_the_registrys_codes_are_kept_as_data(server: HostileServer) -> None:
    body = errors("TAG_INVALID", "The image tag '1' is immutable", detail="no")
    server.expect("PUT", TAG, Reply(400, body), headers={"Content-Type": OCI_MANIFEST})

    async def put(repository: Repository) -> None:
        await manifests.put(repository, "1", MANIFEST)

    with pytest.raises(ImmutableTag) as caught:
        await asking(server, put)
    refused = refusal_of(caught.value)
    assert refused is not None
    assert (refused.status, refused.codes) == (400, ("TAG_INVALID",))


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
async def test_a_write_that_is_not_answered_by_201_and_a_digest_counts_if_the_registry_has_it(
    server: HostileServer, status: int, kept: bool
) -> None:
    server.expect("PUT", TAG, Reply(status, errors("DENIED")))
    # By GET: a HEAD may say yes to everything.
    server.expect("GET", TAG, GOOD if kept else Reply(404, errors("MANIFEST_UNKNOWN")))

    async def put(repository: Repository) -> str:
        return (await manifests.put(repository, "1", MANIFEST)).digest

    if kept:
        assert await asking(server, put) == MANIFEST.digest
    else:
        with pytest.raises(
            AnswerMalformed, match=f"answered its write with {status}.* does not have it"
        ):
            await asking(server, put)


async def test_no_secret_and_no_control_character_of_an_answer_is_shown(
    server: HostileServer,
) -> None:
    said = "no: s3cret-password \x1b[2J Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA== " + "x" * 9_000
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    server.expect("GET", TAG, Reply(401, headers=challenge), headers={"Authorization": None})
    server.expect("GET", TAG, Reply(403, errors("DENIED", said)))
    with pytest.raises(Denied) as caught:
        await asking(server, get_1, login=LOGIN)
    text = f"{caught.value!r} {refusal_of(caught.value)!r}"
    assert "s3cret" not in text
    assert "cHVzaGVy" not in text
    assert "\x1b" not in text
    assert len(text) < 3_000


async def test_a_head_without_a_digest_falls_back_to_reading_the_manifest(
    server: HostileServer,
) -> None:
    server.expect("HEAD", TAG, Reply(200, headers={"Content-Type": OCI_MANIFEST}))
    server.expect("GET", TAG, GOOD)
    found = await asking(server, lambda repository: manifests.head(repository, "1"))
    assert found == manifests.ManifestHead(MANIFEST.digest, OCI_MANIFEST, len(MANIFEST.raw))


async def test_the_pull_limit_is_kept_with_the_client(server: HostileServer) -> None:
    limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "5;w=21600"}
    server.expect("HEAD", TAG, Reply(404, headers=limits))
    server.expect("GET", TAG, Reply(404))

    async def look(repository: Repository) -> int | None:
        assert await manifests.head(repository, "1") is None
        limit = repository.client.rate_limit
        return limit.remaining if limit else None

    assert await asking(server, look) == 5


async def test_a_time_limit_of_the_reader_is_not_blamed_on_the_registry(
    server: HostileServer,
) -> None:
    server.expect("GET", BLOB, Reply(200, EMPTY))

    async def read(repository: Repository) -> None:
        async with blobs.read(repository, EMPTY_DIGEST):
            raise TimeoutError("the reader's own")

    with pytest.raises(TimeoutError, match="the reader's own"):
        await asking(server, read)


@pytest.mark.parametrize("name", ["", "a/../b", "/a", "a/", "A", "a?b", "a#b", "a b", "a" * 300])
async def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InvalidReference, match="is no repository"):
        await asking("registry.example.com", get_1, repository=name)
