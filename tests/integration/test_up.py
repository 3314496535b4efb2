"""`transship up`, as a person starts it: real processes, a private Redis, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import requests

from tests.support.processes import eventually
from tests.support.servers.redis import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.engine]


class Up:
    """One ``transship up --json``, its reports and what it wrote."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.process = subprocess.Popen(
            [sys.executable, "-m", "transship", "up", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.reports: dict[str, dict[str, str]] = {}
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=read) for read in (self._out, self._err)]
        for thread in self._threads:
            thread.start()

    @property
    def url_file(self) -> Path:
        return Path(self.reports["up"]["url_file"])

    @property
    def pids(self) -> list[int]:
        return [int(report["pid"]) for report in self.reports.values() if report.get("pid")]

    def ready(self) -> Up:
        eventually(lambda: "up" in self.reports or self.process.poll() is not None, what="ready")
        assert "up" in self.reports, "".join(self.errors)
        return self

    def ended(self) -> int:
        status = self.process.wait(60)
        for thread in self._threads:
            thread.join()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.ended()

    def _out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            report = json.loads(line)
            self.reports[report["part"]] = report

    def _err(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)


@pytest.fixture
def environment(tmp_path: Path, docker_url: str) -> dict[str, str]:
    """A person without any files of Transship's, on a machine with a Docker Engine."""
    own = {"HOME": str(tmp_path / "home"), "XDG_DATA_HOME": str(tmp_path / "data")}
    return {**os.environ, **own, "DOCKER_HOST": docker_url, "TRANSSHIP_GRACE": "5"}


@contextmanager
def up(environment: dict[str, str]) -> Iterator[Up]:
    running = Up(environment)
    try:
        yield running
    finally:
        running.close()


def transship(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "transship", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _environ(pid: object) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_everything_runs_is_found_by_other_commands_and_ends_on_ctrl_c(
    environment: dict[str, str],
) -> None:
    with up(environment) as running:
        running.ready()
        assert running.url_file.stat().st_mode & 0o777 == 0o600
        assert set(running.reports) == {"redis", "worker", "flower", "up"}

        workers = transship(environment, "workers", "--json")
        assert workers.returncode == 0, workers.stderr
        assert json.loads(workers.stdout)["name"] == running.reports["worker"]["address"]

        flower = requests.get(running.reports["flower"]["address"] + "/tasks", timeout=10)
        assert flower.status_code == 200
        pids = running.pids
        assert all(map(lives, pids))

        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 0, "".join(running.errors)
        assert not any(map(lives, pids))
        assert not running.url_file.exists()


def test_it_shows_no_password_and_listens_on_loopback_only(environment: dict[str, str]) -> None:
    with up({**environment, "PROD_PASSWORD": "planted-for-the-worker"}) as running:
        running.ready()
        # Only the worker has a use for what the catalogue refers to.
        told = {part: _environ(running.reports[part]["pid"]) for part in ("redis", "flower")}
        assert [part for part, has in told.items() if b"planted-for-the-worker" in has] == []
        assert b"planted-for-the-worker" in _environ(running.reports["worker"]["pid"])
        assert b"TRANSSHIP_" not in told["redis"]
        url = urlsplit(running.url_file.read_text().strip())
        assert url.password
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        assert url.password not in shown
        ports = {url.port, urlsplit(running.reports["flower"]["address"]).port}
        assert {address for address, port in _listeners() if port in ports} == {"127.0.0.1"}
        running.close()
        logs = "".join(file.read_text() for file in running.url_file.parent.glob("logs/*"))
        said = json.dumps(running.reports) + "".join(running.errors) + logs
        assert url.password not in said


def test_a_second_up_says_that_one_runs_already(environment: dict[str, str]) -> None:
    with up(environment) as running:
        running.ready()
        second = transship(environment, "up")
        assert second.returncode == 1
        assert f"runs already (process {running.process.pid})" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert running.url_file.exists()


@pytest.mark.parametrize("part", ["redis", "worker", "flower"])
def test_when_a_part_dies_it_says_so_and_stops_the_others(
    environment: dict[str, str], part: str
) -> None:
    with up(environment) as running:
        running.ready()
        os.kill(int(running.reports[part]["pid"]), signal.SIGKILL)
        assert running.ended() == 1
        assert not any(map(lives, running.pids))
        assert not running.url_file.exists()
    said = "".join(running.errors)
    assert "was killed by SIGKILL" in said
    assert part in said.lower()


def test_nothing_is_left_when_it_is_killed_and_the_next_one_has_the_data(
    environment: dict[str, str],
) -> None:
    with up(environment) as running:
        running.ready()
        with redis.Redis.from_url(running.url_file.read_text().strip()) as client:
            client.set("kept", "yes")
        running.process.kill()
        eventually(lambda: not any(map(lives, running.pids)), what="the end of all parts")
    with up(environment) as running:
        running.ready()
        with redis.Redis.from_url(running.url_file.read_text().strip()) as client:
            assert client.get("kept") == b"yes"


def test_a_redis_that_is_named_is_used_and_left_running(
    environment: dict[str, str], redis_server: RedisServer
) -> None:
    named = {"TRANSSHIP_URL": redis_server.url, "TRANSSHIP_NAMESPACE": "up-named"}
    with up({**environment, **named}) as running:
        running.ready()
        assert "redis-server" not in "".join(running.errors)
        assert running.reports["redis"]["address"] == redis_server.url
        assert running.reports["redis"]["pid"] is None
        found = transship({**environment, "TRANSSHIP_NAMESPACE": "up-named"}, "workers")
        assert found.returncode == 0, found.stderr
    with redis_server.client() as client:
        assert client.ping()


def test_a_redis_that_is_named_and_not_there_ends_it_at_once(environment: dict[str, str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"redis://:planted-secret@127.0.0.1:{nobody.getsockname()[1]}/0"
        done = transship({**environment, "TRANSSHIP_URL": url}, "up")
    assert done.returncode == 3
    assert "cannot be reached" in done.stderr
    assert "planted-secret" not in done.stderr + done.stdout


def _listeners() -> set[tuple[str, int]]:
    """IPv4 and IPv6 addresses and ports that somebody listens on (proc(5), /proc/net/tcp)."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state != "0A":
                continue
            address, _, port = local.partition(":")
            words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
            found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found
