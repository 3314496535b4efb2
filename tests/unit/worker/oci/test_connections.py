"""Where requests and logins of a registry may go, and how they get there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from tests.support.servers.certificates import Authority
from transship.errors import AnswerMalformed, RegistryUntrusted
from transship_config.errors import InvalidSettings
from transship_worker.credentials.access import Access
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool

HUB = Endpoint("docker.io")
PROD = Endpoint("registry.example.com")
BELOW = Endpoint("registry.example.com", endpoint="https://h.example.com/r/x/")
INSIDE = Endpoint("registry.example.com", endpoint="http://registry:5000")


@pytest.mark.parametrize(
    ("endpoint", "bases", "verifies"),
    [
        (HUB, ["https://registry-1.docker.io/"], True),
        (PROD, ["https://registry.example.com/"], True),
        (INSIDE, ["http://registry:5000/"], True),
        (BELOW, ["https://h.example.com/r/x/"], True),
        (Endpoint("127.0.0.1:5000"), ["https://127.0.0.1:5000/", "http://127.0.0.1:5000/"], False),
        (Endpoint("localhost", Access(ca=Path("ca.pem"))), ["https://localhost/"], True),
        (
            Endpoint("localhost", Access(client_cert=Path("a.pem"), client_key=Path("a.key"))),
            ["https://localhost/"],
            True,
        ),
        (
            Endpoint("old.example.com", Access(insecure=True)),
            ["https://old.example.com/", "http://old.example.com/"],
            False,
        ),
    ],
)
def test_a_registry_is_reached_as_docker_would(
    endpoint: Endpoint, bases: list[str], verifies: bool
) -> None:
    assert [str(base) for base in endpoint.bases] == bases
    assert endpoint.verifies == verifies


@pytest.mark.parametrize(
    "text", ["registry:5000", "ftp://x", "https://", "https://u:p@x", "http://x/v2", "http://[x"]
)
def test_an_endpoint_is_a_base_url_without_a_login(text: str) -> None:
    with pytest.raises(InvalidSettings, match="endpoint: http://registry:5000") as caught:
        Endpoint("registry.example.com", endpoint=text)
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "realm", "may"),
    [
        (HUB, "https://auth.docker.io/token", True),
        (HUB, "http://auth.docker.io/token", False),
        (HUB, "https://auth.docker.io.evil.example/token", False),
        (PROD, "https://registry.example.com/token", True),
        (PROD, "https://registry.example.com:8443/token", True),
        (PROD, "http://registry.example.com/token", False),
        (PROD, "https://user@registry.example.com/token", False),
        (PROD, "https://auth.docker.io/token", False),
        (Endpoint("registry.gitlab.com"), "https://gitlab.com/jwt/auth", True),
        (INSIDE, "http://registry:6000/token", True),
        (INSIDE, "https://registry.example.com/token", True),
        (INSIDE, "http://elsewhere/token", False),
    ],
)
def test_the_login_goes_to_known_token_servers_only(
    endpoint: Endpoint, realm: str, may: bool
) -> None:
    assert endpoint.may_log_in(URL(realm), endpoint.bases[0]) == may


def test_a_listed_token_server_must_have_the_listed_port() -> None:
    listed = Endpoint("r.example.com", auth_realms=frozenset({"auth.example.com:8443"}))
    base = listed.bases[0]
    assert listed.may_log_in(URL("https://auth.example.com:8443/token"), base)
    assert not listed.may_log_in(URL("https://auth.example.com/token"), base)


@pytest.mark.parametrize(
    ("endpoint", "url", "means"),
    [
        (PROD, "https://registry.example.com/x?a=%2F", "https://registry.example.com/x?a=%2F"),
        (PROD, "http://registry.example.com/x", "https://registry.example.com/x"),
        (PROD, "https://registry.example.com:444/x", None),
        (PROD, "https://other.example.com/x", None),
        (INSIDE, "https://registry.example.com/x?a=%2F", "http://registry:5000/x?a=%2F"),
        (INSIDE, "http://registry:5001/x", None),
        (HUB, "https://registry-1.docker.io/x", "https://registry-1.docker.io/x"),
        # Below a path: one that the proxy removes is missing, one that it passes on is there.
        (BELOW, "https://h.example.com/v2/a/b?c=%2F", "https://h.example.com/r/x/v2/a/b?c=%2F"),
        (BELOW, "https://h.example.com/r/x/v2/a?c=%2F", "https://h.example.com/r/x/v2/a?c=%2F"),
        (BELOW, "http://registry.example.com/v2/a", "https://h.example.com/r/x/v2/a"),
        (BELOW, "https://h.example.com/storage/a", "https://h.example.com/storage/a"),
        (BELOW, "https://h.example.com/v2x/a", "https://h.example.com/v2x/a"),
        (BELOW, "https://other.example.com/v2/a", None),
    ],
)
def test_a_place_that_means_the_registry_is_asked_at_its_base(
    endpoint: Endpoint, url: str, means: str | None
) -> None:
    found = endpoint.own(URL(url, encoded=True), endpoint.bases[0])
    assert (str(found) if found else None) == means


@given(
    st.text(alphabet=st.sampled_from(list("htps:/[]@.%?#&=\\ 0a1-_~\u2603\udc80\n")), max_size=40)
    | st.text(max_size=20).map("https://registry.example.com/".__add__)
    | st.text(max_size=20).map("//".__add__)
)
@example("http://[::1]@")
def test_no_location_raises_anything_but_a_typed_error(location: str) -> None:
    pool = ClientPool({})
    base = pool.connections.bases[PROD] = PROD.bases[0]
    try:
        found = pool.client(PROD).resolve(location, base / "v2/a/blobs/uploads/")
    except AnswerMalformed as error:
        assert error.message.isprintable()
    else:
        assert found.scheme in {"http", "https"}
        assert found.host
        assert found.user is None
        assert str(found).isascii()


def test_nothing_is_followed_from_tls_to_plain_http() -> None:
    with pytest.raises(RegistryUntrusted, match="from https"):
        PROD.may_follow(URL("http://cdn.example.com/x?secret"), PROD.bases[0])
    with pytest.raises(AnswerMalformed):
        PROD.may_follow(URL("ftp://cdn.example.com/x"), PROD.bases[0])
    PROD.may_follow(URL("https://cdn.example.com/x"), PROD.bases[0])


ENVIRONMENT = {
    "HTTP_PROXY": "http://plain:3128",
    "https_proxy": "user:p%40ss@secure:3128",
    "NO_PROXY": "internal.example.com, .corp,10.0.0.0/8,host:8443 [bad",
}


async def test_a_proxys_login_goes_to_the_proxy_alone() -> None:
    async with ClientPool(ENVIRONMENT) as pool:
        way = await pool.connections.way(URL("https://registry.example.com/"), PROD, own=True)
    assert (str(way.proxy), way.proxy_login) == ("http://secure:3128", "Basic dXNlcjpwQHNz")


async def test_a_client_certificate_is_not_shown_to_a_proxy_that_speaks_tls(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("worker")
    access = Access(client_cert=certificate, client_key=key)
    endpoint, url = Endpoint("registry.example.com", access), URL("https://registry.example.com/")
    async with ClientPool({"https_proxy": "https://proxy"}) as pool:
        with pytest.raises(RegistryUntrusted, match="use an http:// or socks5h:// proxy"):
            await pool.connections.way(url, endpoint, own=True)
        # Others are shown no certificate.
        await pool.connections.way(URL("https://cdn.example.com/"), endpoint, own=False)
    async with ClientPool({"https_proxy": "http://proxy"}) as pool:
        await pool.connections.way(url, endpoint, own=True)


@pytest.mark.parametrize("name", ["none.pem", "empty.pem"])
async def test_a_ca_that_cannot_be_read_is_named(
    pool: ClientPool, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty.pem").write_text("")
    endpoint = Endpoint("registry.example.com", Access(ca=tmp_path / name))
    with pytest.raises(RegistryUntrusted, match=f"{name} cannot be used"):
        await pool.connections.way(URL("https://registry.example.com/"), endpoint, own=True)


def test_the_way_of_a_push_loads_no_registry_client() -> None:
    script = (
        "import sys, transship_worker.app, transship_worker.jobs.runner;"
        "import transship_worker.process.runtime;"
        "import transship_worker.transports.engine_push, transship_worker.flavors;"
        "heavy = {'aiohttp', 'uvloop', 'transship_worker.concurrency.loop'};"
        "heavy |= {f'transship_worker.oci.{name}' for name in ('client', 'pool', 'manifests')};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
