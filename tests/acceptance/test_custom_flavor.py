"""A flavor written outside the repository, registered by its source path."""

from __future__ import annotations

import docker
import pytest

from tests.support.images.engine_images import make_image
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from transship import JobFailed

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]

SOURCE = '''
from transship_worker import BaseContainerRegistry


class TeamRegistry(BaseContainerRegistry):
    """Only images of teams that exist."""

    FLAVOR = "team"

    def prepare_image_push(self, image_name: str) -> None:
        if "/ml/" not in image_name:
            raise ValueError(f"{image_name} belongs to no team; write .../ml/NAME:TAG")
'''


def test_a_custom_flavor_rejects_one_image_and_lets_another_through(
    site: Site, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    address = plain_registry.address
    folder = site.folder / "flavors"
    folder.mkdir()
    (folder / "team_registry.py").write_text(SOURCE)
    site.write_catalog({}, flavor_paths=[str(folder)])
    make_image(docker_client, f"{address}/ml/custom:1", f"{address}/nobody/custom:1")

    flavor = site.run("registry", "flavor", "register", "team_registry.TeamRegistry")
    component = site.run("registry", "register", "team", "--flavor", "team", "--uri", address)
    listed = site.run("registry", "flavor", "list")
    site.start_worker()
    good = site.run("push", f"{address}/ml/custom:1", "--registry", "team", "--wait", "-q")
    bad = site.run("push", f"{address}/nobody/custom:1", "--registry", "team", "--wait")

    assert (flavor.returncode, component.returncode) == (0, 0), (flavor, component)
    assert "team_registry.TeamRegistry" in listed.stdout
    assert (good.returncode, bad.returncode) == (0, 1), (good, bad)
    digest = plain_registry.digest("ml/custom", "1")
    assert good.stdout.strip() == f"{address}/ml/custom@{digest}"
    assert "belongs to no team" in bad.stderr + bad.stdout
    assert "Traceback" not in bad.stderr
    assert plain_registry.digest("nobody/custom", "1") is None
    (failed,) = (j for j in site.client.jobs() if j.image.endswith("/nobody/custom:1"))
    assert failed.error is not None
    assert (failed.error.code, failed.error.retryable) == ("prepare_failed", False)
    with pytest.raises(JobFailed, match="belongs to no team"):
        site.client.job(failed.id).wait(5)


def test_an_override_of_push_image_is_honoured(
    site: Site, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    address = plain_registry.address
    (site.folder / "strict.py").write_text(
        "from transship_worker import BaseContainerRegistry\n"
        "class Strict(BaseContainerRegistry):\n"
        "    FLAVOR = 'strict'\n"
        "    def push_image(self, image_name, *, transport):\n"
        "        if image_name.endswith(':latest'):\n"
        "            raise RuntimeError('latest is not pushed here')\n"
        "        return super().push_image(image_name, transport=transport)\n"
    )
    site.write_catalog(
        {"strict": {"flavor": "strict", "uri": address}},
        flavors=["strict.Strict"],
        flavor_paths=[str(site.folder)],
    )
    make_image(docker_client, f"{address}/ml/strict:1", f"{address}/ml/strict:latest")
    site.start_worker()

    good = site.client.push(f"{address}/ml/strict:1", registry="strict").wait(30)
    with pytest.raises(JobFailed, match="latest is not pushed here"):
        site.client.push(f"{address}/ml/strict", registry="strict").wait(30)

    assert good.digest == plain_registry.digest("ml/strict", "1")
