"""Fixtures that several flavors' tests use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.stub import Stubber

from tests.support.servers.ecr import stubbed_ecr


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Refuses every request that was not announced."""
    with stubbed_ecr(monkeypatch) as stubber:
        yield stubber
