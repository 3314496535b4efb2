"""``./dev demo``: one image through everything, on this machine, in folders of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import docker
import requests

from tests.support.images.engine_images import make_image
from tests.support.processes import free_port
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.registry import MANIFEST_TYPES, Registry
from transship_config.errors import UsageError
from transship_worker.transports.engine.endpoint import find_endpoint

REPOSITORY = "demo/hello"
TAG = "1"
REGISTRY_IMAGE = "registry:2"
#: What ``transship up`` says when all parts answer.
READY = "Ready."
#: Bytes of the demo image's layers, which do not compress: enough to see them go. Unit: bytes.
LAYERS = (40_000_000, 20_000_000, 10_000_000)


def main() -> int:
    """Run the demo, or answer what ``dev`` asks before it; the exit status."""
    if sys.argv[1:] == ["--engine-answers"]:
        return 0 if _engine() else 1
    if sys.argv[1:] == ["--engine-has-registry"]:
        client = _engine()
        return 0 if client and client.images.list(REGISTRY_IMAGE) else 1
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-demo-")))
        client, environment = stack.enter_context(_a_docker_engine(home))
        registry = stack.enter_context(_a_registry(client))
        image = f"{registry}/{REPOSITORY}:{TAG}"
        stack.enter_context(_an_image(client, image))
        _run(environment, "registry", "register", "local", "--flavor", "default", "--uri", registry)
        stack.enter_context(_up(environment, home / "up.log"))
        _run(environment, "push", image, "--registry", "local", "--wait")
        told = json.loads(_output(environment, "jobs", "--limit", "1", "--json"))["digest"]
        held = _digest(registry)
    _say("", f"Transship's digest:   {told}", f"the registry's own:   {held}")
    if told != held:
        _say("They differ: that is an error.")
        return 1
    _say("They are the same. Everything was stopped and removed again.")
    return 0


def _engine() -> docker.DockerClient | None:
    """The Docker Engine that this user's ``docker`` command would talk to, if it answers."""
    try:
        endpoint = find_endpoint(os.environ)
        tls = endpoint.tls.config() if endpoint.tls else False
        client = docker.DockerClient(base_url=endpoint.url, tls=tls, timeout=60)
        client.ping()
    except (UsageError, docker.errors.DockerException, requests.RequestException, OSError):
        return None
    return client


@contextmanager
def _a_docker_engine(home: Path) -> Iterator[tuple[docker.DockerClient, dict[str, str]]]:
    """The machine's engine, else a private one; and the environment of the commands."""
    client = _engine()
    environment = _environment(home)
    if client:
        with closing(client):
            _say(f"Docker Engine: {client.info()['Name']}, which runs here already")
            yield client, environment
        return
    with DockerDaemon() as daemon, closing(daemon.client()) as client:
        _say("Docker Engine: a private one, started for this demo")
        yield client, {**environment, "DOCKER_HOST": daemon.url}


@contextmanager
def _a_registry(client: docker.DockerClient) -> Iterator[str]:
    """A registry on a loopback port, as a program or from its image; ``host:port``."""
    if shutil.which("docker-registry"):
        with Registry() as server:
            _say(f"registry:      {server.address}")
            yield server.address
        return
    port = free_port()
    container = client.containers.run(
        REGISTRY_IMAGE, detach=True, ports={"5000/tcp": ("127.0.0.1", port)}
    )
    try:
        _say(f"registry:      127.0.0.1:{port}, from the image {REGISTRY_IMAGE}")
        yield f"127.0.0.1:{port}"
    finally:
        container.remove(force=True, v=True)


@contextmanager
def _an_image(client: docker.DockerClient, name: str) -> Iterator[None]:
    """A small image in the engine, without a base image."""
    make_image(client, name, layers=LAYERS, note="Transship's demo")
    _say(f"image:         {name}, {sum(LAYERS) // 1_000_000} MB in {len(LAYERS)} layers", "")
    try:
        yield
    finally:
        client.images.remove(name, force=True)


@contextmanager
def _up(environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """``transship up``, from its "Ready." on; what its worker logs would break the progress bar."""
    _say("$ transship up &")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "transship", "up"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            if not _ready(process.stdout or []):
                raise SystemExit(f"transship up ended; it said:\n{log.read_text()}")
            yield
        finally:
            process.send_signal(signal.SIGINT)


def _ready(lines: Iterable[str]) -> bool:
    """Show the lines until it is ready; whether it ever was."""
    for line in lines:
        _say(f"  {line.rstrip()}")
        if line.startswith(READY):
            return True
    return False


def _run(environment: Mapping[str, str], *words: str) -> None:
    """Show a command and run it; its progress goes to the terminal as it is."""
    _say(f"$ transship {' '.join(words)}")
    done = subprocess.run([sys.executable, "-m", "transship", *words], env=environment)
    if done.returncode:
        raise SystemExit(f"it ended with status {done.returncode}")


def _output(environment: Mapping[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "transship", *words]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _digest(registry: str) -> str:
    """What the registry holds under the demo's tag, in its own words."""
    url = f"http://{registry}/v2/{REPOSITORY}/manifests/{TAG}"
    # No proxy: it is on this machine.
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, headers={"Accept": MANIFEST_TYPES}, timeout=10)
    answer.raise_for_status()
    return answer.headers["Docker-Content-Digest"]


def _environment(home: Path) -> dict[str, str]:
    """The commands' environment: no file or setting of the user's is read or changed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRANSSHIP_", "XDG_"))}
    # Where the engine is remains the user's choice.
    docker_config = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    return {**kept, "HOME": str(home), "DOCKER_CONFIG": docker_config, "PYTHONUNBUFFERED": "1"}


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # As Ctrl-C does: what was started is stopped. A shell starts what runs in its background with
    # SIGINT ignored, and `transship up`, which the demo stops with SIGINT, would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
