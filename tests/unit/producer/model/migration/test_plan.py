"""What a planner answers: rows, their ids, collisions, sums; platforms and totals."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from transship.model.jobs import JobId
from transship.model.migration.mistakes import SpecError
from transship.model.migration.plan import LONGEST_ROW, MOST_TAGS, Action, PlanRow
from transship.model.migration.platforms import ARCHITECTURES, SYSTEMS, Platform
from transship.model.migration.summary import Collisions, PlanTally
from transship.model.migration.totals import ByteTotals, ImageTotals, MigrationTotals

MIGRATION = JobId.new()
DIGEST, OTHER = "sha256:" + "ab" * 32, "sha512:" + "cd" * 64
ROW: dict[str, Any] = {
    "version": 1,
    "migration": MIGRATION,
    "rule": 0,
    "action": "copy",
    "source": {"registry": "hub", "repository": "acme/cat", "digest": DIGEST},
    "target": {"registry": "ecr", "repository": "mirror/acme/cat"},
    "tags": {"v1": "v1", "latest": "v1"},
    "bytes": 1234,
    "media_type": "application/vnd.oci.image.index.v1+json",
}

_tag = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}\Z")
_repository = st.sampled_from(["a", "a/b", "mirror/x-y", "library/nginx"])
_platforms = st.builds(
    Platform.of,
    st.sampled_from(SYSTEMS),
    st.sampled_from(ARCHITECTURES),
    st.sampled_from(["", "v6", "v7", "v8", "v1", "v3"]),
    os_version=st.sampled_from(["", "10.0.17763"]),
)
_rows = st.builds(
    lambda tags, platforms, source, target, **other: PlanRow.model_validate(
        {
            **other,
            "migration": MIGRATION,
            "tags": tags,
            "platforms": platforms,
            "source": {"registry": "hub:5000", "repository": source, "digest": DIGEST},
            "target": {"registry": "ecr", "repository": target},
        }
    ),
    tags=st.dictionaries(_tag, _tag, min_size=1, max_size=4),
    platforms=st.lists(_platforms, max_size=2),
    source=_repository,
    target=_repository,
    rule=st.integers(0, 5),
    action=st.sampled_from(Action),
    bytes=st.integers(0, 2**60),
    referrers=st.booleans(),
    foreign_layers=st.sampled_from(["copy", "reference"]),
    creates=st.booleans(),
    hub_pulls=st.integers(0, 9),
    on_conflict=st.sampled_from(["skip", "overwrite", "fail"]),
    reason=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(list(ROW)) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def row(**changes: object) -> PlanRow:
    return PlanRow.parse(json.dumps({**ROW, **changes}))


@given(_rows)
def test_a_row_is_written_and_read_again(planned: PlanRow) -> None:
    line = planned.to_json()
    again = PlanRow.parse(line)

    assert again == planned
    assert again.id == planned.id
    assert again.to_json() == line
    assert "\n" not in line


def test_an_id_is_that_of_a_job_and_says_what_is_to_be_copied_only() -> None:
    first = row()

    assert JobId.parse(first.id) == first.id
    assert first.id[:8] == MIGRATION[:8]
    same = [
        row(action="skip", reason="there already", bytes=0, rule=3),
        row(tags={"latest": "v1", "v1": "v1"}),
        row(on_conflict="skip", creates=True, hub_pulls=2, media_type=""),
    ]
    assert {other.id for other in same} == {first.id}
    others = [
        row(migration=JobId.new("team")),
        row(source={**ROW["source"], "digest": OTHER}),
        row(source={**ROW["source"], "registry": "hub2"}),
        row(target={**ROW["target"], "repository": "mirror/cat"}),
        row(tags={"v1": "v1"}),
        row(tags={"v1": "v1", "latest": "v2"}),
        row(platforms=["linux/amd64"]),
        row(referrers=True),
    ]
    assert len({first.id, *(other.id for other in others)}) == len(others) + 1
    assert JobId.parse(others[0].id).account == "team"


@pytest.mark.parametrize(
    ("key", "value", "place", "says"),
    [
        ("version", 2, "version", "write 1"),
        ("migration", "x", "migration", "no migration's id"),
        ("rule", -1, "rule", "index of the rule"),
        ("action", "delete", "action", "one of copy, tag, skip, conflict"),
        ("source", {**ROW["source"], "digest": "sha256:12"}, "source.digest", "no digest"),
        ("source", {**ROW["source"], "repository": "../x"}, "source.repository", "no repository"),
        ("source", {**ROW["source"], "registry": "/etc"}, "source.registry", "no component"),
        ("target", {**ROW["target"], "registry": "e:5"}, "target.registry", "is no name"),
        ("target", {**ROW["target"], "url": "x"}, "target.url", "not known here"),
        ("tags", {"-a": "b"}, "tags.-a.[key]", "is no tag"),
        ("tags", ["a"], "tags", "is not a mapping"),
        ("tags", {f"t{n}": "t" for n in range(MOST_TAGS + 1)}, "tags", "at most 400"),
        ("bytes", -1, "bytes", "a number of bytes"),
        ("bytes", 2**61, "bytes", "a number of bytes"),
        ("bytes", "12", "bytes", "a number of bytes"),
        ("reason", "a\nb", "reason", "one line"),
        ("reason", "a" * 1001, "reason", "at most 1000"),
        ("platforms", ["linux"], "platforms[0]", "no platform"),
        ("extra", 1, "extra", "not known here"),
    ],
)
def test_a_row_from_a_stranger_is_checked(key: str, value: object, place: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        PlanRow.parse(json.dumps({**ROW, key: value}), what="line 3")
    (mistake,) = caught.value.mistakes

    assert mistake.place == place
    assert says in mistake.text
    assert str(caught.value).startswith(f"line 3: {place}: ")


def test_a_row_that_tags_names_a_tag() -> None:
    assert row(tags={}).tags == {}
    with pytest.raises(SpecError, match="needs at least one tag"):
        row(tags={}, action="tag")


@given(_json | st.dictionaries(st.sampled_from(list(ROW)), _json))
def test_whatever_json_is_read_only_a_spec_error_comes_of_it(data: object) -> None:
    for value in (data, {**ROW, **data} if isinstance(data, dict) else ROW | {"tags": data}):
        try:
            found = PlanRow.parse(json.dumps(value))
        except SpecError as error:
            assert all(line.isprintable() for line in str(error).split("\n"))
        else:
            assert PlanRow.parse(found.to_json()) == found


@pytest.mark.parametrize(
    "line", ["", "[" * 50_000, "x", b"\xff", '"\ud800"', "1" * LONGEST_ROW * 2]
)
def test_what_is_no_json_is_a_spec_error(line: str | bytes) -> None:
    with pytest.raises(SpecError):
        PlanRow.parse(line)


def test_a_plan_is_added_up() -> None:
    tally = PlanTally()
    for planned in (
        row(creates=True, hub_pulls=150),
        row(creates=True, hub_pulls=51, bytes=6),
        row(action="tag", bytes=50),
        row(action="skip", creates=True, hub_pulls=9),
        row(action="conflict"),
    ):
        tally.add(planned)
    summary = tally.summary(hub_limit=200)

    assert (summary.rows, summary.copy_rows, summary.tag_rows) == (5, 2, 1)
    assert (summary.skip_rows, summary.conflict_rows) == (1, 1)
    assert summary.bytes_to_move == 1240
    assert summary.repositories_to_create == ("ecr/mirror/acme/cat",)
    assert (summary.hub_pulls, summary.hub_windows) == (201, 2)
    assert tally.summary().hub_windows is None
    assert PlanTally().summary(hub_limit=100).hub_windows == 0


def test_two_rules_that_aim_at_one_tag_with_different_images_collide() -> None:
    collisions = Collisions()
    source = {"registry": "quay", "repository": "b/cat", "digest": OTHER}

    assert collisions.add(row()) == []
    assert collisions.add(row(rule=1)) == []
    assert collisions.add(row(rule=1, source=source, tags={"v2": "v2"})) == []
    (found,) = collisions.add(row(rule=2, source=source, tags={"v1": "x", "v2": "x"}))

    assert found.target == "ecr/mirror/acme/cat:v1"
    assert (found.first_rule, found.second_rule) == (0, 2)
    assert str(found.mistake) == (
        f"rules[2].to: aims quay/b/cat@{OTHER} at ecr/mirror/acme/cat:v1, where rules[0] puts "
        "sha256:abababababab…; give one of them another repository or tag"
    )
    assert len(collisions.add(row(platforms=["linux/amd64"]))) == 2


def test_two_names_of_one_place_collide_where_the_place_is_given() -> None:
    collisions = Collisions()
    other = {**ROW["source"], "digest": OTHER}
    inner = row(target={"registry": "inner", "repository": "acme/cat"}, source=other)

    assert collisions.add(row(), "ecr.example/mirror/acme/cat") == []
    found = collisions.add(inner, "ecr.example/mirror/acme/cat")
    assert [one.target for one in found] == [
        "ecr.example/mirror/acme/cat:latest",
        "ecr.example/mirror/acme/cat:v1",
    ]


def test_only_what_is_skipped_has_no_digest_and_it_contradicts_nothing() -> None:
    source = {"registry": "hub", "repository": "acme/cat"}
    unknown = row(source=source, action="skip")
    collisions = Collisions()

    assert unknown.source.digest == ""
    assert '"digest"' not in unknown.to_json()
    for action in ("copy", "tag", "conflict"):
        with pytest.raises(SpecError, match="needs the source's digest; write sha256:"):
            row(source=source, action=action)
    assert collisions.add(unknown) == collisions.add(row()) == collisions.add(unknown) == []


def test_a_blob_moves_once_to_each_registry_however_many_images_have_it() -> None:
    tally = PlanTally()
    for registry, blobs in (
        ("a.b", [(DIGEST, 1000), (OTHER, 200)]),
        ("a.b", [(DIGEST, 1000)]),
        ("c.d", [(DIGEST, 1000)]),
    ):
        tally.add(row(bytes=34 + sum(size for _, size in blobs)))
        tally.share(registry, blobs)
    tally.fail()

    assert tally.summary().bytes_to_move == 3 * 34 + 1200 + 1000
    assert tally.summary().failures == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12))
def test_collisions_are_found_in_whatever_order_rows_come(rows: list[tuple[int, int]]) -> None:
    collisions = Collisions()
    images: dict[int, int] = {}
    for tag, image in rows:
        source = {**ROW["source"], "digest": f"sha256:{image:064}"}
        found = collisions.add(row(source=source, tags={f"t{tag}": "x"}))
        assert bool(found) == (images.setdefault(tag, image) != image)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64:10.0.17763", "windows/amd64:10.0.17763"),
    ],
)
def test_platforms_are_normalised_as_docker_does(text: str, canonical: str) -> None:
    assert str(Platform.parse(text)) == canonical


@given(_platforms)
def test_a_platform_is_written_and_read_again(platform: Platform) -> None:
    assert Platform.parse(str(platform)) == platform
    assert platform.matches(platform)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("linux", "write os/arch"),
        ("linux/", "write os/arch"),
        ("linux/a/b/c", "write os/arch"),
        ("linus/amd64", "did you mean 'linux'"),
        ("linux/amd46", "did you mean 'amd64'"),
        ("linux/arm/v 7", "bad variant"),
        ("windows/amd64:x", "bad version"),
        ("windows/amd64:", "bad version"),
    ],
)
def test_a_platform_that_does_not_exist_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Platform.parse(text)


def test_a_platform_fits_the_same_platform_only() -> None:
    windows = Platform.parse("windows/amd64:10.0.17763")

    assert windows.matches(Platform.of("windows", "amd64", os_version="10.0.17763.4974"))
    assert not windows.matches(Platform.of("windows", "amd64", os_version="10.0.177631"))
    assert not windows.matches(Platform.of("windows", "amd64"))
    assert Platform.parse("windows/amd64").matches(windows)
    assert Platform.parse("linux/arm64").matches(Platform.of("linux", "aarch64", "v8"))
    assert not Platform.parse("linux/arm").matches(Platform.of("linux", "arm", "v6"))
    assert not Platform.parse("linux/amd64").matches(Platform.of("unknown", "unknown"))


def test_image_totals_add_up_or_are_refused() -> None:
    totals = ImageTotals.of(queued=3, running=1, succeeded=4, failed=1)

    assert (totals.planned, totals.finished, totals.unfinished) == (9, 5, 4)
    assert (totals + ImageTotals.of(skipped=1)).planned == 10
    with pytest.raises(ValidationError, match="must add up to planned"):
        ImageTotals(planned=2, queued=1)
    with pytest.raises(ValidationError):
        ImageTotals.of(queued=-1)


_counts = st.integers(0, 1000)


@given(st.lists(st.builds(ImageTotals.of, queued=_counts, running=_counts, failed=_counts)))
def test_totals_of_parts_add_up_to_the_whole(parts: list[ImageTotals]) -> None:
    whole = MigrationTotals()
    for part in parts:
        whole += MigrationTotals(images=part, bytes=ByteTotals(planned=9, moved=5, mounted=1))

    assert whole.images.planned == sum(part.planned for part in parts)
    assert whole.bytes == ByteTotals(
        planned=9 * len(parts), moved=5 * len(parts), mounted=len(parts)
    )
    assert (whole.bytes.settled, whole.bytes.left) == (6 * len(parts), 3 * len(parts))
    assert MigrationTotals.model_validate_json(whole.model_dump_json()) == whole


def test_bytes_left_are_never_negative() -> None:
    assert ByteTotals(planned=5, moved=4, present=3).left == 0


def test_a_row_of_very_many_mistakes_names_the_first_and_counts_the_others() -> None:
    row = {f"k{number}": 1 for number in range(1_500)}
    with pytest.raises(SpecError) as caught:
        PlanRow.parse(json.dumps(row))
    lines = str(caught.value).splitlines()
    assert len(lines) == 50
    assert re.search(r": and 14\d\d more mistakes$", lines[-1])
