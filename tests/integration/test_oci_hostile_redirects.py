"""Where a registry may lead: never to this machine or link, and never with the login."""

from __future__ import annotations

import pytest

from tests.support.images.registry_client import (
    BLOB,
    EMPTY,
    GOOD,
    LOGIN,
    MANIFEST,
    TAG,
    asking,
    get_1,
    read_all,
)
from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import AnswerMalformed, RegistryUntrusted


def basic(server: HostileServer, target: str = TAG) -> None:
    """The server asks for Basic auth first."""
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    server.expect("GET", target, Reply(401, headers=challenge), headers={"Authorization": None})


async def test_a_redirect_to_another_port_carries_no_login(
    server: HostileServer, other: HostileServer
) -> None:
    basic(server, BLOB)
    elsewhere = Reply(307, headers={"Location": f"{other.base}/store/x?sig=a%2Fb"})
    server.expect(
        "GET", BLOB, elsewhere, headers={"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}
    )
    other.expect("GET", "/store/x?sig=a%2Fb", Reply(200, EMPTY), headers={"Authorization": None})
    assert await asking(server, read_all, login=LOGIN) == EMPTY


async def test_a_login_that_was_left_behind_does_not_come_back(
    server: HostileServer, other: HostileServer
) -> None:
    basic(server, BLOB)
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"{other.base}/x"}))
    other.expect("GET", "/x", Reply(307, headers={"Location": f"{server.base}/v2/back"}))
    server.expect("GET", "/v2/back", Reply(200, EMPTY), headers={"Authorization": None})
    assert await asking(server, read_all, login=LOGIN) == EMPTY


async def test_a_redirect_within_the_registry_keeps_the_login(server: HostileServer) -> None:
    basic(server)
    sent = {"Authorization": "Basic cHVzaGVyOnMzY3JldC1wYXNzd29yZA=="}
    server.expect("GET", TAG, Reply(302, headers={"Location": "/moved"}), headers=sent)
    server.expect("GET", "/moved", GOOD, headers=sent)
    assert await asking(server, get_1, login=LOGIN) == MANIFEST


async def test_a_circle_of_redirects_ends(server: HostileServer) -> None:
    server.expect("GET", TAG, Reply(302, headers={"Location": TAG}), times=6)
    with pytest.raises(AnswerMalformed, match="more than 5 times"):
        await asking(server, get_1)


@pytest.mark.parametrize(
    "target", ["http://[bad", "ftp://host/x", "http://ho st/", "https://:1/", "http://[::1]@"]
)
async def test_a_redirect_to_no_url_is_refused(server: HostileServer, target: str) -> None:
    server.expect("GET", TAG, Reply(302, headers={"Location": target}))
    with pytest.raises(AnswerMalformed, match=r"no URL|no web address"):
        await asking(server, get_1)


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "[fe80::1]"])
async def test_a_redirect_to_a_metadata_service_is_refused(
    server: HostileServer, host: str
) -> None:
    server.expect("GET", TAG, Reply(302, headers={"Location": f"http://{host}/latest/meta-data"}))
    with pytest.raises(RegistryUntrusted, match="nothing is sent there"):
        await asking(server, get_1)


async def test_a_login_in_the_url_of_a_redirect_is_not_used(
    server: HostileServer, other: HostileServer
) -> None:
    own = f"http://user:pass@{server.address}/v2/y"
    target = f"http://user:pass@{other.address}/x"
    server.expect("GET", BLOB, Reply(302, headers={"Location": own}))
    server.expect(
        "GET", "/v2/y", Reply(302, headers={"Location": target}), headers={"Authorization": None}
    )
    other.expect("GET", "/x", Reply(200, EMPTY), headers={"Authorization": None})
    assert await asking(server, read_all) == EMPTY
