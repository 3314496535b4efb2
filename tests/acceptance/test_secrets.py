"""A secret of the catalogue is nowhere but in the worker's own configuration."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest
import requests

from longshore import JobFailed
from tests.acceptance.test_flower import Flower
from tests.support.fixtures import PASSWORD, USER
from tests.support.images import make_image
from tests.support.redis import RedisServer
from tests.support.registry import Registry
from tests.support.worker import Site

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]

#: Planted: in the catalogue as a literal, in the environment, in a file; right and wrong.
LITERAL, IN_FILE = "planted-literal-5f3c", "planted-in-a-file-77aa"


def test_no_planted_secret_leaves_the_worker(
    tmp_path_factory: pytest.TempPathFactory,
    basic_registry: Registry,
    docker_url: str,
    docker_client: docker.DockerClient,
) -> None:
    secrets = [PASSWORD, LITERAL, IN_FILE]
    folder = tmp_path_factory.mktemp("site")
    address = basic_registry.address
    secret_file = folder / "secret"
    secret_file.write_text(IN_FILE + "\n")
    shown: list[str] = []
    with RedisServer() as redis_server:
        site = Site(folder, redis_server.url, docker_url, LONGSHORE_LOG_LEVEL="debug")
        base = {"flavor": "default", "username": USER}
        site.write_catalog(
            {
                "good": base | {"uri": f"{address}/good", "password": {"env": "GOOD_PASSWORD"}},
                "literal": base | {"uri": f"{address}/literal", "password": LITERAL},
                "file": base | {"uri": f"{address}/file", "password": {"file": str(secret_file)}},
            }
        )
        try:
            with Flower(site) as flower:
                worker = site.start_worker(GOOD_PASSWORD=PASSWORD, LONGSHORE_BACKOFF="0.1")
                for name in ("good", "literal", "file"):
                    image = f"{address}/{name}/x:1"
                    make_image(docker_client, image)
                    try:
                        site.client.push(image, registry=name).wait(30)
                    except JobFailed as error:
                        shown.append(f"{error!r} {error}")
                for arguments in (
                    ("jobs", "--json"),
                    ("registry", "list", "--json"),
                    ("registry", "describe", "literal", "--json"),
                    ("registry", "check", "literal"),
                    ("registry", "prepare", "literal", f"{address}/literal/x:1"),
                    ("registry", "flavor", "list", "--json"),
                    ("workers", "--json"),
                    ("doctor", "--json"),
                ):
                    run = site.run(*arguments)
                    assert "Traceback" not in run.stderr, (arguments, run.stderr)
                    shown += [run.stdout, run.stderr]
                for path in ("/api/tasks", "/api/workers?refresh=1", "/metrics", "/workers"):
                    shown.append(requests.get(flower.base + path, timeout=10).text)
                arguments_of = (f"/proc/{worker.pid}/cmdline", f"/proc/{flower.pid}/cmdline")
                shown += [Path(path).read_text() for path in arguments_of]
                shown += [worker.log_text(), flower.log_text()]
            assert [j.state for j in site.client.jobs()] == ["failed", "failed", "succeeded"]
        finally:
            site.close()
        redis_server.stop()
        files = [path for path in redis_server.folder.rglob("*") if path.is_file()]
        shown += [path.read_bytes().decode("latin-1") for path in files]

    everything = "\n".join(shown)
    assert "succeeded" in everything
    assert [secret for secret in secrets if secret in everything] == []
