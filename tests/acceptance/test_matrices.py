"""Cases of the matrices of engines and registries, on what this machine has itself.

``./dev test matrix engines`` and ``./dev test matrix registries`` run all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.matrix.engines.cases import CASES
from tests.matrix.engines.ground import Ground, fleet
from tests.matrix.engines.start import Engine
from tests.matrix.registries.kinds import BY_NAME
from tests.matrix.registries.results import Outcome
from tests.matrix.registries.run import RegistryRun
from tests.support.engines.kinds import EngineKind, Store
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.podman import PodmanService
from tests.support.workers.process import Site

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]

OWN_CASES = ("two-engine", "two-stream", "again-auto", "image-missing")
REGISTRY_CASES = ("push", "push-again", "copy-index", "copy-again")


def kind_of(name: str, engine: Engine) -> EngineKind:
    """What this machine's engine is: other releases of a system store images otherwise."""
    with closing(engine.client()) as client:
        version, status = client.version()["Version"], client.info().get("DriverStatus") or []
    if name == "podman":
        store = Store.PODMAN
    elif ["driver-type", "io.containerd.snapshotter.v1"] in status:
        store = Store.CONTAINERD
    else:
        store = Store.CLASSIC
    return EngineKind(f"{name}-{version}", f"{name} {version}", store, None)


def run_cases(name: str, engine: Engine, site: Site) -> None:
    kind = kind_of(name, engine)
    for case in OWN_CASES:
        with Ground(kind, engine, site) as ground:
            CASES[case].run(ground)


@pytest.fixture(scope="module")
def podman() -> Iterator[PodmanService]:
    with PodmanService() as service:
        yield service


def test_a_worker_pushes_what_this_machines_docker_holds(
    docker_daemon: DockerDaemon, redis_url: str, tmp_path: Path
) -> None:
    with fleet(docker_daemon, redis_url, tmp_path) as site:
        run_cases("docker", docker_daemon, site)


def test_a_worker_pushes_what_this_machines_podman_holds(
    podman: PodmanService, redis_url: str, tmp_path: Path
) -> None:
    with fleet(podman, redis_url, tmp_path) as site:
        run_cases("podman", podman, site)


@pytest.mark.parametrize("name", ["distribution", "strict"])
def test_a_worker_pushes_and_copies_to_a_registry_of_the_matrix(
    name: str, docker_daemon: DockerDaemon, redis_url: str
) -> None:
    run = RegistryRun(BY_NAME[name], REGISTRY_CASES, commit="")
    results = list(run.results(redis_url, docker_daemon))
    assert {result.case: result.outcome for result in results} == dict.fromkeys(
        REGISTRY_CASES, Outcome.PASSED
    ), [result.line for result in results]
