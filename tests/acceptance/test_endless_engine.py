"""An engine that names new layers without end."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import eventually
from tests.support.scripted_servers.endless_engine import EndlessEngine
from tests.support.workers.process import Site, reaches
from transship import State
from transship_worker.transports.engine.events import MOST_LAYERS

pytestmark = pytest.mark.redis

#: How much memory such a push may cost a worker. Unit: bytes.
MORE: Final = 48 * 2**20


def test_an_engine_that_streams_new_layers_without_end_stops_at_the_deadline(
    tmp_path: Path, redis_url: str
) -> None:
    with EndlessEngine() as engine, closing(Site(tmp_path, redis_url, engine.url)) as site:
        site.write_catalog({"prod": {"flavor": "default", "uri": "127.0.0.1:1/a"}})
        worker = site.start_worker()
        before = _memory(worker.pid)

        job = site.client.push("127.0.0.1:1/a/b:1", registry="prod", via="engine", deadline=8)
        eventually(lambda: engine.layers > 2 * MOST_LAYERS, what="many layers")
        record = reaches(job, State.FAILED, within=30)

        assert record.error is not None
        assert record.error.code == "deadline_exceeded"
        # It went on reading: the time for an event does not grow with the layers before it.
        assert record.progress.layers_total == MOST_LAYERS
        assert _memory(worker.pid) - before < MORE


def _memory(pid: int) -> int:
    """Resident memory of a process. Unit: bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096
