"""Where a registry leads is looked at where it counts: at the address that is connected to."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.images.registry_client import (
    BLOB,
    EMPTY,
    GOOD,
    LOGIN,
    MANIFEST,
    TAG,
    UPLOADS,
    asking,
    errors,
    get_1,
    read_all,
)
from tests.support.processes import missing
from tests.support.scripted_servers.hostile import HostileServer, Reply
from tests.support.servers.certificates import Authority
from transship.errors import AnswerMalformed, PushError, RegistryUntrusted
from transship_worker.credentials.access import Access
from transship_worker.oci import connections, uploads
from transship_worker.oci.client import Repository

#: A registry that is not on this machine, as far as its name says.
NAME = "registry.example.com"
#: What of its answers leads to this machine, in all the ways that a resolver knows.
HERE = [
    *("127.0.0.1", "127.1.2.3", "localhost", "x.localhost", "0.0.0.0", "127.1", "2130706433"),
    *("0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "inside.example"),
]

Names = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Says which addresses a name has, one list for each time that it is looked up."""
    real = socket.getaddrinfo
    answers: dict[str, list[list[str]]] = {}

    def look_up(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host not in answers:
            return real(host, port, *rest, **options)
        turns = answers[host]
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [found for one in addresses for found in real(one, port, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(connections, "NAME_CACHE_S", 0)

    def set_up(name: str, *turns: list[str]) -> None:
        answers[name] = list(turns)

    set_up(NAME, ["127.0.0.1"])
    set_up("inside.example", ["127.0.0.1"])
    return set_up


@pytest.fixture
def outside() -> Iterator[HostileServer]:
    """A server at an address of this machine that is neither the loopback nor link-local."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only says which address it would send from.
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    if address.startswith(("127.", "169.254.")):
        missing("an address besides the loopback")
    with HostileServer(address=address) as made:
        yield made


def refused() -> Any:
    """What the HTTP library itself takes for no address is refused as that."""
    kinds = (RegistryUntrusted, AnswerMalformed)
    return pytest.raises(kinds, match=r"nothing is sent there|not a canonical IPv4")


def base(server: HostileServer) -> str:
    return f"http://{NAME}:{server.port}"


@pytest.mark.parametrize("host", HERE)
async def test_a_redirect_to_this_machine_is_refused(
    server: HostileServer, other: HostileServer, names: Names, host: str
) -> None:
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"http://{host}:{other.port}/x"}))
    with refused():
        await asking(NAME, read_all, endpoint=base(server))
    assert other.seen == []


@pytest.mark.parametrize("host", HERE)
async def test_a_token_server_on_this_machine_is_refused_without_a_login_too(
    server: HostileServer, other: HostileServer, names: Names, host: str
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{host}:{other.port}/token"'}
    server.expect("GET", TAG, Reply(401, errors("UNAUTHORIZED"), challenge))
    with refused():
        await asking(NAME, get_1, endpoint=base(server))
    assert other.seen == []


@pytest.mark.parametrize("host", HERE)
async def test_an_upload_to_this_machine_is_refused(
    server: HostileServer, other: HostileServer, names: Names, host: str
) -> None:
    location = {"Location": f"http://{host}:{other.port}/upload"}
    server.expect("POST", UPLOADS, Reply(202, headers=location))

    async def upload(repository: Repository) -> None:
        await (await uploads.start(repository)).patch(EMPTY)

    with refused():
        await asking(NAME, upload, endpoint=base(server))
    assert other.seen == []


async def test_one_bad_address_among_good_ones_is_not_connected_to(
    server: HostileServer, other: HostileServer, names: Names
) -> None:
    # Nobody answers at the first, so that the second is tried.
    names("cdn.example", ["240.0.0.1", "127.0.0.1"])
    server.expect(
        "GET", BLOB, Reply(307, headers={"Location": f"http://cdn.example:{other.port}/x"})
    )
    with pytest.raises(PushError):
        await asking(NAME, read_all, endpoint=base(server))
    assert other.seen == []


async def test_a_name_whose_second_answer_is_this_machine_is_refused_then(
    server: HostileServer, outside: HostileServer, names: Names
) -> None:
    """The first answer is as good as any; what it was does not count for the next connection."""
    names("cdn.example", [outside.address.partition(":")[0]], ["127.0.0.1"])
    place = {"Location": f"http://cdn.example:{outside.port}/x"}
    server.expect("GET", BLOB, Reply(307, headers=place), times=2)
    outside.expect("GET", "/x", Reply(200, EMPTY, {"Connection": "close"}))

    async def twice(repository: Repository) -> None:
        assert await read_all(repository) == EMPTY
        await read_all(repository)

    with pytest.raises(RegistryUntrusted, match="nothing is sent there"):
        await asking(NAME, twice, endpoint=base(server))
    assert len(outside.seen) == 1


async def test_where_the_registry_itself_is_it_may_lead(
    server: HostileServer, other: HostileServer
) -> None:
    server.expect("GET", TAG, Reply(307, headers={"Location": f"{other.base}/x"}))
    other.expect("GET", "/x", GOOD)
    assert await asking(server, get_1) == MANIFEST


@pytest.fixture
def secure(authority: Authority) -> Iterator[HostileServer]:
    with HostileServer(tls=authority.issue("127.0.0.1")) as made:
        yield made


async def test_a_redirect_from_tls_to_plain_http_is_refused(
    secure: HostileServer, other: HostileServer, authority: Authority
) -> None:
    secure.expect("GET", BLOB, Reply(307, headers={"Location": f"{other.base}/x"}))
    with pytest.raises(RegistryUntrusted, match="plain HTTP is not followed"):
        await asking(secure, read_all, access=Access(ca=authority.ca))
    assert other.seen == []


@pytest.mark.parametrize("login", [None, LOGIN])
async def test_a_token_server_in_plain_http_is_not_asked_for_a_registry_with_tls(
    secure: HostileServer, other: HostileServer, authority: Authority, login: Any
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{other.base}/token"'}
    secure.expect("GET", TAG, Reply(401, headers=challenge))
    with pytest.raises(RegistryUntrusted, match=r"by plain HTTP|plain HTTP is not followed"):
        await asking(secure, get_1, login=login, access=Access(ca=authority.ca))
    assert other.seen == []


async def test_a_token_server_at_the_registrys_own_host_is_asked_by_https(
    secure: HostileServer, authority: Authority
) -> None:
    own = secure.base.replace("https://", "http://")
    secure.expect("GET", TAG, Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{own}/t"'}))
    scope = "scope=repository:acme/app:pull&client_id=transship&account=pusher"
    secure.expect("GET", f"/t?{scope}", Reply(200, b'{"token": "t"}'))
    secure.expect("GET", TAG, GOOD, headers={"Authorization": "Bearer t"})
    assert await asking(secure, get_1, login=LOGIN, access=Access(ca=authority.ca)) == MANIFEST


async def test_the_advice_for_a_token_server_in_plain_http_can_work(
    secure: HostileServer, authority: Authority
) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://auth.example.com/token"'}
    secure.expect("GET", TAG, Reply(401, headers=challenge))
    with pytest.raises(RegistryUntrusted, match="https URL") as caught:
        await asking(secure, get_1, login=LOGIN, access=Access(ca=authority.ca))
    assert "auth_realms" not in caught.value.message
