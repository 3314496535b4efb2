"""Fixtures that several modules of integration tests use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import docker
import pytest
import redis

from tests.support.images.engine_images import archive
from tests.support.ledger.bench import Bench
from tests.support.workers.command_line import Stage, staging
from tests.support.workers.single_push import Push
from tests.support.workers.streaming import Fresh, Recall, stream_way
from transship.ledger.keys import Keys
from transship.model.jobs import Via
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.credentials.access import Credentials
from transship_worker.fleet.lookup import recall
from transship_worker.handlers.streaming import StreamWay
from transship_worker.layouts.folders import LayoutFolder
from transship_worker.transports.engine.client import Engine


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


@pytest.fixture
def way(redis_url: str, keys: Keys) -> Iterator[StreamWay]:
    """What streamed pushes of a worker need, on the session's Redis."""
    with stream_way(redis_url, keys) as found:
        yield found


@pytest.fixture
def recalled(redis_url: str, keys: Keys) -> Iterator[Recall]:
    """What images became when they were streamed, as the ledger has it."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield partial(recall, client, keys)


@pytest.fixture
def fresh(
    docker_client: docker.DockerClient, engine: Engine, way: StreamWay, recalled: Recall
) -> Fresh:
    """Makes a streamed push of a new image that has these layers."""

    def make(
        name: str,
        *layers: bytes,
        via: Via = Via.STREAM,
        credentials: Credentials | None = None,
    ) -> Push:
        data = archive([name], layers or [os.urandom(1000)], note=uuid.uuid4().hex)
        image_id = str(docker_client.images.load(data)[0].id)
        return Push(
            engine, name, image_id, credentials=credentials, streams=way, recall=recalled, via=via
        )

    return make
