"""A blob that waits for a permit of the fleet's budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from transship.errors import LeaseLost
from transship_worker.oci.client import Repository
from transship_worker.oci.content import ContentSource
from transship_worker.oci.descriptors import Descriptor
from transship_worker.transports.copy import registry


class FakeGovernor:
    """A budget whose permits are all taken."""

    login = "registry.example"

    @asynccontextmanager
    async def transfer(self) -> AsyncIterator[None]:
        """Never begins."""
        await asyncio.Event().wait()
        yield


async def test_the_wait_for_a_permit_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "WAIT_TOLD_S", 0.001)
    told: asyncio.Queue[int] = asyncio.Queue()
    writing = asyncio.create_task(written(told.put_nowait))
    assert [await asyncio.wait_for(told.get(), 10) for _ in range(3)] == [0, 0, 0]
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_job_that_ends_while_it_is_told_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "WAIT_TOLD_S", 0.001)
    lost = LeaseLost("another worker has it")

    def told(_: int) -> None:
        raise lost

    with pytest.raises(LeaseLost) as met:
        await asyncio.wait_for(written(told), 10)
    assert met.value is lost
    assert asyncio.all_tasks() == {asyncio.current_task()}


def written(moved: Callable[[int], None]) -> Coroutine[Any, Any, None]:
    """The write of a blob whose permit never comes."""
    client = SimpleNamespace(
        governor=FakeGovernor(), endpoint=SimpleNamespace(registry="registry.example")
    )
    target = registry.RegistryRepository(
        Repository(cast("Any", client), "a/b", frozenset()),
    )
    blob = Descriptor("application/octet-stream", "sha256:" + "a" * 64, 5)
    return target.write_blob(blob, cast("ContentSource", object()), moved)
