"""Planning for an account with narrow rights: what it may not read is neither asked nor named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fleet.planner_fakes import FakeSide, digest, planner, rule
from transship.errors import NotAllowed
from transship.model.rights import Grants, Rights
from transship_worker.migrate.plan import Planner
from transship_worker.migrate.rows import Batch

CONTENT = {
    name: {"1": digest(name)} for name in ("ml", "ml/a", "ml/deep/b", "secret", "secret/c", "web")
}
SAID = {"*": ("skipped 1 name, for example 'SECRET'",)}


async def plan(
    rules: list[dict[str, Any]], **granted: list[str]
) -> tuple[Planner, list[Batch], FakeSide]:
    old, new = FakeSide("old", CONTENT, said=SAID), FakeSide("new", CONTENT)
    rights = Rights("team-a", Grants.of(granted))
    made = planner(old, new, rules, rights=rights)
    return made, [batch async for batch in made.rows()], old


def sources(batches: list[Batch]) -> set[str]:
    return {row.source.repository for batch in batches for row in batch.rows}


def said(made: Planner, batches: list[Batch]) -> str:
    """All that a person reads of a plan."""
    errors = [str(one) for batch in batches for one in batch.errors]
    return "\n".join([*made.warnings, *errors, *(w for b in batches for w in b.warnings)])


async def test_a_pattern_finds_only_what_the_account_may_read() -> None:
    made, batches, old = await plan([rule("**")], copy_from=["old/ml/**"], copy_to=["new"])
    assert sources(batches) == {"ml", "ml/a", "ml/deep/b"}
    assert "secret" not in said(made, batches).lower()
    assert old.asked["tags"] == 3


async def test_who_may_read_everything_hears_what_is_said_of_the_list() -> None:
    for whole in ("old", "old/**"):
        made, batches, _ = await plan([rule("**")], copy_from=[whole], copy_to=["new"])
        assert sources(batches) == set(CONTENT)
        assert "for example 'SECRET'" in said(made, batches)


async def test_a_pattern_of_what_it_may_not_read_finds_nothing_as_if_nothing_were_there() -> None:
    there = await plan([rule("secret/*")], copy_from=["old/ml/**"], copy_to=["new"])
    absent = await plan([rule("absent/*")], copy_from=["old/ml/**"], copy_to=["new"])
    assert sources(there[1]) == sources(absent[1]) == set()
    assert said(*there[:2]).replace("secret", "absent") == said(*absent[:2])


async def test_a_name_that_it_may_not_read_fails_without_being_asked_for() -> None:
    made, batches, old = await plan(
        [rule("ml/a", "secret", "absent")], copy_from=["old/ml/**"], copy_to=["new"]
    )
    assert sources(batches) == {"ml/a"}
    assert sorted(str(one) for batch in batches for one in batch.errors) == [
        f"rules[0]: {name}: account team-a may not copy from old/{name}; it may copy from old/ml/**"
        for name in ("absent", "secret")
    ]
    assert old.asked["tags"] == 1
    assert made.summary.failures == 2


@pytest.mark.parametrize("names", [("**",), tuple(CONTENT)])
async def test_a_target_that_it_may_not_write_fails_before_it_is_read(
    names: tuple[str, ...],
) -> None:
    _, batches, old = await plan([rule(*names)], copy_from=["old"], copy_to=["new/ml/*"])
    assert sources(batches) == {"ml/a"}
    errors = [one for batch in batches for one in batch.errors]
    assert {one.repository for one in errors} == set(CONTENT) - {"ml/a"}
    assert all(isinstance(one.error, NotAllowed) for one in errors)
    assert old.asked["tags"] == 1


async def test_the_target_is_what_a_template_makes_of_it() -> None:
    _, batches, _ = await plan(
        [rule("ml/a", "web", to="mirror/{repository}")],
        copy_from=["old"],
        copy_to=["new/mirror/ml/**"],
    )
    assert sources(batches) == {"ml/a"}
