"""Fixtures of the acceptance tests: whole fleets of real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.workers.process import Site


@pytest.fixture
def site(tmp_path: Path, redis_url: str, docker_url: str) -> Iterator[Site]:
    """A fleet without workers yet, on the session's Redis and engine."""
    site = Site(tmp_path, redis_url, docker_url)
    yield site
    site.close()
