"""docker-compose.yml, built and started with Debian's docker-compose on a stand-in base image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import requests
from docker.models.containers import Container

from tests.support.images.engine_images import make_image
from tests.support.processes import eventually, free_port, program
from tests.support.repository import ROOT
from tests.support.servers.base_image import BASE, REGISTRY, load_standin, wheels
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis_accounts import PASSWORDS

# The first run makes the base image and downloads the wheels.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

LOGIN = "viewer:planted-flower-password"
PROJECT = "transship"


class Stack:
    """The compose project on a private engine."""

    def __init__(self, daemon: DockerDaemon, folder: Path) -> None:
        self.folder = folder
        self.client = daemon.client()
        self.redis_port, self.flower_port, self.registry_port = (free_port() for _ in range(3))
        self.registry = f"127.0.0.1:{self.registry_port}"
        self.environment = {
            **os.environ,
            "DOCKER_HOST": daemon.url,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "COMPOSE_PROFILES": "demo,copies",
            **{f"REDIS_{name.upper()}_PASSWORD": word for name, word in PASSWORDS.items()},
            "FLOWER_BASIC_AUTH": LOGIN,
            "DOCKER_SOCKET": str(daemon.socket),
            "DOCKER_GID": str(daemon.socket.stat().st_gid),
            "BASE_IMAGE": BASE,
            "PIP_NO_INDEX": "1",
            "REDIS_IMAGE": BASE,
            "REGISTRY_IMAGE": REGISTRY,
            "REDIS_PORT": str(self.redis_port),
            "FLOWER_PORT": str(self.flower_port),
            "REGISTRY_PORT": str(self.registry_port),
        }

    def compose(self, *words: str) -> str:
        """One docker-compose command."""
        done = subprocess.run(
            [program("docker-compose"), *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"docker-compose {words}:\n{done.stdout}{done.stderr}"[-5000:]
        return done.stdout

    def url_of(self, account: str) -> str:
        """Where one account reaches Redis from the host."""
        return f"redis://{account}:{PASSWORDS[account]}@127.0.0.1:{self.redis_port}/0"

    def transship(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of a producer on the host."""
        return subprocess.run(
            [sys.executable, "-m", "transship", *words],
            env={**os.environ, "TRANSSHIP_URL": self.url_of("producer")},
            capture_output=True,
            text=True,
        )

    def containers(self, service: str) -> list[Container]:
        """The containers of one service, also those that ended."""
        labels = [f"com.docker.compose.service={service}"]
        return self.client.containers.list(all=True, filters={"label": labels})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    program("docker-compose")
    with DockerDaemon() as daemon:
        stack = Stack(daemon, tmp_path_factory.mktemp("compose") / "transship")
        _check_out(stack.folder, python=load_standin(stack.client))
        try:
            stack.compose("up", "-d", "--build", "--scale", "worker=2")
            eventually(lambda: len(_workers(stack)) == 3, within=60, what="three live workers")
            yield stack
        finally:
            stack.compose("down", "--volumes", "--timeout", "5")
            stack.client.close()


def _check_out(folder: Path, *, python: str) -> None:
    """What a clone holds, with wheels beside it: a build here has no network."""
    folder.mkdir()
    for name in ("config", "producer", "worker"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dockerignore", "docker-compose.yml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    worker = folder / "worker"
    locks = [worker / "requirements.txt", worker / "requirements-build.txt"]
    shutil.copytree(wheels(python, *locks), worker / "wheels")
    (folder / "secrets").mkdir()
    (folder / "catalog").mkdir()
    # The private engine has no bridge, which BuildKit would take for RUN.
    services = {name: {"build": {"network": "none"}} for name in ("worker", "copier", "flower")}
    override = folder / "docker-compose.override.yml"
    override.write_text(json.dumps({"services": services}))


def _workers(stack: Stack) -> list[dict[str, Any]]:
    done = stack.transship("workers", "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("missing", [f"REDIS_{name.upper()}_PASSWORD" for name in PASSWORDS])
def test_compose_refuses_to_start_without_a_password(tmp_path: Path, missing: str) -> None:
    words = {f"REDIS_{name.upper()}_PASSWORD": word for name, word in PASSWORDS.items()}
    done = subprocess.run(
        [program("docker-compose"), "-f", str(ROOT / "docker-compose.yml"), "config"],
        cwd=tmp_path,
        env={**os.environ, "FLOWER_BASIC_AUTH": LOGIN, **words, missing: ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert missing in done.stderr
    assert "random word" in done.stderr


def test_an_image_is_pushed_through_the_compose_stack(stack: Stack) -> None:
    image = f"{stack.registry}/team/app:1"
    make_image(stack.client, image, layers=[100_000])
    # The engine knows it by its port on the host, workers by the name of its service.
    demo = {"flavor": "default", "uri": stack.registry, "endpoint": "http://registry:5000"}
    catalog = json.dumps({"registries": {"demo": demo}})
    (stack.folder / "catalog" / "catalog.yaml").write_text(catalog)
    eventually(
        lambda: '"demo"' in stack.transship("registry", "list", "--json").stdout,
        what="the new catalogue",
    )
    done = stack.transship("push", image, "--registry", "demo", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout.splitlines()[-1])
    assert job["state"] == "succeeded"
    assert job["submitted_by"] == "producer"
    assert job["digest"] == _digest(stack, "team/app", "1")


def test_workers_with_the_socket_reach_the_engine_and_the_other_has_none(stack: Stack) -> None:
    engine = stack.client.info()["Name"]
    assert sorted(str(worker["engine"]) for worker in _workers(stack)) == sorted(
        ["None", engine, engine]
    )
    for service, sockets in (("worker", 1), ("copier", 0)):
        for container in stack.containers(service):
            mounts = [mount["Source"] for mount in container.attrs["Mounts"]]
            assert mounts.count(stack.environment["DOCKER_SOCKET"]) == sockets


@pytest.mark.parametrize("service", ["worker", "copier", "flower", "redis", "registry"])
def test_a_container_has_no_right_that_it_does_not_need(stack: Stack, service: str) -> None:
    for container in stack.containers(service):
        status = _output(container, "cat", "/proc/1/status")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
        assert facts["NoNewPrivs"] == "1"
        # Debian's registry keeps its images as root; so does the image of the registry itself.
        assert facts["Uid"].startswith("0") == (service == "registry")
        for folder in ("/", "/etc", "/opt", "/usr/local/bin", "/var/tmp"):
            assert "Read-only file system" in _output(container, "touch", f"{folder}/x", user="0")


def test_redis_keeps_what_it_is_given_and_lets_accounts_in_alone(stack: Stack) -> None:
    with redis_py.Redis.from_url(stack.url_of("monitor"), decode_responses=True) as client:
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.info("memory")["maxmemory_policy"] == "noeviction"
    with (
        redis_py.Redis(port=stack.redis_port) as stranger,
        pytest.raises(redis_py.exceptions.AuthenticationError),
    ):
        stranger.ping()
    with (
        redis_py.Redis.from_url(stack.url_of("producer")) as producer,
        pytest.raises(redis_py.exceptions.NoPermissionError),
    ):
        producer.flushall()


def test_no_command_line_holds_a_password(stack: Stack) -> None:
    running = stack.client.containers.list()
    assert len(running) == 6
    for container in running:
        assert "planted" not in json.dumps(container.top(ps_args="-eo pid,args"))
        command = {key: container.attrs["Config"][key] for key in ("Cmd", "Entrypoint")}
        assert "planted" not in json.dumps([command, container.attrs["Config"].get("Healthcheck")])


def test_flower_wants_a_login_and_is_read_only(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.flower_port}"
    user, _, password = LOGIN.partition(":")
    eventually(lambda: _status(f"{url}/healthcheck") == 200, what="Flower")
    assert _status(f"{url}/tasks") == 401
    assert _status(f"{url}/tasks", auth=(user, password)) == 200
    eventually(lambda: _seen(f"{url}/api/tasks", (user, password)), what="the bell in Flower")
    eventually(lambda: len(_seen(f"{url}/api/workers?refresh=1", (user, password))) == 3)
    answer = requests.post(f"{url}/api/worker/shutdown/any", auth=(user, password), timeout=10)
    assert answer.status_code == 403


def test_everything_is_published_on_loopback_only(stack: Stack) -> None:
    bindings = [
        binding["HostIp"]
        for container in stack.client.containers.list()
        for ports in container.attrs["NetworkSettings"]["Ports"].values()
        for binding in ports or []
    ]
    assert bindings == ["127.0.0.1"] * 3


def test_stopping_lets_the_workers_leave_in_order_and_copies_need_no_engine(stack: Stack) -> None:
    stack.compose("stop", "worker")
    codes = [c.attrs["State"]["ExitCode"] for c in stack.containers("worker")]
    assert codes == [0, 0]

    image = f"{stack.registry}/team/app"
    names = ("--from", "demo", "--to", "demo", "--wait", "--json")
    done = stack.transship("copy", f"{image}:1", f"{image}:copied", *names)
    assert done.returncode == 0, done.stderr
    assert _digest(stack, "team/app", "copied") == _digest(stack, "team/app", "1")

    stack.compose("stop")
    for service in ("copier", "redis"):
        assert [c.attrs["State"]["ExitCode"] for c in stack.containers(service)] == [0]


def _output(container: Container, *command: str, user: str = "") -> str:
    output = container.exec_run(list(command), user=user).output
    assert isinstance(output, bytes)
    return output.decode()


def _digest(stack: Stack, repository: str, tag: str) -> str:
    answer = requests.head(
        f"http://{stack.registry}/v2/{repository}/manifests/{tag}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        timeout=10,
    )
    return answer.headers["Docker-Content-Digest"]


def _seen(url: str, auth: tuple[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(url, auth=auth, timeout=10).json()
    return found


def _status(url: str, auth: tuple[str, str] | None = None) -> int | None:
    try:
        return requests.get(url, auth=auth, timeout=10).status_code
    except requests.ConnectionError:
        return None
