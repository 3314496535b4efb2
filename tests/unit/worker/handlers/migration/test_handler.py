"""Running the rows of a plan: what is kept and what runs at once is bounded."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.ledger.played_migration import row
from transship.errors import RegistryPaused
from transship.model.jobs import JobId
from transship.model.rights import EVERYTHING
from transship_worker.handlers.migration import handler
from transship_worker.handlers.migration.handler import MOST_WARNINGS, Sentences

TAGS = 400


class FakeSides:
    """Sides whose one registry has none of the tags, and says how much it is asked at once."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.most_tasks = self.asked = 0

    def side(self, name: str, *, reading: bool) -> FakeSides:
        """The registry, whatever it is called."""
        assert (name, reading) == ("hub", True)
        return self

    def unified(self, name: str) -> str:
        """Where its repositories lie."""
        return f"{name}.example.com"

    async def head(self, repository: str, reference: str) -> None:
        """There is none."""
        assert (repository, reference[0]) == ("acme/cat", "v")
        self.asked += 1
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error


async def looked(sides: FakeSides) -> Sentences:
    """What is said when a page with very many tags is looked through."""
    planning = SimpleNamespace(grounds=SimpleNamespace(way=None))
    # The rest of it needs a worker.
    nothing = cast("Any", None)
    accepted = cast("Any", SimpleNamespace(components=None, rights=EVERYTHING))
    work = handler._Migration(cast("Any", planning), nothing, nothing, accepted, nothing)
    work._sides = cast("Any", sides)
    tags = {f"v{number}": f"v{number}" for number in range(TAGS)}
    rows = [row(JobId.new(), number, tags=tags) for number in range(3)]
    await work._look_for_moved_tags(rows)
    return work._warnings


async def test_a_page_of_many_tags_is_looked_through_a_few_at_a_time() -> None:
    sides = FakeSides()
    said = await looked(sides)
    assert sides.asked == said.count == 3 * TAGS
    assert sides.most_tasks <= handler.LOOKS + 1
    kept = json.loads(said.as_json())
    assert len(kept) == MOST_WARNINGS + 1
    assert kept[-1] == f"and {3 * TAGS - MOST_WARNINGS} more"


async def test_a_pause_ends_the_looks_as_what_it_is() -> None:
    with pytest.raises(RegistryPaused, match="is not asked"):
        await looked(FakeSides(RegistryPaused("hub is not asked until then", retry_after_s=1)))


def test_few_sentences_are_kept_as_they_are() -> None:
    said = Sentences()
    said.add("one", "two")
    said.add()
    assert json.loads(said.as_json()) == ["one", "two"]
