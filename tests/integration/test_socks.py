"""Registries that are reached through a SOCKS proxy."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.images.registry_images import noise, put_blob
from tests.support.proxies.socks import SocksProxy
from tests.support.scripted_servers.hostile import HostileServer, Reply
from tests.support.servers.certificates import Authority
from tests.support.servers.registry import Registry
from transship.errors import Denied, RegistryUnreachable, RegistryUntrusted
from transship_worker.credentials.access import Access
from transship_worker.oci import blobs, digests
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool

#: Exists nowhere: only the proxy can resolve it.
HOST = "registry.example.invalid"


def through(
    kind: str, proxy: SocksProxy, login: str = "", variable: str = "ALL_PROXY"
) -> ClientPool:
    return ClientPool({variable: f"{kind}://{login}{proxy.address}"})


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["socks5h", "socks5", "socks4a"])
async def test_blobs_travel_through_a_socks_proxy(plain_registry: Registry, kind: str) -> None:
    data = noise(900_000, kind)
    with SocksProxy({f"{HOST}:5000": plain_registry.port}) as proxy:
        async with through(kind, proxy) as pool:
            endpoint = Endpoint(HOST, endpoint=f"http://{HOST}:5000")
            there = pool.client(endpoint).repository("socks/app", writing=True)
            await put_blob(there, data)
            assert await blobs.fetch(there, digests.digest_of(data), limit=len(data)) == data
        assert set(proxy.asked) == {f"{HOST}:5000"}


@pytest.mark.parametrize("kind", ["socks5h", "socks4a"])
async def test_tls_is_checked_behind_a_socks_proxy(tmp_path: Path, kind: str) -> None:
    authority = Authority(tmp_path)
    right = Endpoint(HOST, Access(ca=authority.ca))
    with HostileServer(tls=authority.issue(HOST)) as server:
        server.expect("GET", "/v2/", Reply(200), times=2)
        with SocksProxy({f"{HOST}:443": server.port}) as proxy:
            async with through(kind, proxy, variable="https_proxy") as pool:
                await pool.client(right).ping()
                # The connection is used again.
                await pool.client(right).ping()
                assert proxy.asked == [f"{HOST}:443"]
                with pytest.raises(RegistryUntrusted, match="set ca: to the PEM file of its CA"):
                    await pool.client(Endpoint(HOST)).ping()


async def test_a_login_at_the_proxy_is_used_and_never_shown() -> None:
    with HostileServer() as server:
        server.expect("GET", "/v2/", Reply(200))
        endpoint = Endpoint(HOST, endpoint=f"http://{HOST}:80")
        with SocksProxy({f"{HOST}:80": server.port}, login=("me", "p:@ss")) as proxy:
            async with through("socks5h", proxy, "me:p%3A%40ss@") as pool:
                await pool.client(endpoint).ping()
            async with through("socks5h", proxy, "me:hunter22@") as pool:
                with pytest.raises(Denied, match=r"SOCKS proxy 127.*set it in ALL_") as caught:
                    await pool.client(endpoint).ping()
                assert "hunter22" not in caught.value.message
                assert not caught.value.retryable
                # Where a registry may speak TLS or not, the first refusal counts, too.
                with pytest.raises(Denied, match="SOCKS proxy 127"):
                    await pool.client(Endpoint(HOST, Access(insecure=True))).ping()
            async with through("socks5h", proxy) as pool:
                with pytest.raises(Denied, match="SOCKS proxy 127"):
                    await pool.client(endpoint).ping()


@pytest.mark.parametrize("how", ["unknown host", "hangs up", "not there"])
async def test_a_proxy_that_leads_nowhere_is_a_typed_error(how: str) -> None:
    with SocksProxy({}, hang_up=how == "hangs up") as proxy:
        async with through("socks5h", proxy) as pool:
            if how == "not there":
                proxy.close()
            with pytest.raises(RegistryUnreachable, match=r"no connection to .*SOCKS proxy"):
                await pool.client(Endpoint(HOST)).ping()


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("ALL_PROXY", "socks4://proxy:1080", "ALL_PROXY names a proxy of the kind 'socks4'"),
        ("https_proxy", "ftp://me:hunter22@proxy", "https_proxy names a proxy of the kind 'ftp'"),
        ("HTTP_PROXY", "http://[::1", "HTTP_PROXY is not the URL of a proxy"),
    ],
)
async def test_a_worker_does_not_start_with_a_proxy_that_it_cannot_use(
    variable: str, value: str, right: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transship", "worker", "--no-engine"),
        env={variable: value, "PATH": "/usr/bin:/bin", "TRANSSHIP_URL": "redis://127.0.0.1:1/0"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, error = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, output) == (2, b"")
    assert right in error.decode()
    assert "hunter22" not in error.decode()
    assert len(error.decode().splitlines()) == 1
