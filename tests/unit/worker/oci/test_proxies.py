"""Which proxy the environment names for a request."""

from __future__ import annotations

import pytest
from yarl import URL

from tests.support.scripted_servers.hostile import HostileServer, Reply
from transship.errors import Denied
from transship_config.errors import InvalidSettings
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.proxies import Proxies

ENVIRONMENT = {
    "HTTP_PROXY": "http://plain:3128",
    "https_proxy": "user:p%40ss@secure:3128",
    "NO_PROXY": "internal.example.com, .corp,10.0.0.0/8,host:8443 [bad",
}


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://registry.example.com/", "plain"),
        ("https://registry.example.com/", "secure"),
        ("https://internal.example.com/", None),
        ("https://a.internal.example.com/", None),
        ("https://notinternal.example.com/", "secure"),
        ("https://x.corp/", None),
        ("https://10.1.2.3/", None),
        ("https://11.1.2.3/", "secure"),
        ("https://host:8443/", None),
        ("https://host/", "secure"),
        ("https://localhost/", None),
        ("http://127.0.0.1:5000/", None),
    ],
)
def test_the_environment_names_the_proxy(url: str, proxy: str | None) -> None:
    found = Proxies(ENVIRONMENT).of(URL(url))
    assert (found.host if found else None) == proxy


@pytest.mark.parametrize(
    ("entries", "url", "direct"),
    [
        # As golang.org/x/net/http/httpproxy reads them.
        ("*", "https://registry.example.com/", True),
        ("a.b,*", "https://registry.example.com/", True),
        ("example.com", "https://example.com/", True),
        ("example.com", "https://registry.example.com/", True),
        ("example.com", "https://badexample.com/", False),
        (".example.com", "https://registry.example.com/", True),
        (".example.com", "https://example.com/", False),
        ("*.example.com", "https://registry.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("EXAMPLE.com", "https://registry.example.com/", True),
        ("example.com:8443", "https://registry.example.com:8443/", True),
        ("example.com:8443", "https://registry.example.com/", False),
        (".example.com:443", "https://registry.example.com/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/", True),
        ("10.1.2.3", "https://10.1.2.3:5000/", True),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/", True),
        ("10.1.2.3:5000", "https://10.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.30/", False),
        ("2001:db8::/32", "https://[2001:db8:1::1]/", True),
        ("[2001:db8::]/32", "https://[2001:db8:1::1]/", True),
        ("2001:db8::/32", "https://[2001:db9::1]/", False),
        ("2001:db8::1", "https://[2001:DB8:0::1]/", True),
        ("[2001:db8::1]", "https://[2001:db8::1]/", True),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000/", True),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]/", False),
        # An address is no name: 3 is not its domain.
        ("2.3", "https://10.1.2.3/", False),
        ("other.example, example.com", "https://registry.example.com/", True),
        ("other.example example.com", "https://registry.example.com/", True),
        (",,.,:,[,", "https://registry.example.com/", False),
        # The loopback is never asked through a proxy.
        ("", "https://localhost:5000/", True),
        ("", "https://[::1]:5000/", True),
        ("", "https://127.9.9.9/", True),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(entries: str, url: str, direct: bool) -> None:
    for kind in ("http://proxy:3128", "socks5h://proxy"):
        proxies = Proxies({"ALL_PROXY": kind, "NO_PROXY": entries})
        assert (proxies.of(URL(url)) is None) == direct
        assert (proxies.of_text(url) is None) == direct


@pytest.mark.parametrize(
    ("environment", "http", "https"),
    [
        ({}, None, None),
        ({"ALL_PROXY": "socks5h://a"}, "socks5h://a:1080", "socks5h://a:1080"),
        ({"all_proxy": "socks5://a:9050"}, "socks5h://a:9050", "socks5h://a:9050"),
        (
            {"HTTPS_PROXY": "http://b:3128", "ALL_PROXY": "socks4a://a"},
            "socks4a://a:1080",
            "http://b:3128",
        ),
        ({"https_proxy": "c", "HTTPS_PROXY": "d"}, None, "http://c:80"),
        ({"https_proxy": "", "HTTPS_PROXY": "https://d"}, None, "https://d:443"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": ""}, None, None),
        ({"https_proxy": "http://[2001:db8::1]:3128"}, None, "http://[2001:db8::1]:3128"),
        ({"Https_Proxy": "http://x"}, None, None),
    ],
)
def test_the_own_variable_of_a_scheme_comes_first_and_lower_case_before_upper(
    environment: dict[str, str], http: str | None, https: str | None
) -> None:
    proxies = Proxies(environment)
    found = proxies.of(URL("http://registry.example.com"))
    assert (found.url if found else None) == http
    found = proxies.of(URL("https://registry.example.com"))
    assert (found.url if found else None) == https


@pytest.mark.parametrize(
    "value",
    [
        "socks4://proxy:1080",
        "ftp://proxy",
        "quic://me:hunter22@proxy",
        "http://",
        "socks5h://:1080",
        "http://proxy:99999",
        "http://proxy:0",
        "http://[::1",
        "http://a b",
        "://proxy",
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error_and_never_means_directly(value: str) -> None:
    for variable in ("https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        with pytest.raises(InvalidSettings) as caught:
            Proxies({variable: value})
        assert caught.value.message.startswith(variable)
        assert "socks5h://proxy.example.com:1080" in caught.value.message
        assert "hunter22" not in caught.value.message
        with pytest.raises(InvalidSettings):
            ClientPool({variable: value})


def test_a_socks_proxy_shows_its_password_to_nobody() -> None:
    found = Proxies({"all_proxy": "socks5h://me:hunter22@proxy"}).of(URL("https://r.example.com"))
    assert found is not None
    assert (found.username, found.password) == ("me", "hunter22")
    assert "hunter22" not in f"{found} {found!r} {found.url}"


async def test_a_proxy_that_wants_another_login_is_a_refusal_for_good(
    server: HostileServer,
) -> None:
    challenge = {"Proxy-Authenticate": "Basic realm=x"}
    server.expect("CONNECT", "registry.example.com:443", Reply(407, headers=challenge))
    async with ClientPool({"https_proxy": f"http://me:hunter22@{server.address}"}) as pool:
        with pytest.raises(Denied, match=r"requires a login that it accepts \(407\)") as caught:
            await pool.client(Endpoint("registry.example.com")).ping()
    assert "hunter22" not in caught.value.message
