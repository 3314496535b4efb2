"""The write of a tag: what counts against its lease, and what does not."""

from __future__ import annotations

import asyncio

import pytest

from transship.errors import LeaseLost, RegistryUnavailable
from transship_worker.oci import tagging
from transship_worker.oci.tagging import write_tag
from transship_worker.oci.waiting import waiting


class Job:
    """A fake job with so much of its lease left. Unit: s."""

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s
        self.lost = False

    def checkpoint(self) -> None:
        if self.lost:
            raise LeaseLost("another worker has it")

    def lease_left_s(self) -> float:
        return self.left_s


async def test_a_write_that_takes_longer_than_the_lease_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tagging, "TAG_TIMEOUT_S", 0.01)

    async def write(_: float) -> None:
        await asyncio.Event().wait()

    with pytest.raises(RegistryUnavailable, match="write the tag v1"):
        await write_tag(Job(30), "registry.example/app", "v1", write)


async def test_the_wait_for_the_registrys_rate_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tagging, "TAG_TIMEOUT_S", 0.05)

    async def write(_: float) -> str:
        async with waiting():
            await asyncio.sleep(0.2)
        return "written"

    assert await write_tag(Job(30), "registry.example/app", "v1", write) == "written"


async def test_after_the_wait_the_write_has_its_time_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tagging, "TAG_TIMEOUT_S", 0.05)

    async def write(_: float) -> None:
        async with waiting():
            await asyncio.sleep(0.1)
        await asyncio.Event().wait()

    with pytest.raises(RegistryUnavailable):
        await write_tag(Job(30), "registry.example/app", "v1", write)


async def test_a_job_that_lost_its_lease_while_it_waited_writes_nothing() -> None:
    job = Job(30)
    wrote = False

    async def write(_: float) -> None:
        nonlocal wrote
        async with waiting():
            job.lost = True
        wrote = True

    with pytest.raises(LeaseLost):
        await write_tag(job, "registry.example/app", "v1", write)
    assert not wrote
