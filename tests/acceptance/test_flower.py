"""Flower tells the truth: looked at through its API and in a real browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import docker
import pytest
import requests

from tests.support.images.engine_images import make_image
from tests.support.processes import Server, eventually, free_port, program
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site, reaches
from transship import JobFailed, State
from transship_worker.local.up import FLOWER_COLUMNS

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]


class Flower(Server):
    """Flower on a site's queue, as `transship up` and compose start it."""

    title = "flower"

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site
        self.port = free_port()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "celery", "-A", "transship_worker.app", "flower"),
            *("--address=127.0.0.1", f"--port={self.port}", "--read_only=True"),
            f"--tasks_columns={FLOWER_COLUMNS}",
        ]

    def environment(self) -> Mapping[str, str]:
        return self._site.environment | {"FLOWER_UNAUTHENTICATED_API": "true"}

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.base}/api/workers", timeout=5).ok
        except requests.ConnectionError:
            return False

    def tasks(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = requests.get(f"{self.base}/api/tasks", timeout=5).json()
        return found

    def page(self, path: str, folder: Path) -> str:
        """A page's text after its scripts ran, in a real browser."""
        chromium = program("chromium", "chromium-browser", "google-chrome")
        run = subprocess.run(
            [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking", "--disable-sync"),
                *("--disable-component-update", f"--user-data-dir={folder / 'chromium'}"),
                *("--virtual-time-budget=8000", "--dump-dom", f"{self.base}{path}"),
            ],
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )
        return run.stdout


def test_flower_shows_what_became_of_each_job(
    site: Site,
    plain_registry: Registry,
    docker_client: docker.DockerClient,
    tmp_path: Path,
) -> None:
    address = plain_registry.address
    away = f"127.0.0.1:{free_port()}"
    site.write_catalog(
        {
            "lab": {"flavor": "default", "uri": address},
            "away": {"flavor": "default", "uri": away},
        }
    )
    make_image(docker_client, f"{address}/ml/flower:1", f"{away}/ml/flower:1")
    with Flower(site) as flower:
        site.start_worker(TRANSSHIP_BACKOFF="600")
        good = site.client.push(f"{address}/ml/flower:1", registry="lab")
        bad = site.client.push(f"{address}/ml/missing:1", registry="lab")
        later = site.client.push(f"{away}/ml/flower:1", registry="away")
        good.wait(30)
        with pytest.raises(JobFailed):
            bad.wait(30)
        reaches(later, State.RETRYING)

        expected = {f"{good.id}.1": "SUCCESS", f"{bad.id}.1": "FAILURE", f"{later.id}.1": "RETRY"}
        eventually(
            lambda: {i: t["state"] for i, t in flower.tasks().items() if i in expected} == expected,
            what="the three states in Flower",
        )
        tasks = flower.tasks()
        page = flower.page("/tasks", tmp_path)

    assert f"{address}/ml/flower:1 → lab" in tasks[f"{good.id}.1"]["args"]
    assert "image_not_found: image" in str(tasks[f"{bad.id}.1"]["exception"])
    assert {t["name"] for t in tasks.values()} == {"transship.push.v1"}
    for task, shown in expected.items():
        assert task in page
        assert shown in page
    assert "ml/flower:1 → lab" in page
