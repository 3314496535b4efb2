"""Fixtures that several flavors' tests use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from botocore.stub import Stubber

from tests.support.scripted_servers.cloud_tokens import FakeCloud
from tests.support.servers.ecr import stubbed_ecr
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.dockerhub import DockerHubRegistry
from transship_worker.flavors.gcp import GcpRegistry


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Refuses every request that was not announced."""
    with stubbed_ecr(monkeypatch) as stubber:
        yield stubber


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    """A fake of Docker Hub's and Google's APIs."""
    with FakeCloud() as fake:
        monkeypatch.setattr(DockerHubRegistry, "API", fake.url)
        monkeypatch.setattr(GcpRegistry, "API", fake.url)
        monkeypatch.setattr(
            "transship_worker.flavors.gcp._TOKENS", TokenCache(margin=timedelta(minutes=5))
        )
        yield fake
