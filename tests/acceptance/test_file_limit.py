"""Workers that may open few files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.workers.process import Site, WorkerProcess
from transship_worker.broker.slots import Slots
from transship_worker.process.file_limit import need

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads limits in /proc"),
]

_SLOTS = Slots(interactive=0, bulk=0, copies=32)


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    with closing(Site(tmp_path, redis_url, "unix:///nowhere")) as site:
        yield site


class Limited(WorkerProcess):
    """A worker under ``ulimit``."""

    def __init__(self, site: Site, *limits: str) -> None:
        super().__init__(site, ("--no-engine",), {})
        self._limits = limits

    def command(self) -> Sequence[str]:
        limits = "; ".join(f"ulimit {limit}" for limit in self._limits)
        return ["sh", "-c", f'{limits}; exec "$@"', "sh", *super().command()]


def _soft_limit(pid: int) -> int:
    found = re.search(r"Max open files +(\d+)", Path(f"/proc/{pid}/limits").read_text())
    assert found is not None
    return int(found[1])


def test_a_worker_raises_its_soft_limit(site: Site) -> None:
    with closing(Limited(site, f"-Hn {need(_SLOTS) + 500}", "-Sn 256")) as worker:
        worker.start()
        (view,) = site.client.fleet().workers
        assert (view.copy_slots, view.slots_lowered) == (32, "")
        assert _soft_limit(worker.pid) == need(_SLOTS)


def test_a_worker_that_may_open_few_files_has_fewer_slots_and_says_so(site: Site) -> None:
    with closing(Limited(site, "-n 512")) as worker:
        worker.start()
        (view,) = site.client.fleet().workers
        assert 1 <= view.copy_slots < 32
        assert "512 are allowed" in view.slots_lowered
        (line,) = [line for line in worker.log_text().splitlines() if "fewer slots" in line]
        assert view.slots_lowered in line
        assert "fewer slots" in site.run("workers").stdout
        assert f"{worker.name} has fewer slots: " in site.run("doctor").stdout


def test_a_worker_that_may_open_too_few_files_does_not_start(site: Site) -> None:
    started = subprocess.run(
        ["sh", "-c", 'ulimit -n 100; exec "$0" -m transship worker --no-engine', sys.executable],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 2
    (line,) = [line for line in started.stderr.splitlines() if "open files" in line]
    assert "100 open files are allowed" in line
    assert "Traceback" not in started.stderr
