"""The large share of a process's memory for manifests: one owner at a time, and none is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from transship.errors import RegistryUnavailable
from transship_worker.oci.manifest_memory import LARGE, SMALL, ManifestMemory, Share, sharing


async def test_a_small_share_needs_no_turn() -> None:
    memory = ManifestMemory()
    async with sharing(memory) as first, sharing(memory) as second:
        assert first.take(SMALL)
        assert second.take(SMALL)
        assert not first.is_large
        assert not second.is_large


async def test_one_share_at_a_time_is_large_and_the_next_waits_parked() -> None:
    memory, parked = ManifestMemory(), []

    @asynccontextmanager
    async def waiting() -> AsyncIterator[None]:
        parked.append("waits")
        yield
        parked.append("goes on")

    first, second = Share(memory), Share(memory, waiting)
    assert first.take(SMALL + 1)
    assert first.is_large
    assert not second.take(SMALL + 1)
    enlarging = asyncio.create_task(second.enlarge())
    await asyncio.sleep(0)
    assert parked == ["waits"]
    first.close()
    await enlarging
    assert second.is_large
    assert parked == ["waits", "goes on"]


async def test_a_large_share_has_an_end() -> None:
    share = Share(ManifestMemory())
    assert share.take(LARGE)
    assert not share.take(1)


async def test_what_was_read_is_counted_once() -> None:
    share = Share(ManifestMemory())
    with share.incoming() as taken:
        assert taken(SMALL)
        assert share.used == SMALL
    assert share.used == 0


async def test_whoever_gives_up_its_turn_stops_nobody() -> None:
    memory = ManifestMemory()
    shares = [Share(memory) for _ in range(3)]
    await shares[0].enlarge()
    tasks = [asyncio.create_task(share.enlarge()) for share in shares[1:]]
    await asyncio.sleep(0)
    # Cancelled in the moment in which it is given the turn.
    shares[0].close()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
    assert shares[2].is_large
    shares[2].close()
    assert memory.take_now()


async def test_a_share_that_others_wait_for_waits_for_none() -> None:
    memory = ManifestMemory()
    owner, other = Share(memory), Share(memory)
    await owner.enlarge()
    other.may_wait = False
    with pytest.raises(RegistryUnavailable, match="holds the memory for large manifests"):
        await other.make_room(SMALL + 1)
    owner.close()
    await other.make_room(SMALL + 1)
    assert other.is_large
