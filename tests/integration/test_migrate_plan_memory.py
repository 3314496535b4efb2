"""Planning of many tags takes bounded memory. It needs no server, but several seconds."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest

from tests.support.fleet.planner_fakes import FakeSide, digest, planner, rule
from transship_worker.migrate.plan import BATCH_ROWS


@pytest.mark.parametrize(
    ("repositories", "tags", "to"),
    [(1, 10_000, "{repository}"), (2_000, 5, "all/{name}")],
)
async def test_ten_thousand_tags_are_planned_in_bounded_memory(
    repositories: int, tags: int, to: str
) -> None:
    content = {
        f"r{n}": {f"v1.{tag}.{n}": digest(f"{n}-{tag}") for tag in range(tags)}
        for n in range(repositories)
    }
    # The second one can aim wherever the first does: then all rows are held to the end.
    rules = [rule("r*", to=to), rule("none/*", to="{name}" if to[0] == "{" else to)]
    names = Counter[str]()
    made = planner(FakeSide("old", content), FakeSide("new", content), rules)
    tracemalloc.start()
    try:
        async for batch in made.rows():
            assert len(batch.rows) <= BATCH_ROWS
            names.update(tag for row in batch.rows for tag in row.tags)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(names) == 10_000
    assert set(names.values()) == {1}
    assert peak < 12 * 2**20, f"{peak / 2**20:.1f} MiB"
