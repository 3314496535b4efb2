"""Planning where a registry does what a real one cannot be brought to: its sides are fakes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleet.planner_fakes import MIGRATION, FakeSide, digest, planner, rule
from tests.support.fleet.planner_readers import Catalogue, Remembered
from transship.errors import Denied, PushRejected, RateLimited, RegistryUnavailable
from transship.model.migration.mistakes import SpecError
from transship.model.migration.names import Template
from transship.model.migration.plan import MOST_TAGS, Action, PlanRow
from transship.model.migration.specification import Spec
from transship_config.errors import TransshipError
from transship_worker.migrate.check import check_row
from transship_worker.migrate.plan import IN_FLIGHT, Planner
from transship_worker.migrate.rows import Batch


async def plan(
    old: FakeSide, new: FakeSide, *rules: dict[str, Any], **options: Any
) -> tuple[Planner, list[Batch], BaseException | None]:
    """All batches, and the error that ended them; no task may be left."""
    batches: list[Batch] = []
    made = planner(old, new, rules, **options)
    error: BaseException | None = None
    try:
        async for batch in made.rows():
            batches.append(batch)  # noqa: PERF401 - what came before an error is kept
    except TransshipError as caught:
        error = caught
    assert len(asyncio.all_tasks()) == 1
    return made, batches, error


def rows_of(batches: Iterable[Batch]) -> list[PlanRow]:
    return [row for batch in batches for row in batch.rows]


async def test_a_registry_that_wants_fewer_requests_ends_the_plan_until_later() -> None:
    content = {f"r{n}": {f"v{tag}": digest(f"{n}-{tag}") for tag in range(20)} for n in range(9)}
    limited = RateLimited("old asks for fewer requests", retry_after_s=30)
    old = FakeSide("old", content, errors={"r5:v7": limited})
    new = FakeSide("new", {})

    _, batches, error = await plan(old, new, rule("r*"), in_flight=4)
    assert error is limited
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 30

    _, again, error = await plan(FakeSide("old", content), new, rule("r*"), in_flight=4)
    assert error is None
    assert {row.id for row in rows_of(batches)} < {row.id for row in rows_of(again)}
    assert len(rows_of(again)) == 180


@pytest.mark.parametrize("side", ["old", "new"])
async def test_a_repository_that_is_denied_fails_alone(side: str) -> None:
    content = {name: {"1": digest(name)} for name in ("a", "b", "c")}
    sides = {name: FakeSide(name, content) for name in ("old", "new")}
    sides[side].errors = {"b": Denied("no rights on b")}

    made, batches, error = await plan(sides["old"], sides["new"], rule("*"))
    assert error is None
    assert [str(one) for batch in batches for one in batch.errors] == [
        "rules[0]: b: no rights on b"
    ]
    assert {row.source.repository for row in rows_of(batches)} == {"a", "c"}
    assert (made.summary.rows, made.summary.failures) == (2, 1)


async def test_what_is_said_of_a_sources_list_is_a_warning_of_the_plan() -> None:
    content = {"a": {"1": digest("a")}}
    said = "skipped 1 name that is not a valid tag: 'sha256:1607'"
    old = FakeSide("old", content, said={"a": (said,)})
    new = FakeSide("new", content, said={"a": ("the target's list is not planned",)})

    _, batches, error = await plan(old, new, rule("a"))
    assert error is None
    assert [one for batch in batches for one in batch.warnings] == [f"rules[0]: old/a: {said}"]
    assert [row.action for row in rows_of(batches)] == [Action.SKIP]


async def test_tags_that_are_left_alone_are_one_warning() -> None:
    old = FakeSide("old", {"a": {"1": digest("new"), "2": digest("new"), "3": digest("same")}})
    new = FakeSide("new", {"a": {"1": digest("own"), "2": digest("own"), "3": digest("same")}})

    _, batches, error = await plan(old, new, rule("a", on_conflict="skip"))
    assert error is None
    ((warning,),) = (batch.warnings for batch in batches)
    assert set(warning.removeprefix("rules[0]: old/a: ").split(": ")[0].split(", ")) == {"1", "2"}
    assert warning.endswith(": another image at the target, which stays")


async def test_an_immutable_tag_that_is_listed_and_gone_is_copied() -> None:
    old = FakeSide("old", {"a": {"v1": digest("1"), "v2": digest("2")}})
    new = FakeSide(
        "new",
        {"a": {"v1": digest("1"), "v2": digest("2")}},
        vanished=frozenset({"v2", digest("2")}),
    )
    _, batches, _ = await plan(old, new, rule("a", immutable_tags=["^v"]))
    assert {(row.action, *row.tags) for row in rows_of(batches)} == {
        (Action.SKIP, "v1"),
        (Action.COPY, "v2"),
    }
    # The source was asked for the one that is not there alone.
    assert old.asked["head"] == 1


@pytest.mark.parametrize(
    ("choice", "fixed"), [("overwrite", "skip"), ("skip", "skip"), ("fail", "fail")]
)
async def test_an_immutable_tag_that_came_since_the_plan_does_not_move(
    choice: str, fixed: str
) -> None:
    old = FakeSide("old", {"a": {"v1": digest("1"), "edge": digest("1")}})
    new = FakeSide("new", {})
    _, batches, _ = await plan(old, new, rule("a", immutable_tags=["^v"], on_conflict=choice))
    found = {tag: row for row in rows_of(batches) for tag in row.tags}
    assert found["v1"].on_conflict == fixed
    assert found["edge"].on_conflict == choice
    assert {found["edge"].action, found["v1"].action} == {Action.COPY, Action.TAG}


async def test_what_is_said_of_a_catalog_is_a_warning_of_the_plan() -> None:
    said = "skipped 2 names that are not valid repository names, for example 'A'"
    old = FakeSide("old", {"a": {"1": digest("a")}}, said={"*": (said,)})

    made, batches, error = await plan(old, FakeSide("new", {}), rule("*"))
    assert error is None
    assert made.warnings == [f"old: {said}"]
    assert len(rows_of(batches)) == 1


async def test_tags_that_cannot_be_read_fail_together_and_the_others_go_on() -> None:
    bad = {f"a:v{n}": PushRejected(f"v{n} is broken") for n in range(1, 6)}
    content = {"a": {f"v{n}": digest(str(n)) for n in range(7)}}
    _, batches, error = await plan(
        FakeSide("old", content, errors=bad), FakeSide("new", {}), rule("a"), in_flight=1
    )
    assert error is None
    ((failure,),) = (batch.errors for batch in batches if batch.errors)
    assert sorted(failure.tags) == ["v1", "v2", "v3", "v4", "v5"]
    assert str(failure) == "rules[0]: a:v5,v4,v3…: v5 is broken"
    assert {tag for row in rows_of(batches) for tag in row.tags} == {"v0", "v6"}


async def test_a_tag_that_is_listed_but_gone_is_left_out_and_named() -> None:
    old = FakeSide("old", {"a": {"1": digest("a"), "2": digest("b")}}, vanished=frozenset({"1"}))
    made, batches, _ = await plan(old, FakeSide("new", {}), rule("a"))

    assert [row.tags for row in rows_of(batches)] == [{"2": "2"}]
    assert [one for batch in batches for one in batch.warnings] == [
        "rules[0]: old/a: 1: listed, but nothing is there; left out"
    ]
    assert made.summary.failures == 0


async def test_a_source_that_cannot_list_fails_its_patterns_and_not_its_names() -> None:
    content = {name: {"1": digest(name)} for name in ("a", "b/c")}
    old = FakeSide("old", content, errors={"*": PushRejected("old cannot list; write names out")})
    for to in ("{repository}", "{name}"):
        made, batches, error = await plan(old, FakeSide("new", {}), rule("a", "b/*", to=to))
        assert error is None
        assert [row.source.repository for row in rows_of(batches)] == ["a"]
        assert [str(one) for batch in batches for one in batch.errors] == [
            "rules[0]: b/*: old cannot list; write names out"
        ]
        assert made.summary.failures == 1


async def test_two_repositories_that_become_one_are_found_on_whatever_page_they_stand() -> None:
    names = ("a/cat", "a/dog", "a/fox", "b/ant", "b/cat")
    old = FakeSide("old", {name: {"1": digest(name)} for name in names})
    _, batches, error = await plan(old, FakeSide("new", {}), rule("**", to="m/{name}"))

    assert isinstance(error, SpecError)
    assert len(error.mistakes) == 1
    assert "at new.example/x/m/cat:1, where the same rule" in error.message
    assert {batch.repository for batch in batches} == {"a/dog", "a/fox", "b/ant"}


async def test_repositories_that_a_catalogue_names_without_tags_are_one_warning() -> None:
    old = FakeSide("old", {"a": {}, "b": {}, "c": {"1": digest("c")}})
    made, batches, error = await plan(old, FakeSide("new", {}), rule("*"))

    assert error is None
    assert [batch.repository for batch in batches] == ["c"]
    assert made.warnings == [
        "2 repositories that a catalogue names have no tags, or are gone: a, b"
    ]

    _, batches, _ = await plan(old, FakeSide("new", {}), rule("a"))
    assert [batch.warnings for batch in batches] == [("rules[0]: old/a: no tag of it is taken",)]


async def test_a_catalogue_that_fails_for_now_ends_the_plan() -> None:
    old = FakeSide("old", {}, errors={"*": RegistryUnavailable("old broke off")})
    _, batches, error = await plan(old, FakeSide("new", {}), rule("*"), rule("*", to="x/{name}"))
    assert isinstance(error, RegistryUnavailable)
    assert batches == []


async def test_components_that_cannot_be_used_are_named_before_anything_is_asked() -> None:
    old = FakeSide("old", {"a": {"1": digest("a")}})
    new = FakeSide("new", {})
    spec = Spec.parse(
        {
            "version": 1,
            "name": "test",
            "rules": [rule("a"), rule("a", source="odl"), rule("a", target="old", to="x")],
        }
    )
    sides = Catalogue({"old": old, "new": new}, {}, forbidden=["old.copy_to"])

    with pytest.raises(SpecError) as caught:
        await anext(Planner(spec, MIGRATION, sides, Remembered()).rows())
    assert [mistake.place for mistake in caught.value.mistakes] == [
        "rules[1].from.registry",
        "rules[2].to.registry",
    ]
    assert "did you mean 'old'?" in caught.value.message
    assert old.asked == new.asked == Counter()


async def test_docker_hub_is_asked_for_manifests_only_where_sizes_are_wanted() -> None:
    content = {"a": {f"v{n}": digest(str(n)) for n in range(250)}}
    for sizes, read in ((False, 0), (True, 250)):
        hub = FakeSide("old", content, is_hub=True, hub_limit=100)
        made, batches, _ = await plan(hub, FakeSide("new", {}), rule("a"), sizes=sizes)
        assert hub.asked["manifest"] == read
        assert all(row.hub_pulls == 1 for row in rows_of(batches))
        assert (made.summary.hub_pulls, made.summary.hub_windows) == (250, 3)
        assert made.warnings == (
            ["planning read 250 manifests from Docker Hub, each of which counts as a pull"]
            if sizes
            else []
        )


async def test_an_image_with_very_many_tags_is_copied_once_and_tagged_then() -> None:
    tags = {f"v{n:04}": digest("one") for n in range(MOST_TAGS + 20)}
    old = FakeSide("old", {"a": tags})
    _, batches, _ = await plan(old, FakeSide("new", {}), rule("a"))
    assert [(row.action, len(row.tags)) for row in rows_of(batches)] == [
        (Action.COPY, MOST_TAGS),
        (Action.TAG, 20),
    ]
    half = dict(sorted(tags.items())[:MOST_TAGS])
    _, later, _ = await plan(old, FakeSide("new", {"a": half}), rule("a"))
    assert [row.action for row in rows_of(later)] == [Action.SKIP, Action.TAG]
    assert [row.id for row in rows_of(later)] == [row.id for row in rows_of(batches)]


@pytest.mark.parametrize("limit", [IN_FLIGHT, 7])
async def test_as_many_lookups_run_at_once_as_are_allowed_and_no_more(limit: int) -> None:
    content = {f"r{n}": {f"v{tag}": digest(f"{n}-{tag}") for tag in range(40)} for n in range(5)}
    full = asyncio.Event()

    async def until_full(what: str) -> None:
        # No lookup is answered before as many run as may: fewer would wait for ever.
        if ":" in what and old.running == limit:
            full.set()
        if ":" in what:
            await asyncio.wait_for(full.wait(), 60)

    old = FakeSide("old", content, pause=until_full)
    new = FakeSide("new", content)
    _, _, error = await plan(old, new, rule("r*"), in_flight=limit)
    assert error is None
    assert old.most == limit
    assert new.most <= limit


async def test_what_was_begun_first_comes_while_the_rest_still_waits() -> None:
    content = {f"r{n}": {f"v{tag}": digest(f"{n}-{tag}") for tag in range(30)} for n in range(20)}
    old = FakeSide("old", content)
    rows = planner(old, FakeSide("new", {}), [rule(*content)], in_flight=8).rows()
    first = await anext(rows)
    assert first.repository == "r0"
    await rows.aclose()  # type: ignore[attr-defined]
    assert len(asyncio.all_tasks()) == 1
    assert old.asked["head"] < 300


async def test_rows_wait_for_whoever_reads_them() -> None:
    content = {f"r{n}": {"1": digest(str(n))} for n in range(400)}
    old = FakeSide("old", content)
    rows = planner(old, FakeSide("new", {}), [rule(*content)], in_flight=4).rows()
    await anext(rows)
    before = -1
    while old.asked["head"] != before:
        before = old.asked["head"]
        for _ in range(50):
            await asyncio.sleep(0)
    assert before < 100
    assert len([batch async for batch in rows]) == 399


@given(
    st.lists(st.sampled_from(["{repository}", "{name}", "a", "b/", "-"]), max_size=4).map("".join),
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join), max_size=6),
)
def test_a_template_with_the_whole_name_never_makes_one_of_two(
    text: str, repositories: list[str]
) -> None:
    try:
        template = Template.parse(f"{text}{{repository}}", "repository")
    except ValueError:
        return
    made: dict[str, str] = {}
    for repository in set(repositories):
        result = template.fill(repository, "")
        assert made.setdefault(result, repository) == repository


def row(**changes: Any) -> PlanRow:
    fields = {
        "migration": MIGRATION,
        "rule": 0,
        "action": "copy",
        "source": {"registry": "old", "repository": "a", "digest": digest("a")},
        "target": {"registry": "new", "repository": "b"},
        "tags": {"1": "1"},
    }
    return PlanRow.model_validate({**fields, **changes})


def test_a_row_from_a_plan_is_checked_against_the_catalogue() -> None:
    fakes = {"old": FakeSide("old", {}), "new": FakeSide("new", {})}
    uris = {"old": "old.example", "new": f"new.example/{'x' * 200}"}
    sides = Catalogue(fakes, uris, forbidden=["old.copy_to"])

    check_row(row(), sides)
    for changes, places in (
        ({"target": {"registry": "old", "repository": "b"}}, ["target.registry"]),
        ({"target": {"registry": "nwe", "repository": "b"}}, ["target.registry"]),
        ({"target": {"registry": "new", "repository": "b" * 60}}, ["target.repository"]),
        (
            {
                "source": {"registry": "quay.io", "repository": "a", "digest": digest("a")},
                "target": {"registry": "old", "repository": "b"},
            },
            ["source.registry", "target.registry"],
        ),
    ):
        with pytest.raises(SpecError) as caught:
            check_row(row(**changes), sides, what="line 7")
        assert [mistake.place for mistake in caught.value.mistakes] == places
        assert all(line.startswith("line 7: ") for line in str(caught.value).splitlines())
    assert fakes["old"].asked == fakes["new"].asked == Counter()
