"""Where a registry leads is looked at where it counts: at the address that is connected to."""

from __future__ import annotations

import ipaddress
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
    client,
    errors,
    get_1,
    read_all,
)
from tests.support.scripted_servers.hostile import HostileServer, Reply
from tests.support.servers.certificates import Authority
from transship.errors import AnswerMalformed, PushError, RegistryUnreachable, RegistryUntrusted
from transship_worker.credentials.access import Access
from transship_worker.oci import addresses, connections, uploads
from transship_worker.oci.addresses import Kind
from transship_worker.oci.client import Repository
from transship_worker.oci.descriptors import OCI_MANIFEST
from transship_worker.oci.pool import ClientPool

#: A registry elsewhere.
NAME = "registry.example.com"
#: Addresses of the loopback that are taken for others here: the real class is looked up in
#: ``test_oci_rebinding``, which has a network of its own.
GLOBAL, PRIVATE = "127.8.8.8", "127.10.0.1"
TAKEN_FOR = {GLOBAL: Kind.GLOBAL, PRIVATE: Kind.PRIVATE}
#: What of its answers leads to this machine, in all the ways that a resolver knows.
HERE = [
    *("127.0.0.1", "127.1.2.3", "localhost", "x.localhost", "0.0.0.0", "127.1", "2130706433"),
    *("0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "inside.example"),
]

OCI = {"Content-Type": OCI_MANIFEST}

Names = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Says which addresses a name has, one list for each time that it is looked up."""
    real, real_kind = socket.getaddrinfo, addresses.kind_of
    answers: dict[str, list[list[str]]] = {}

    def look_up(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host not in answers:
            return real(host, port, *rest, **options)
        turns = answers[host]
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [found for one in addresses for found in real(one, port, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(connections, "NAME_CACHE_S", 0)
    monkeypatch.setattr(addresses, "kind_of", lambda text: TAKEN_FOR.get(text, real_kind(text)))

    def set_up(name: str, *turns: list[str]) -> None:
        answers[name] = list(turns)

    set_up(NAME, [GLOBAL])
    set_up("inside.example", ["127.0.0.1"])
    return set_up


@pytest.fixture
def server() -> Iterator[HostileServer]:
    """The registry, at an address that is taken for a global one."""
    with HostileServer(address=GLOBAL) as made:
        yield made


@pytest.fixture
def private() -> Iterator[HostileServer]:
    """A server at an address that is taken for a private one."""
    with HostileServer(address=PRIVATE) as made:
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
    server: HostileServer, names: Names
) -> None:
    """The first answer is as good as any; what it was does not count for the next connection."""
    names("cdn.example", [GLOBAL], ["127.0.0.1"])
    place = {"Location": f"http://cdn.example:{server.port}/x"}
    server.expect("GET", BLOB, Reply(307, headers=place), times=2)
    server.expect("GET", "/x", Reply(200, EMPTY, {"Connection": "close"}))

    async def twice(repository: Repository) -> None:
        assert await read_all(repository) == EMPTY
        await read_all(repository)

    with pytest.raises(RegistryUntrusted, match="nothing is sent there"):
        await asking(NAME, twice, endpoint=base(server))
    assert len(server.seen) == 3


async def test_an_idle_connection_of_one_registry_is_not_used_where_another_leads(
    server: HostileServer, private: HostileServer, names: Names
) -> None:
    inner = f"http://inner.example:{private.port}"
    names("inner.example", [PRIVATE])
    private.expect("GET", TAG, GOOD)
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"{inner}/x"}))
    async with ClientPool({}) as pool:
        first = client(pool, "inner.example", None, endpoint=inner).repository("acme/app")
        assert await get_1(first) == MANIFEST
        second = client(pool, NAME, None, endpoint=base(server)).repository("acme/app")
        with pytest.raises(RegistryUntrusted, match="a registry at a global address may not"):
            await read_all(second)
    assert len(private.seen) == 1


async def test_a_registry_at_a_global_address_leads_to_no_private_one(
    server: HostileServer, private: HostileServer, names: Names
) -> None:
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"{private.base}/x"}))
    with pytest.raises(RegistryUntrusted) as caught:
        await asking(NAME, read_all, endpoint=base(server))
    assert caught.value.message == (
        f"{NAME} leads to {private.base}/x: {PRIVATE} is a private address, and a registry at a "
        "global address may not lead there; nothing is sent there; if that is right, set "
        f"allowed_networks: [{PRIVATE}/32]"
    )
    assert not caught.value.retryable
    assert private.seen == []


async def test_a_registry_at_a_private_address_leads_to_private_and_global_ones(
    server: HostileServer, private: HostileServer, names: Names
) -> None:
    names(NAME, [PRIVATE])
    private.expect("GET", BLOB, Reply(307, headers={"Location": f"{private.base}/x"}))
    private.expect("GET", "/x", Reply(307, headers={"Location": f"{server.base}/y"}))
    server.expect("GET", "/y", Reply(200, EMPTY))
    assert await asking(NAME, read_all, endpoint=base(private)) == EMPTY


async def test_networks_that_the_catalog_lists_are_allowed_too(
    server: HostileServer, private: HostileServer, names: Names
) -> None:
    networks = (ipaddress.ip_network(f"{PRIVATE}/32"),)
    server.expect("GET", BLOB, Reply(307, headers={"Location": f"{private.base}/x"}))
    private.expect("GET", "/x", Reply(200, EMPTY))
    work = asking(NAME, read_all, endpoint=base(server), allowed_networks=networks)
    assert await work == EMPTY


async def test_a_registry_whose_own_name_leads_inside_later_is_not_asked_there(
    server: HostileServer, private: HostileServer, names: Names
) -> None:
    names(NAME, [GLOBAL], ["127.10.0.1"], ["127.0.0.1"])
    server.expect("GET", TAG, Reply(200, MANIFEST.raw, {"Connection": "close", **OCI}))

    async def often(repository: Repository) -> None:
        assert await get_1(repository) == MANIFEST
        for address in (PRIVATE, "127.0.0.1"):
            with pytest.raises(RegistryUntrusted, match=f"{address} is .*, and the name led to"):
                await get_1(repository)

    await asking(NAME, often, endpoint=base(server))
    assert private.seen == []


async def test_a_name_with_addresses_of_several_classes_is_not_on_this_machine(
    server: HostileServer, other: HostileServer, names: Names
) -> None:
    """The registry's own name, too: its other address may be anybody's choice."""
    names(NAME, ["127.0.0.1", "240.0.0.1"])
    with pytest.raises(RegistryUnreachable):
        await asking(NAME, get_1, endpoint=f"http://{NAME}:{other.port}")
    assert other.seen == []


async def test_a_name_with_several_refused_addresses_is_refused_for_good(
    server: HostileServer, names: Names
) -> None:
    names("cdn.example", ["127.0.0.1", "127.0.0.2", "::1"])
    server.expect("GET", BLOB, Reply(307, headers={"Location": "http://cdn.example:9/x"}))
    with pytest.raises(RegistryUntrusted, match="a loopback address"):
        await asking(NAME, read_all, endpoint=base(server))


@pytest.mark.parametrize("networks", [(), (ipaddress.ip_network("0.0.0.0/0"),)])
async def test_no_registry_is_at_a_metadata_service(names: Names, networks: Any) -> None:
    names(NAME, ["169.254.169.254"])
    with pytest.raises(RegistryUntrusted, match="a metadata address, where no registry is"):
        await asking(NAME, get_1, endpoint=f"http://{NAME}", allowed_networks=networks)


async def test_where_the_registry_itself_is_it_may_lead(
    other: HostileServer,
) -> None:
    other.expect(
        "GET", TAG, Reply(307, headers={"Location": f"http://[::ffff:127.0.0.1]:{other.port}/x"})
    )
    other.expect("GET", "/x", GOOD)
    assert await asking(other, get_1) == MANIFEST


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
