"""The registry client against a server that answers what no good registry would."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from longshore_config.errors import (
    AnswerMalformed,
    BlobMissing,
    Denied,
    DigestMismatch,
    ImageNotFound,
    ImmutableTag,
    InvalidReference,
    PushError,
    RateLimited,
    RegistryUnavailable,
    RegistryUnreachable,
    RegistryUntrusted,
    RepositoryMissing,
    UploadLost,
)
from longshore_worker.oci import blobs, manifests, referrers, tags
from longshore_worker.oci.client import Repository
from longshore_worker.oci.descriptors import OCI_INDEX, OCI_MANIFEST
from longshore_worker.oci.endpoint import Endpoint
from longshore_worker.oci.errors import refusal_of
from longshore_worker.oci.pool import ClientPool
from longshore_worker.transports.port import Credentials
from tests.support.hostile import HostileServer, Reply
from tests.support.oci import EMPTY, EMPTY_DIGEST, asking, make_manifest, stream
from tests.support.processes import free_port

LOGIN = Credentials("pusher", SecretStr("s3cret-password"))
MANIFEST = make_manifest()
GOOD = Reply(200, MANIFEST.raw, {"Content-Type": OCI_MANIFEST})
TAG = "/v2/acme/app/manifests/1"
BLOB = f"/v2/acme/app/blobs/{EMPTY_DIGEST}"
UPLOADS = "/v2/acme/app/blobs/uploads/"


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as made:
        yield made


@pytest.fixture
def other() -> Iterator[HostileServer]:
    with HostileServer() as made:
        yield made


def errors(code: str, message: str = "", **detail: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, **detail}]}).encode()


async def get_1(repository: Repository) -> object:
    return await manifests.get(repository, "1")


async def read_all(repository: Repository) -> bytes:
    async with blobs.read(repository, EMPTY_DIGEST) as found:
        return b"".join([piece async for piece in found.pieces()])


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
def test_each_bad_answer_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    server.expect("GET", TAG, reply)
    with pytest.raises(kind) as caught:
        asking(server, get_1)
    assert type(caught.value) is kind
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1_500
    said = reply.headers.get("Retry-After")
    assert caught.value.retry_after_s == (float(said) if said else None)


def test_a_registry_that_hangs_up_is_unavailable_after_one_more_try(server: HostileServer) -> None:
    server.expect("GET", TAG, Reply(hang_up=True), times=2)
    with pytest.raises(RegistryUnavailable, match="broke off"):
        asking(server, get_1)


def test_a_registry_that_is_not_there_is_unreachable() -> None:
    port = free_port()
    with pytest.raises(RegistryUnreachable, match=f"neither of .*https://127.0.0.1:{port}"):
        asking(f"127.0.0.1:{port}", get_1)


def test_the_registrys_codes_are_kept_as_data(server: HostileServer) -> None:
    body = errors("TAG_INVALID", "The image tag '1' is immutable", detail="no")
    server.expect("PUT", TAG, Reply(400, body), headers={"Content-Type": OCI_MANIFEST})

    async def put(repository: Repository) -> None:
        await manifests.put(repository, "1", MANIFEST)

    with pytest.raises(ImmutableTag) as caught:
        asking(server, put)
    refused = refusal_of(caught.value)
    assert refused is not None
    assert (refused.status, refused.codes) == (400, ("TAG_INVALID",))


def test_no_secret_and_no_control_character_of_an_answer_is_shown(server: HostileServer) -> None:
    said = "no: s3cret-password \x1b[2J Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA== " + "x" * 9_000
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    server.expect("GET", TAG, Reply(401, headers=challenge), headers={"Authorization": None})
    server.expect("GET", TAG, Reply(403, errors("DENIED", said)))
    with pytest.raises(Denied) as caught:
        asking(server, get_1, login=LOGIN)
    text = f"{caught.value!r} {refusal_of(caught.value)!r}"
    assert "s3cret" not in text
    assert "cHVzaGVy" not in text
    assert "\x1b" not in text
    assert len(text) < 3_000


def test_a_head_without_a_digest_falls_back_to_reading_the_manifest(server: HostileServer) -> None:
    server.expect("HEAD", TAG, Reply(200, headers={"Content-Type": OCI_MANIFEST}))
    server.expect("GET", TAG, GOOD)
    found = asking(server, lambda repository: manifests.head(repository, "1"))
    assert found == manifests.ManifestHead(MANIFEST.digest, OCI_MANIFEST, len(MANIFEST.raw))


def test_the_pull_limit_is_kept_with_the_client(server: HostileServer) -> None:
    limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "5;w=21600"}
    server.expect("HEAD", TAG, Reply(404, headers=limits))

    async def look(repository: Repository) -> int | None:
        assert await manifests.head(repository, "1") is None
        limit = repository.client.rate_limit
        return limit.remaining if limit else None

    assert asking(server, look) == 5


# --- redirects ---------------------------------------------------------------------------


def basic(server: HostileServer, target: str = TAG) -> None:
    """The server asks for Basic auth first."""
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    server.expect("GET", target, Reply(401, headers=challenge), headers={"Authorization": None})


def test_a_redirect_to_another_port_carries_no_login(
    server: HostileServer, other: HostileServer
) -> None:
    basic(server, BLOB)
    elsewhere = Reply(307, headers={"Location": f"{other.base}/store/x?sig=a%2Fb"})
    server.expect(
        "GET", BLOB, elsewhere, headers={"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}
    )
    other.expect("GET", "/store/x?sig=a%2Fb", Reply(200, EMPTY), headers={"Authorization": None})
    assert asking(server, read_all, login=LOGIN) == EMPTY


def test_a_login_that_was_left_behind_does_not_come_back(
    server: HostileServer, other: HostileServer
) -> None:
    basic(server, BLOB)
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"{other.base}/x"}))
    other.expect("GET", "/x", Reply(307, headers={"Location": f"{server.base}/v2/back"}))
    server.expect("GET", "/v2/back", Reply(200, EMPTY), headers={"Authorization": None})
    assert asking(server, read_all, login=LOGIN) == EMPTY


def test_a_redirect_within_the_registry_keeps_the_login(server: HostileServer) -> None:
    basic(server)
    sent = {"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}
    server.expect("GET", TAG, Reply(302, headers={"Location": "/moved"}), headers=sent)
    server.expect("GET", "/moved", GOOD, headers=sent)
    assert asking(server, get_1, login=LOGIN) == MANIFEST


def test_a_circle_of_redirects_ends(server: HostileServer) -> None:
    server.expect("GET", TAG, Reply(302, headers={"Location": TAG}), times=6)
    with pytest.raises(AnswerMalformed, match="more than 5 times"):
        asking(server, get_1)


@pytest.mark.parametrize("target", ["http://[bad", "ftp://host/x", "http://ho st/", "https://:1/"])
def test_a_redirect_to_no_url_is_refused(server: HostileServer, target: str) -> None:
    server.expect("GET", TAG, Reply(302, headers={"Location": target}))
    with pytest.raises(AnswerMalformed, match=r"no URL|no web address"):
        asking(server, get_1)


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "[fe80::1]"])
def test_a_redirect_to_a_metadata_service_is_refused(server: HostileServer, host: str) -> None:
    server.expect("GET", TAG, Reply(302, headers={"Location": f"http://{host}/latest/meta-data"}))
    with pytest.raises(RegistryUntrusted, match="nothing is sent there"):
        asking(server, get_1)


def test_a_name_that_turns_out_to_be_this_machine_is_refused(
    server: HostileServer, other: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the address: the registry's own name may lead here, another may not."""
    look_up = socket.getaddrinfo

    def everything_is_here(host: object, *rest: Any, **options: Any) -> Any:
        return look_up("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", everything_is_here)
    location = {"Location": f"http://inside.example:{other.port}/x"}
    server.expect("GET", TAG, Reply(302, headers=location))
    with pytest.raises(RegistryUntrusted, match=r"inside\.example.*nothing is sent there"):
        asking("registry.example.com", get_1, endpoint=f"http://registry.example.com:{server.port}")
    assert other.seen == []


def test_a_time_limit_of_the_reader_is_not_blamed_on_the_registry(server: HostileServer) -> None:
    server.expect("GET", BLOB, Reply(200, EMPTY))

    async def read(repository: Repository) -> None:
        async with blobs.read(repository, EMPTY_DIGEST):
            raise TimeoutError("the reader's own")

    with pytest.raises(TimeoutError, match="the reader's own"):
        asking(server, read)


@pytest.mark.parametrize("name", ["", "a/../b", "/a", "a/", "A", "a?b", "a#b", "a b", "a" * 300])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InvalidReference, match="is no repository"):
        asking("registry.example.com", get_1, repository=name)


def test_a_login_in_the_url_of_a_redirect_is_not_used(
    server: HostileServer, other: HostileServer
) -> None:
    own = f"http://user:pass@{server.address}/v2/y"
    target = f"http://user:pass@{other.address}/x"
    server.expect("GET", BLOB, Reply(302, headers={"Location": own}))
    server.expect(
        "GET", "/v2/y", Reply(302, headers={"Location": target}), headers={"Authorization": None}
    )
    other.expect("GET", "/x", Reply(200, EMPTY), headers={"Authorization": None})
    assert asking(server, read_all) == EMPTY


# --- token servers -----------------------------------------------------------------------


def bearer(server: HostileServer, realm: str, *, times: int = 1) -> None:
    challenge = f'Bearer realm="{realm}",service="svc",scope="repository:acme/app:pull"'
    reply = Reply(401, errors("UNAUTHORIZED"), {"WWW-Authenticate": challenge})
    server.expect("GET", TAG, reply, headers={"Authorization": None}, times=times)


def token_target(login: bool = True) -> str:
    account = "&account=pusher" if login else ""
    return f"/token?service=svc&scope=repository:acme/app:pull&client_id=longshore{account}"


def test_a_token_server_elsewhere_does_not_see_the_login(server: HostileServer) -> None:
    bearer(server, "https://auth.evil.example/token")
    with pytest.raises(RegistryUntrusted, match=r"auth_realms: \[auth.evil.example\]"):
        asking(server, get_1, login=LOGIN)


@pytest.mark.parametrize(
    ("realm", "kind"),
    [
        ("http://169.254.169.254/token", RegistryUntrusted),
        ("http://[bad/", AnswerMalformed),
        ("", AnswerMalformed),
        ("file:///etc/passwd", AnswerMalformed),
    ],
)
def test_a_realm_that_may_not_be_asked_is_refused_without_a_login_too(
    server: HostileServer, realm: str, kind: type[PushError]
) -> None:
    bearer(server, realm)
    with pytest.raises(kind):
        asking(server, get_1)


def test_one_token_is_fetched_for_all_who_wait(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token", times=8)
    gate = threading.Event()
    reply = Reply(200, b'{"token": "t-1", "expires_in": 300}', gate=gate)
    server.expect(
        "GET",
        token_target(),
        reply,
        headers={"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="},
    )
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t-1"}, times=9)

    async def many(repository: Repository) -> set[object]:
        waiting = [asyncio.create_task(manifests.get(repository, "1")) for _ in range(8)]
        while len([s for s in server.seen if s.target == TAG]) < 8:
            await asyncio.sleep(0.005)
        gate.set()
        found = {manifest.digest for manifest in await asyncio.gather(*waiting)}
        return found | {(await manifests.get(repository, "1")).digest}

    assert asking(server, many, login=LOGIN) == {MANIFEST.digest}


def test_a_token_that_dies_in_between_is_fetched_once_more(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"access_token": "t-1"}'))
    first = {"Authorization": "Bearer t-1"}
    server.expect("GET", TAG, GOOD, headers=first)
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.base}/token",service="svc"'}

    async def twice(repository: Repository) -> None:
        await manifests.get(repository, "1")
        server.expect("GET", TAG, Reply(401, headers=challenge), headers=first)
        server.expect("GET", token_target(), Reply(200, b'{"token": "t-2"}'))
        server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t-2"})
        await manifests.get(repository, "1")

    asking(server, twice, login=LOGIN)


def test_a_login_refused_twice_is_denied(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t-1"}'))
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.base}/token"'}
    server.expect("GET", TAG, Reply(401, errors("DENIED", "t-1 is bad"), challenge))
    with pytest.raises(Denied, match=r"\*\*\* is bad"):
        asking(server, get_1, login=LOGIN)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(401), Denied),
        (Reply(200, b'{"token": "a\\r\\nX-Evil: 1"}'), AnswerMalformed),
        (Reply(200, b"<html>"), AnswerMalformed),
        (Reply(200, b"[]"), AnswerMalformed),
        (Reply(302, headers={"Location": "http://127.0.0.1:1/"}), AnswerMalformed),
        (Reply(429, headers={"Retry-After": "3"}), RateLimited),
        (Reply(500), RegistryUnavailable),
        (Reply(200, b"x" * 65_536, endless=True), AnswerMalformed),
    ],
)
def test_each_bad_token_answer_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), reply)
    with pytest.raises(kind) as caught:
        asking(server, get_1, login=LOGIN)
    assert type(caught.value) is kind
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "life",
    [
        b"1" + b"0" * 400,
        b"1e999",
        b"NaN",
        b"-5",
        b'"60"',
        b'60, "issued_at": "0001-01-01T00:00:00Z"',
    ],
)
def test_a_tokens_odd_life_does_no_harm(server: HostileServer, life: bytes) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t", "expires_in": %b}' % life))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    assert asking(server, get_1, login=LOGIN) == MANIFEST


def test_a_login_that_comes_later_does_not_go_to_a_foreign_token_server(
    server: HostileServer, other: HostileServer
) -> None:
    bearer(server, f"http://localhost:{other.port}/token")
    anonymous = {"Authorization": None}
    other.expect("GET", token_target(False), Reply(401), headers=anonymous, times=2)

    async def main() -> None:
        async with ClientPool({}) as pool:
            endpoint = Endpoint(server.address, endpoint=server.base)
            client = pool.client(endpoint, None, renew=lambda: LOGIN)
            await manifests.get(client.repository("acme/app"), "1")

    with pytest.raises(Denied, match="/token refused"):
        asyncio.run(main())


def test_an_anonymous_token_is_asked_for_without_a_login(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token")
    server.expect(
        "GET", token_target(False), Reply(200, b'{"token": "t"}'), headers={"Authorization": None}
    )
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    assert asking(server, get_1) == MANIFEST


def test_a_listed_token_server_sees_the_login(server: HostileServer, other: HostileServer) -> None:
    realm = other.base.replace("127.0.0.1", "localhost")
    bearer(server, f"{realm}/token")
    other.expect("GET", token_target(), Reply(200, b'{"token": "t"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    listed = frozenset({f"localhost:{other.port}"})
    assert asking(server, get_1, login=LOGIN, auth_realms=listed) == MANIFEST


def test_an_identity_token_goes_by_post_and_by_get_where_post_is_not_known(
    server: HostileServer,
) -> None:
    login = Credentials("<token>", SecretStr("refresh-me"))
    bearer(server, f"{server.base}/token")
    form = (
        b"grant_type=refresh_token&service=svc&client_id=longshore"
        b"&scope=repository%3Aacme%2Fapp%3Apull&refresh_token=refresh-me"
    )
    server.expect("POST", "/token", Reply(404), body=form)
    target = token_target(False) + "&account=%3Ctoken%3E"
    server.expect("GET", target, Reply(200, b'{"access_token": "t"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    assert asking(server, get_1, login=login) == MANIFEST


def test_a_login_that_ran_out_is_renewed_once(server: HostileServer) -> None:
    challenge = {"WWW-Authenticate": "Basic realm=ecr"}
    server.expect("GET", TAG, Reply(401, headers=challenge), headers={"Authorization": None})
    old = {"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}
    server.expect("GET", TAG, GOOD, headers=old)
    new = Credentials("AWS", SecretStr("new"))

    async def main() -> None:
        async with ClientPool({}) as pool:
            endpoint = Endpoint(server.address, endpoint=server.base)
            client = pool.client(endpoint, LOGIN, renew=lambda: new)
            assert pool.client(endpoint, LOGIN) is client
            repository = client.repository("acme/app")
            await manifests.get(repository, "1")
            server.expect("GET", TAG, Reply(401, headers=challenge), headers=old)
            server.expect("GET", TAG, GOOD, headers={"Authorization": "Basic QVdTOm5ldw=="})
            await manifests.get(repository, "1")

    asyncio.run(main())


# --- lists -------------------------------------------------------------------------------


async def all_tags(repository: Repository) -> list[str]:
    return [tag async for page in tags.tags(repository, page_size=2) for tag in page]


def page(*names: object, link: str | None = None) -> Reply:
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return Reply(200, json.dumps({"name": "acme/app", "tags": list(names)}).encode(), headers)


LIST = "/v2/acme/app/tags/list"


def test_pages_are_followed_whether_their_links_are_relative_or_not(server: HostileServer) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", "b", link=f"{LIST}?n=2&last=b"))
    server.expect("GET", f"{LIST}?n=2&last=b", page("c", link=f"{server.base}{LIST}?last=c%2F"))
    server.expect("GET", f"{LIST}?last=c%2F", Reply(200, b'{"tags": null}'))
    assert asking(server, all_tags) == ["a", "b", "c"]


def test_pages_that_go_in_a_circle_end(server: HostileServer) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", link=f"{LIST}?last=a"))
    server.expect("GET", f"{LIST}?last=a", page("b", link=f"{LIST}?n=2"))
    with pytest.raises(AnswerMalformed, match="circle"):
        asking(server, all_tags)


def test_a_next_page_at_another_host_is_not_asked_for(
    server: HostileServer, other: HostileServer
) -> None:
    server.expect("GET", f"{LIST}?n=2", page("a", link=f"{other.base}{LIST}?last=a"))
    with pytest.raises(AnswerMalformed, match="another host"):
        asking(server, all_tags)


@pytest.mark.parametrize("names", [("../../x",), (1,), ("a b",)])
def test_names_that_are_no_tags_are_refused(
    server: HostileServer, names: tuple[object, ...]
) -> None:
    server.expect("GET", f"{LIST}?n=2", page(*names))
    with pytest.raises(AnswerMalformed, match="cannot be asked for"):
        asking(server, all_tags)


def test_referrers_come_in_pages_from_the_api(server: HostileServer) -> None:
    place = f"/v2/acme/app/referrers/{MANIFEST.digest}"
    entry = MANIFEST.descriptor.as_json()
    second = make_manifest(annotations={"n": "2"}).descriptor.as_json()
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    link = {"Link": f'<{place}?p=2>; rel="next"'}
    server.expect("GET", place, Reply(200, json.dumps(body).encode(), link))
    body["manifests"] = [entry, second]
    server.expect("GET", f"{place}?p=2", Reply(200, json.dumps(body).encode()))

    found = asking(server, lambda r: referrers.referrers(r, MANIFEST.digest))

    assert [d.digest for d in found.manifests] == [entry["digest"], second["digest"]]
    assert not found.by_tag


# --- uploads and blobs -------------------------------------------------------------------


async def upload(repository: Repository) -> None:
    opened = await blobs.start(repository)
    await (await opened.patch(EMPTY)).finish(EMPTY_DIGEST)


def test_a_relative_location_keeps_its_query_byte_for_byte(server: HostileServer) -> None:
    place = {"Location": "/up/1?_state=a%2Fb%3D"}
    server.expect("POST", UPLOADS, Reply(202, headers=place))
    server.expect("PATCH", "/up/1?_state=a%2Fb%3D", Reply(202, headers={"Location": "2?s=%20"}))
    server.expect("PUT", f"/up/2?s=%20&digest={EMPTY_DIGEST}", Reply(201), body=b"")
    asking(server, upload)


def test_an_upload_at_another_host_carries_no_login(
    server: HostileServer, other: HostileServer
) -> None:
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    server.expect("POST", UPLOADS, Reply(401, headers=challenge), headers={"Authorization": None})
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": f"{other.base}/up"}))
    other.expect("PATCH", "/up", Reply(202), headers={"Authorization": None})
    other.expect("PUT", f"/up?digest={EMPTY_DIGEST}", Reply(201), headers={"Authorization": None})
    asking(server, upload, login=LOGIN)


def test_a_stale_range_after_a_chunk_is_a_lost_upload(server: HostileServer) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/up"}))
    server.expect("PATCH", "/up", Reply(202, headers={"Range": "0-0"}))
    with pytest.raises(UploadLost, match="2 bytes were sent, the registry has 0"):
        asking(server, upload)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(404, errors("BLOB_UPLOAD_INVALID")), UploadLost),
        (Reply(404), UploadLost),
        (Reply(416), UploadLost),
        (Reply(400, errors("DIGEST_INVALID")), RegistryUnavailable),
        (Reply(201, headers={"Docker-Content-Digest": MANIFEST.digest}), DigestMismatch),
        (Reply(307, headers={"Location": "/elsewhere"}), AnswerMalformed),
    ],
)
def test_each_bad_end_of_an_upload_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/up"}))
    plain = {"Content-Length": "2", "Transfer-Encoding": None}
    server.expect("PUT", f"/up?digest={EMPTY_DIGEST}", reply, headers=plain, body=EMPTY)

    async def stream_it(repository: Repository) -> None:
        opened = await blobs.start(repository)
        await opened.finish(EMPTY_DIGEST, lambda: stream(b"{", b"}"), length=2)

    with pytest.raises(kind) as caught:
        asking(server, stream_it)
    assert type(caught.value) is kind


def test_what_breaks_at_the_source_is_not_blamed_on_the_target(server: HostileServer) -> None:
    server.expect("POST", UPLOADS, Reply(202, headers={"Location": "/up"}))
    server.expect("PATCH", "/up", Reply(hang_up=True), times=1)

    async def broken() -> AsyncIterator[bytes]:
        yield b"{"
        raise RegistryUnavailable("the source broke off")

    async def stream_it(repository: Repository) -> None:
        opened = await blobs.start(repository)
        await opened.patch(broken, length=2)

    with pytest.raises(RegistryUnavailable, match="the source broke off"):
        asking(server, stream_it)


@pytest.mark.parametrize(("status", "mounted"), [(201, True), (202, False)])
def test_a_mount_is_done_or_leaves_an_upload_open(
    server: HostileServer, status: int, mounted: bool
) -> None:
    target = f"{UPLOADS}?mount={EMPTY_DIGEST}&from=other%2Frepo"
    server.expect("POST", target, Reply(status, headers={"Location": "/up"}))
    found = asking(server, lambda r: blobs.mount(r, EMPTY_DIGEST, "other/repo"))
    assert (found is None) == mounted


def test_an_upload_without_a_place_is_refused(server: HostileServer) -> None:
    server.expect("POST", UPLOADS, Reply(202))
    with pytest.raises(AnswerMalformed, match="without saying where"):
        asking(server, upload)


def test_reading_goes_on_from_an_offset_of_the_same_blob(server: HostileServer) -> None:
    part = Reply(206, b"}", {"Content-Range": "bytes 1-1/2", "ETag": '"e"'})
    server.expect("GET", BLOB, part, headers={"Range": "bytes=1-", "If-Range": '"e"'})
    server.expect("GET", BLOB, Reply(200, EMPTY), headers={"Range": "bytes=1-"})

    async def read(repository: Repository) -> list[tuple[int, int | None, bytes]]:
        found = []
        for etag in ('"e"', None):
            async with blobs.read(repository, EMPTY_DIGEST, offset=1, etag=etag) as blob:
                data = b"".join([piece async for piece in blob.pieces()])
                found.append((blob.offset, blob.size, data))
        return found

    assert asking(server, read) == [(1, 2, b"}"), (0, 2, EMPTY)]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(404), BlobMissing),
        (Reply(404, errors("BLOB_UNKNOWN")), BlobMissing),
        (Reply(200, b"{", length=2), RegistryUnavailable),
        (Reply(200, b"[]"), DigestMismatch),
        (Reply(200, b"{" * 4_096, endless=True), AnswerMalformed),
    ],
)
def test_each_bad_blob_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    server.expect("GET", BLOB, reply)
    with pytest.raises(kind) as caught:
        asking(server, lambda r: blobs.fetch(r, EMPTY_DIGEST, limit=1_000))
    assert type(caught.value) is kind
