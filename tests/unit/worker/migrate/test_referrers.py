"""Signatures that came later: the plan has them, and only them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fleet.planner_fakes import FakeSide, digest, planner, rule
from transship.errors import RegistryUnavailable
from transship.model.migration.plan import Action, PlanRow
from transship_worker.migrate.plan import Planner

IMAGE, SBOM, SIGNATURE = digest("image"), digest("sbom"), digest("signature of the sbom")
CONTENT = {"cat": {"1": IMAGE, "latest": IMAGE}}


async def rows(plan: Planner) -> list[PlanRow]:
    return [row async for batch in plan.rows() for row in batch.rows]


def old(*gone: str, **more: Any) -> FakeSide:
    """A source whose image has an SBOM, which is signed."""
    signed = {SBOM: SBOM, SIGNATURE: SIGNATURE}
    listed = {tag: one for tag, one in (CONTENT["cat"] | signed).items() if one not in gone}
    content = {"cat": listed}
    return FakeSide("old", content, referrers={IMAGE: [SBOM], SBOM: [SIGNATURE]}, **more)


MINE: dict[str, Any] = {"tags": {"include": ["^1$", "^latest$"]}}


async def test_a_signature_that_came_later_is_a_row_of_its_image() -> None:
    new = FakeSide("new", CONTENT, referrers={IMAGE: [SBOM]})
    (row,) = await rows(planner(old(), new, [rule("cat", referrers=True, **MINE)]))
    assert (row.action, row.source.digest, row.bytes) == (Action.COPY, IMAGE, 0)
    assert set(row.tags) == {"1", "latest"}
    assert row.referrers
    assert SIGNATURE in row.reason
    assert SBOM not in row.reason


async def test_nothing_new_is_nothing_to_do() -> None:
    new = FakeSide("new", CONTENT, referrers={IMAGE: [SBOM], SBOM: [SIGNATURE]})
    (row,) = await rows(planner(old(), new, [rule("cat", referrers=True, **MINE)]))
    assert row.action is Action.SKIP


async def test_without_referrers_none_are_asked_for() -> None:
    source, new = old(), FakeSide("new", CONTENT)
    (row,) = await rows(planner(source, new, [rule("cat", **MINE)]))
    assert row.action is Action.SKIP
    assert source.asked["referrers"] == new.asked["referrers"] == 0


async def test_the_target_is_asked_only_for_what_the_source_has() -> None:
    source, new = FakeSide("old", CONTENT), FakeSide("new", CONTENT)
    await rows(planner(source, new, [rule("cat", referrers=True)]))
    assert (source.asked["referrers"], new.asked["referrers"]) == (1, 0)
    assert new.asked["manifest"] == 0


async def test_an_immutable_tag_that_is_signed_later_is_no_exception() -> None:
    new = FakeSide("new", CONTENT)
    mine = rule("cat", referrers=True, immutable_tags=["."], **MINE)
    (row,) = await rows(planner(old(), new, [mine]))
    assert row.action is Action.COPY
    assert SBOM in row.reason


async def test_an_immutable_tag_is_not_moved_for_its_referrers() -> None:
    other = {"cat": {"1": digest("other"), "latest": IMAGE}}
    new = FakeSide("new", other, referrers={IMAGE: [SBOM], SBOM: [SIGNATURE]})
    mine = rule("cat", referrers=True, immutable_tags=["."], **MINE)
    batches = [batch async for batch in planner(old(), new, [mine]).rows()]
    assert {row.action for batch in batches for row in batch.rows} == {Action.SKIP}
    assert [warning for batch in batches for warning in batch.warnings] == [
        "rules[0]: old/cat: 1: another image at the target, which stays"
    ]


async def test_a_listed_referrer_that_is_gone_is_not_planned_again_and_again() -> None:
    new = FakeSide("new", CONTENT, referrers={IMAGE: [SBOM]})
    mine = rule("cat", referrers=True, **MINE)
    (row,) = await rows(planner(old(SIGNATURE), new, [mine]))
    assert row.action is Action.SKIP


async def test_a_source_that_fails_over_referrers_fails_the_planning() -> None:
    source = old(errors={f"cat@{SBOM}": RegistryUnavailable("down")})
    with pytest.raises(RegistryUnavailable):
        await rows(planner(source, FakeSide("new", CONTENT), [rule("cat", referrers=True, **MINE)]))
