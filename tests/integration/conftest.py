"""Fixtures that several modules of integration tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger.bench import Bench
from tests.support.workers.command_line import Stage, staging
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.layouts.folders import LayoutFolder


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    """The ledger in a namespace of its own, on the session's Redis."""
    made = Bench(redis_url)
    yield made
    made.redis.close()


@pytest.fixture
def stage(redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A command line, and a ledger in which the test plays the worker."""
    with staging(redis_url, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def loop() -> Iterator[BackgroundLoop]:
    """A worker's event loop, which runs in a thread of its own."""
    with BackgroundLoop() as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty folder for image layouts."""
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.fixture
def folder(path: Path) -> LayoutFolder:
    """``path`` as a registry of image layouts, with the name ``images.layout``."""
    return LayoutFolder(path, "images.layout")
