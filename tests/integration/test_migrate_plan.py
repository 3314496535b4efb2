"""Planning over two real registries: what is there is found, and nothing is written."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.support.fleet.planner_readers import Catalogue, ClientSide, Remembered, catalogue
from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, make_manifest, stream
from tests.support.processes import free_port
from tests.support.servers.registry import Registry
from transship.errors import RegistryUnreachable, RepositoryMissing
from transship.model.jobs import JobId
from transship.model.migration.mistakes import SpecError
from transship.model.migration.plan import Action, PlanRow
from transship.model.migration.platforms import Platform
from transship.model.migration.specification import Spec
from transship_worker.migrate.plan import Planner
from transship_worker.migrate.rows import Batch
from transship_worker.oci import digests, manifests, uploads
from transship_worker.oci.descriptors import IMAGE_CONFIG, OCI_INDEX, Manifest, parse_manifest
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy.platforms import subset

pytestmark = pytest.mark.registry

MIGRATION = JobId.new()
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def target_registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@dataclass
class Plan:
    """What a planner gave."""

    planner: Planner
    batches: list[Batch] = field(default_factory=list)
    error: Exception | None = None

    @property
    def rows(self) -> list[PlanRow]:
        return [row for batch in self.batches for row in batch.rows]

    @property
    def by_tag(self) -> dict[str, tuple[Action, str]]:
        """Action and digest by ``repository:tag`` at the target."""
        return {
            f"{row.target.repository}:{tag}": (row.action, row.source.digest)
            for row in self.rows
            for tag in row.tags
        }

    @property
    def errors(self) -> list[str]:
        return [str(error) for batch in self.batches for error in batch.errors]

    @property
    def warnings(self) -> list[str]:
        return [*self.planner.warnings, *(one for b in self.batches for one in b.warnings)]


class Ground:
    """A source and a target registry, each with a folder of its own for one test."""

    def __init__(self, pool: ClientPool, sides: Catalogue) -> None:
        self.pool = pool
        self.sides = sides
        self.memory = Remembered()

    def at(self, name: str) -> ClientSide:
        side = self.sides.sides[name]
        assert isinstance(side, ClientSide)
        return side

    async def put(self, side: str, repository: str, *tags: str, note: str = "") -> str:
        """Write a small artifact, told apart by its note, under these tags."""
        image = make_manifest(annotations={"note": note})
        await self.write(side, repository, image, *tags)
        return image.digest

    async def write(self, side: str, repository: str, image: Manifest, *tags: str) -> None:
        place = self.at(side).client.repository(
            self.at(side).repository(repository).name, writing=True
        )
        for blob in image.blobs:
            data = EMPTY if blob.digest == EMPTY_DIGEST else BLOBS[blob.digest]
            opened = await uploads.start(place)
            await opened.finish(blob.digest, partial(stream, data), length=len(data))
        for tag in tags or (image.digest,):
            await manifests.put(place, tag, image)

    async def plan(self, *rules: dict[str, Any], **options: Any) -> Plan:
        spec = Spec.parse({"version": 1, "name": "test", "rules": rules})
        made = Plan(Planner(spec, MIGRATION, self.sides, self.memory, **options))
        try:
            async for batch in made.planner.rows():
                made.batches.append(batch)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            made.error = error
        return made


BLOBS: dict[str, bytes] = {}


def blob(data: bytes) -> dict[str, object]:
    digest = digests.digest_of(data)
    BLOBS[digest] = data
    return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}


def rule(*repositories: str, to: str = "{repository}", **others: Any) -> dict[str, Any]:
    return {
        "from": {"registry": others.pop("source", "old"), "repositories": list(repositories)},
        "to": {"registry": others.pop("target", "new"), "repository": to, **others.pop("at", {})},
        **others,
    }


@pytest.fixture
def at(pool: ClientPool, plain_registry: Registry, target_registry: Registry) -> Ground:
    """Fresh folders at both registries."""
    number = next(NUMBERS)
    new = f"{target_registry.address}/t{number}"
    sides = catalogue(
        pool,
        old=f"{plain_registry.address}/s{number}",
        new=new,
        also_new=new,
        inner=f"{new}/inner",
        away=f"127.0.0.1:{free_port()}",
    )
    return Ground(pool, sides)


async def test_a_target_without_the_repository_gets_all_of_it_one_row_a_digest(at: Ground) -> None:
    first = await at.put("old", "acme/cat", "1.0", "1", "latest", note="first")
    second = await at.put("old", "acme/cat", "0.9", note="second")
    plan = await at.plan(rule("acme/cat", to="m/{repository}"))

    assert plan.error is None
    assert [(row.action, row.source.digest, row.tags) for row in plan.rows] == [
        (Action.COPY, first, {"1": "1", "1.0": "1.0", "latest": "latest"}),
        (Action.COPY, second, {"0.9": "0.9"}),
    ]
    assert all(row.creates and row.target.repository == "m/acme/cat" for row in plan.rows)
    summary = plan.planner.summary
    assert (summary.rows, summary.copy_rows, summary.failures) == (2, 2, 0)
    assert summary.repositories_to_create == ("new/m/acme/cat",)
    again = await at.plan(rule("acme/cat", to="m/{repository}"))
    assert [row.id for row in again.rows] == [row.id for row in plan.rows]
    # In a repository that does not exist there is nothing to look for.
    assert at.at("new").asked["head"] == 0
    assert await at.at("new").tags("m/acme/cat", print) is None
    assert at.at("old").asked["manifest"] == at.at("old").asked["repositories"] == 0


async def test_what_is_there_is_skipped_and_a_present_image_is_only_tagged(at: Ground) -> None:
    same = await at.put("old", "cat", "1", "one", note="same")
    other = await at.put("old", "cat", "2", note="other")
    untagged = await at.put("old", "cat", "3", note="untagged")
    moved = await at.put("old", "cat", "4", note="moved")
    for tags, note in ((("1",), "same"), ((), "untagged"), (("4",), "before")):
        await at.put("new", "cat", *tags, note=note)
    await at.put("new", "cat", "5", note="the target's own")
    plan = await at.plan(rule("cat"))
    assert plan.by_tag == {
        # All tags of one digest stay together, so that the row's id stays the same.
        "cat:1": (Action.TAG, same),
        "cat:one": (Action.TAG, same),
        "cat:2": (Action.COPY, other),
        "cat:3": (Action.TAG, untagged),
        "cat:4": (Action.COPY, moved),
    }
    assert not any(row.creates for row in plan.rows)
    assert "another one is under 4" in {r.source.digest: r for r in plan.rows}[moved].reason

    await at.put("new", "cat", "one", note="same")
    half_way = await at.plan(rule("cat"))
    skipped = next(row for row in half_way.rows if row.action is Action.SKIP)
    assert skipped.tags == {"1": "1", "one": "one"}
    assert {row.id for row in half_way.rows} == {row.id for row in plan.rows}


@pytest.mark.parametrize(
    ("choice", "action", "says"),
    [
        ("overwrite", Action.TAG, "another one is under 2"),
        ("skip", Action.SKIP, "the target has another image under 2, which stays"),
        ("fail", Action.CONFLICT, "the target has another image under 2, and on_conflict is fail"),
    ],
)
async def test_a_tag_with_another_digest_is_what_the_rule_says(
    at: Ground, choice: str, action: Action, says: str
) -> None:
    await at.put("old", "cat", "1", "2", note="new")
    await at.put("new", "cat", "1", note="new")
    await at.put("new", "cat", "2", note="old")
    plan = await at.plan(rule("cat", on_conflict=choice))
    found = {tag: row for row in plan.rows for tag in row.tags}
    assert found["2"].action is action
    assert says in found["2"].reason
    assert found["1"].action is (Action.TAG if choice == "overwrite" else Action.SKIP)
    rows = plan.planner.summary
    assert rows.rows == rows.tag_rows + rows.skip_rows + rows.conflict_rows == len(plan.rows)


async def test_immutable_tags_that_the_target_has_are_not_looked_up_at_the_source(
    at: Ground,
) -> None:
    await at.put("old", "cat", "v1", "v2", "v3", "edge", note="new")
    await at.put("new", "cat", "v1", "v2", "edge", note="whatever")
    plan = await at.plan(rule("cat", immutable_tags=["^v"]))
    (unasked,) = (row for row in plan.rows if not row.source.digest)
    assert (unasked.action, unasked.tags) == (Action.SKIP, {"v1": "v1", "v2": "v2"})
    assert "not compared with the source" in unasked.reason
    assert PlanRow.parse(unasked.to_json()) == unasked
    assert at.at("old").asked["head"] == 2


async def test_a_pattern_takes_what_the_catalogue_names_and_selection_what_it_wants(
    at: Ground,
) -> None:
    for name in ("acme/cat", "acme/dog", "acme/deep/fox", "tools/ant"):
        await at.put("old", name, "1.0.0", "1.1.0", "2.0.0-rc.1", "sha256-" + "a" * 64)
    plan = await at.plan(
        rule("acme/*", "gone/*", to="m/{name}", tags={"semver": "1.x", "latest": 1}),
        rule("acme/**", "tools/ant", to="n/{repository}", tags={"include": ["rc"]}),
    )
    assert set(plan.by_tag) == {
        *("m/cat:1.1.0", "m/dog:1.1.0", "n/tools/ant:2.0.0-rc.1", "n/acme/cat:2.0.0-rc.1"),
        *("n/acme/dog:2.0.0-rc.1", "n/acme/deep/fox:2.0.0-rc.1"),
    }
    assert at.at("old").asked["repositories"] == 1
    assert plan.warnings == ["rules[0]: old has no repository gone/*"]
    assert all(batch.ready for batch in plan.batches)


async def test_a_name_that_does_not_exist_fails_alone(at: Ground) -> None:
    await at.put("old", "cat", "1")
    long = "x" * 100
    plan = await at.plan(
        rule("cat", "absent", f"long/{long}", to=f"{long}/{long}/{{name}}"), rule("cat")
    )
    assert plan.error is None
    assert len(plan.rows) == 2
    missing = next(e for b in plan.batches for e in b.errors if b.repository == "absent")
    assert isinstance(missing.error, RepositoryMissing)
    assert "old has no repository absent; correct its name" in str(missing)
    assert any("rules[0].to.repository: makes of" in error for error in plan.errors)
    assert plan.planner.summary.failures == len(plan.errors) == 2


async def test_sizes_count_each_blob_once_an_image_and_once_a_registry(at: Ground) -> None:
    shared, own = blob(b"s" * 5000), blob(b"o" * 300)
    images = [
        make_manifest(layers=[shared, shared]),
        make_manifest(layers=[shared, own]),
    ]
    children = []
    for image, name in zip(images, ("amd64", "arm64"), strict=True):
        await at.write("old", "cat", image)
        platform = {"os": "linux", "architecture": name}
        children.append(image.descriptor.as_json() | {"platform": platform})
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
    index = parse_manifest(json.dumps(data).encode(), what="made here")
    await at.write("old", "cat", index, "multi")
    await at.write("old", "cat", images[0], "amd64")
    plan = await at.plan(rule("cat"), sizes=True)
    sizes = {tag: row.bytes for row in plan.rows for tag in row.tags}
    amd64 = len(images[0].raw) + 2 + 5000
    both = len(index.raw) + sum(len(image.raw) for image in images) + 2 + 5000 + 300
    assert sizes == {"multi": both, "amd64": amd64}
    assert plan.planner.summary.bytes_to_move == both + amd64 - 5002

    one = await at.plan(rule("cat", platforms=["linux/arm64"]), sizes=True)
    sizes = {tag: row.bytes for row in one.rows for tag in row.tags}
    kept = subset(index, [Platform.parse("linux/arm64")], "")
    assert sizes["multi"] == len(kept.raw) + len(images[1].raw) + 2 + 5000 + 300
    assert sizes["amd64"] == amd64


async def test_a_manifest_that_an_index_names_twice_or_deeper_counts_once(at: Ground) -> None:
    image = make_manifest(layers=[blob(b"x" * 700)])
    await at.write("old", "cat", image)
    found = [image]
    # The second index has the first one and the image, each of them twice.
    for number in range(2):
        children = [one.descriptor.as_json() for one in (*found, *found)]
        data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        index = parse_manifest(json.dumps(data).encode(), what="made here")
        await at.write("old", "cat", index, f"depth{number}")
        found.append(index)
    plan = await at.plan(rule("cat", tags={"include": ["depth1"]}), sizes=True)
    (row,) = plan.rows
    assert row.bytes == sum(len(one.raw) for one in found) + 2 + 700
    assert at.at("old").asked["manifest"] == 3


async def test_a_platform_subset_is_compared_by_its_own_digest_and_remembered(at: Ground) -> None:
    children = []
    for name in ("amd64", "arm64"):
        image = make_manifest(annotations={"note": name})
        for side in ("old", "new"):
            await at.write(side, "cat", image)
        platform = {"os": "linux", "architecture": name}
        children.append(image.descriptor.as_json() | {"platform": platform})
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
    index = parse_manifest(json.dumps(data).encode(), what="made here")
    await at.write("old", "cat", index, "1", "2")
    left = subset(index, [Platform.parse("linux/arm64")], "")
    await at.write("new", "cat", left, "1", "2")
    mine = rule("cat", platforms=["linux/arm64"])

    (row,) = (await at.plan(mine)).rows
    assert (row.action, row.source.digest) == (Action.SKIP, index.digest)
    assert list(at.memory.subsets.values()) == [left.digest]
    assert at.at("old").asked["manifest"] == 1
    (row,) = (await at.plan(mine)).rows
    assert row.action is Action.SKIP
    assert at.at("old").asked["manifest"] == 1
    (row,) = (await at.plan(rule("cat"))).rows
    assert row.action is Action.COPY


async def test_an_image_that_is_no_index_must_be_for_the_platforms_of_its_rule(
    at: Ground,
) -> None:
    config = b'{"os":"linux","architecture":"amd64"}'
    entry = blob(config) | {"mediaType": IMAGE_CONFIG}
    image = make_manifest(config=entry)
    await at.write("old", "cat", image, "1")
    chart = await at.put("old", "chart", "1")
    amd64, arm = ["linux/amd64"], ["linux/arm"]
    (row,) = (await at.plan(rule("cat", platforms=amd64))).rows
    assert (row.action, row.source.digest) == (Action.COPY, image.digest)
    refused = await at.plan(rule("cat", platforms=arm))
    assert not refused.rows
    assert ["has no linux/arm/v7; it has linux/amd64" in one for one in refused.errors] == [True]
    # An artifact has no platform.
    (row,) = (await at.plan(rule("chart", platforms=arm))).rows
    assert (row.action, row.source.digest) == (Action.COPY, chart)


@pytest.mark.parametrize(
    ("target", "to"), [("new", "inner/{name}"), ("also_new", "inner/{name}"), ("inner", "{name}")]
)
async def test_two_rules_that_aim_at_one_tag_with_two_images_are_an_error(
    at: Ground, target: str, to: str
) -> None:
    await at.put("old", "a/cat", "1", "2", note="a")
    await at.put("old", "b/cat", "1", note="b")
    await at.put("old", "b/cat", "2", note="a")
    await at.put("old", "b/dog", "1", note="b")
    plan = await at.plan(
        rule("a/cat", to="inner/cat"), rule("b/*", to=to, target=target), rule("b/dog")
    )
    assert isinstance(plan.error, SpecError)
    (mistake,) = plan.error.mistakes
    assert mistake.keys[0] == "rules"
    assert "inner/cat:1, where rules[" in mistake.text
    assert "give one of them another repository or tag" in mistake.text
    # What collides with nothing was ready before, and what does never came.
    assert {batch.repository for batch in plan.batches} == {"b/dog"}


async def test_one_rule_can_collide_with_itself(at: Ground) -> None:
    for name in ("a/cat", "b/cat"):
        await at.put("old", name, "1", note=name)
    await at.put("old", "dog", "1", note="one")
    await at.put("old", "dog", "2", note="two")
    for mine, places in (
        (rule("*/cat", to="{name}"), ["cat:1"]),
        (rule("a/cat", "b/cat", to="{name}"), ["cat:1"]),
        (rule("dog", at={"tag": "stable"}), ["dog:stable"]),
    ):
        plan = await at.plan(mine)
        assert isinstance(plan.error, SpecError)
        assert plan.rows == []
        texts = [mistake.text for mistake in plan.error.mistakes]
        assert ["the same rule for another image" in text for text in texts] == [True]
        assert all(place in text for place, text in zip(places, texts, strict=True))


async def test_what_may_collide_and_does_not_comes_at_the_end(at: Ground) -> None:
    await at.put("old", "a/cat", "1", note="a")
    await at.put("old", "b/cat", "1", note="a")
    await at.put("old", "b/cat", "2", note="b")
    await at.put("old", "dog", "1")
    plan = await at.plan(
        rule("a/cat", to="{name}"), rule("b/cat", to="{name}"), rule("dog", to="{name}")
    )
    assert plan.error is None
    assert [(batch.repository, batch.ready) for batch in plan.batches] == [
        ("dog", True),
        ("a/cat", False),
        ("b/cat", False),
    ]
    assert plan.planner.summary.rows == len(plan.rows) == 4


async def test_a_registry_that_does_not_answer_ends_the_plan_for_now(at: Ground) -> None:
    await at.put("old", "cat", "1")
    plan = await at.plan(rule("cat", target="away"))
    assert isinstance(plan.error, RegistryUnreachable)
    assert plan.rows == []
