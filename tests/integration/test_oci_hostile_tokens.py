"""Who is told the login: the registry, and the token servers that it may name."""

from __future__ import annotations

import asyncio
import threading

import pytest
from pydantic import SecretStr

from tests.support.images.registry_client import GOOD, LOGIN, MANIFEST, TAG, asking, errors, get_1
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from transship.errors import (
    AnswerMalformed,
    Denied,
    PushError,
    RateLimited,
    RegistryUnavailable,
    RegistryUntrusted,
)
from transship_worker.credentials.access import Credentials
from transship_worker.oci import manifests, tags
from transship_worker.oci.client import Repository
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool


def bearer(server: HostileServer, realm: str, *, times: int = 1) -> None:
    challenge = f'Bearer realm="{realm}",service="svc",scope="repository:acme/app:pull"'
    reply = Reply(401, errors("UNAUTHORIZED"), {"WWW-Authenticate": challenge})
    server.expect("GET", TAG, reply, headers={"Authorization": None}, times=times)


def token_target(login: bool = True) -> str:
    account = "&account=pusher" if login else ""
    return f"/token?service=svc&scope=repository:acme/app:pull&client_id=transship{account}"


async def test_a_token_server_elsewhere_does_not_see_the_login(server: HostileServer) -> None:
    bearer(server, "https://auth.evil.example/token")
    with pytest.raises(RegistryUntrusted, match=r"auth_realms: \[auth.evil.example\]"):
        await asking(server, get_1, login=LOGIN)


@pytest.mark.parametrize(
    ("realm", "kind"),
    [
        ("http://169.254.169.254/token", RegistryUntrusted),
        ("http://[bad/", AnswerMalformed),
        ("https://[::1]@", AnswerMalformed),
        ("", AnswerMalformed),
        ("file:///etc/passwd", AnswerMalformed),
    ],
)
async def test_a_realm_that_may_not_be_asked_is_refused_without_a_login_too(
    server: HostileServer, realm: str, kind: type[PushError]
) -> None:
    bearer(server, realm)
    with pytest.raises(kind):
        await asking(server, get_1)


async def test_one_token_is_fetched_for_all_who_wait(server: HostileServer) -> None:
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

    assert await asking(server, many, login=LOGIN) == {MANIFEST.digest}


async def test_a_token_that_dies_in_between_is_fetched_once_more(server: HostileServer) -> None:
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

    await asking(server, twice, login=LOGIN)


async def test_a_login_refused_twice_is_denied(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t-1"}'))
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.base}/token"'}
    server.expect("GET", TAG, Reply(401, errors("DENIED", "t-1 is bad"), challenge))
    with pytest.raises(Denied, match=r"\*\*\* is bad"):
        await asking(server, get_1, login=LOGIN)


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
async def test_each_bad_token_answer_is_a_typed_error(
    server: HostileServer, reply: Reply, kind: type[PushError]
) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), reply)
    with pytest.raises(kind) as caught:
        await asking(server, get_1, login=LOGIN)
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
async def test_a_tokens_odd_life_does_no_harm(server: HostileServer, life: bytes) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t", "expires_in": %b}' % life))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    assert await asking(server, get_1, login=LOGIN) == MANIFEST


async def test_a_login_that_comes_later_does_not_go_to_a_foreign_token_server(
    pool: ClientPool, server: HostileServer, other: HostileServer
) -> None:
    bearer(server, f"http://localhost:{other.port}/token")
    anonymous = {"Authorization": None}
    other.expect("GET", token_target(False), Reply(401), headers=anonymous, times=2)

    endpoint = Endpoint(server.address, endpoint=server.base)
    client = pool.client(endpoint, None, renew=lambda: LOGIN)
    with pytest.raises(Denied, match="/token refused"):
        await manifests.get(client.repository("acme/app"), "1")


async def test_an_anonymous_token_is_asked_for_without_a_login(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token")
    server.expect(
        "GET", token_target(False), Reply(200, b'{"token": "t"}'), headers={"Authorization": None}
    )
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    assert await asking(server, get_1) == MANIFEST


async def test_a_listed_token_server_sees_the_login(
    server: HostileServer, other: HostileServer
) -> None:
    realm = other.base.replace("127.0.0.1", "localhost")
    bearer(server, f"{realm}/token")
    other.expect("GET", token_target(), Reply(200, b'{"token": "t"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    listed = frozenset({f"localhost:{other.port}"})
    assert await asking(server, get_1, login=LOGIN, auth_realms=listed) == MANIFEST


async def test_an_identity_token_goes_by_post_and_by_get_where_post_is_not_known(
    server: HostileServer,
) -> None:
    login = Credentials("<token>", SecretStr("refresh-me"))
    bearer(server, f"{server.base}/token")
    form = (
        b"grant_type=refresh_token&service=svc&client_id=transship"
        b"&scope=repository%3Aacme%2Fapp%3Apull&refresh_token=refresh-me"
    )
    server.expect("POST", "/token", Reply(404), body=form)
    target = token_target(False) + "&account=%3Ctoken%3E"
    server.expect("GET", target, Reply(200, b'{"access_token": "t"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    assert await asking(server, get_1, login=login) == MANIFEST


async def test_a_login_that_ran_out_is_renewed_once(
    pool: ClientPool, server: HostileServer
) -> None:
    challenge = {"WWW-Authenticate": "Basic realm=ecr"}
    server.expect("GET", TAG, Reply(401, headers=challenge), headers={"Authorization": None})
    old = {"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}
    server.expect("GET", TAG, GOOD, headers=old)
    new = Credentials("AWS", SecretStr("new"))

    endpoint = Endpoint(server.address, endpoint=server.base)
    client = pool.client(endpoint, LOGIN, renew=lambda: new)
    assert pool.client(endpoint, LOGIN) is client
    repository = client.repository("acme/app")
    await manifests.get(repository, "1")
    server.expect("GET", TAG, Reply(401, headers=challenge), headers=old)
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Basic QVdTOm5ldw=="})
    await manifests.get(repository, "1")


# --- challenges that lead nowhere --------------------------------------------------------

OTHER = "/v2/acme/other/manifests/1"
THIRD = "/v2/acme/third/manifests/1"


def token_for(repository: str) -> str:
    return token_target().replace("acme/app", repository)


def challenge(realm: str) -> dict[str, str]:
    return {"WWW-Authenticate": f'Bearer realm="{realm}",service="svc"'}


async def read(repository: Repository, name: str) -> object:
    return await manifests.get(repository.client.repository(name), "1")


@pytest.mark.parametrize(
    "gone",
    [
        Reply(404),
        Reply(405),
        Reply(410),
        Reply(403),
        Reply(200, b"<html>"),
        Reply(302, headers={"Location": "/elsewhere"}),
        Reply(502),
    ],
)
async def test_a_token_server_that_moved_is_found_by_the_next_challenge(
    server: HostileServer, gone: Reply
) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t-1"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t-1"})

    async def moved(repository: Repository) -> None:
        await manifests.get(repository, "1")
        server.expect("GET", token_for("acme/other"), gone)
        server.expect(
            "GET",
            OTHER,
            Reply(401, headers=challenge(f"{server.base}/new/token")),
            headers={"Authorization": None},
        )
        server.expect("GET", f"/new{token_for('acme/other')}", Reply(200, b'{"token": "t-2"}'))
        server.expect("GET", OTHER, GOOD, headers={"Authorization": "Bearer t-2"})
        await read(repository, "acme/other")
        # The new one is known from then on.
        server.expect("GET", f"/new{token_for('acme/third')}", Reply(200, b'{"token": "t-3"}'))
        server.expect("GET", THIRD, GOOD, headers={"Authorization": "Bearer t-3"})
        await read(repository, "acme/third")

    await asking(server, moved, login=LOGIN)


async def test_a_token_server_that_is_gone_is_asked_once_for_a_request(
    server: HostileServer,
) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t-1"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t-1"})

    async def gone(repository: Repository) -> None:
        await manifests.get(repository, "1")
        server.expect("GET", token_for("acme/other"), Reply(404))
        server.expect("GET", OTHER, Reply(401, headers=challenge(f"{server.base}/token")))
        with pytest.raises(AnswerMalformed, match="/token answered 404 without a usable token"):
            await read(repository, "acme/other")
        # What it gave before is still good.
        server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t-1"})
        await manifests.get(repository, "1")

    await asking(server, gone, login=LOGIN)


@pytest.mark.parametrize(
    ("realm", "kind"),
    [
        ("http://[bad/", AnswerMalformed),
        ("https://auth.evil.example/token", RegistryUntrusted),
        ("{base}/gone", AnswerMalformed),
        ("{base}/denies", Denied),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_one_bad_challenge_is_the_end_of_its_own_request_alone(
    server: HostileServer, realm: str, kind: type[PushError], first: bool
) -> None:
    server.follow("/gone", lambda _: Reply(404))
    server.follow("/denies", lambda _: Reply(403))
    server.follow("/token", lambda _: Reply(200, b'{"token": "t"}'))

    def answer(seen: Seen) -> Reply:
        if "/other/" in seen.target:
            return Reply(401, headers=challenge(realm.format(base=server.base)))
        if seen.headers.get("authorization") == "Bearer t":
            return GOOD
        return Reply(401, headers=challenge(f"{server.base}/token"))

    server.follow("/v2/", answer)

    async def both(repository: Repository) -> None:
        if not first:
            await manifests.get(repository, "1")
        with pytest.raises(kind):
            await read(repository, "acme/other")
        await manifests.get(repository, "1")
        await read(repository, "acme/third")

    await asking(server, both, login=LOGIN)


async def test_a_second_challenge_is_taken_where_the_first_leads_nowhere(
    server: HostileServer,
) -> None:
    both = 'Bearer realm="https://auth.evil.example/token", Basic realm="x"'
    server.expect("GET", TAG, Reply(401, headers={"WWW-Authenticate": both}))
    basic = {"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}
    server.expect("GET", TAG, GOOD, headers=basic)
    assert await asking(server, get_1, login=LOGIN) == MANIFEST


async def test_a_registry_that_changes_to_basic_is_followed(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t-1"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t-1"})
    basic = {"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}

    async def changed(repository: Repository) -> None:
        await manifests.get(repository, "1")
        server.expect("GET", token_for("acme/other"), Reply(404))
        server.expect("GET", OTHER, Reply(401, headers={"WWW-Authenticate": "Basic realm=x"}))
        server.expect("GET", OTHER, GOOD, headers=basic)
        await read(repository, "acme/other")

    await asking(server, changed, login=LOGIN)


async def test_a_list_does_without_a_login_for_no_token_server(server: HostileServer) -> None:
    bearer(server, f"{server.base}/token")
    server.expect("GET", token_target(), Reply(200, b'{"token": "t-1"}'))
    server.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t-1"})

    async def listed(repository: Repository) -> None:
        await manifests.get(repository, "1")
        server.follow("/token", lambda _: Reply(404))
        server.expect("GET", "/v2/", Reply(401, headers=challenge(f"{server.base}/token")))
        with pytest.raises(AnswerMalformed, match="without a usable token"):
            [page async for page in tags.repositories(repository.client)]

    await asking(server, listed, login=LOGIN)
