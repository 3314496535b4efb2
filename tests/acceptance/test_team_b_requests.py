"""Team B writes requests by hand: against everything of team A, with a client that lies.

Team B has its narrow account of Redis. Real workers, whose catalog gives each team its part of one
registry, answer it. After each test all of team A's is as it was (``unharmed``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import docker
import pytest

from tests.support.images.engine_images import make_image
from tests.support.processes import eventually
from tests.support.workers.copy_site import rule, spec
from tests.support.workers.team_site import GATEWAY, TEAM_A, TEAM_B
from tests.support.workers.two_teams import PUSH_QUEUE, Liar, Scene, copy, push
from transship.model.jobs import JobId
from transship.model.migration.plan import PlanRow
from transship.model.rights import Grants
from transship_config.lanes import COPY_QUEUE, PLAN_QUEUE

pytestmark = [
    pytest.mark.redis,
    pytest.mark.registry,
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("unharmed"),
]

#: What a request is made of, and why it is refused.
Made = Callable[[Scene], dict[str, Any]]
NO_PUSH = "account team-b may not push to {}; it may push to prod/team-b/**"
NO_COPY_TO = "account team-b may not copy to {}; it may copy to prod/team-b/**, team-b-own"
NO_COPY_FROM = "account team-b may not copy from {}; it may copy from prod/team-b/**, team-b-own"


PUSHES: dict[str, tuple[Made, str, str]] = {
    "to team A": (
        lambda s: push(s.of_a("app:1")),
        "not_allowed",
        NO_PUSH.format("prod/team-a/app"),
    ),
    "to the registry's own level": (
        lambda s: push(f"{s.prod.address}/app:1"),
        "not_allowed",
        NO_PUSH.format("prod/app"),
    ),
    "to a name that only begins like its own": (
        lambda s: push(f"{s.prod.address}/team-b-more/app:1"),
        "not_allowed",
        NO_PUSH.format("prod/team-b-more/app"),
    ),
    "to team A by its own registry's name": (
        lambda s: push(s.of_a("app:1"), registry="team-b-own"),
        "not_allowed",
        "which is not under",
    ),
    "to a registry that it may only copy to": (
        lambda s: push(f"{s.b_own.address}/x:1", registry="team-b-own"),
        "not_allowed",
        NO_PUSH.format("team-b-own/x"),
    ),
    "by a digest of team A": (
        lambda s: push(s.of_a(f"app@{s.made.digest}")),
        "invalid_request",
        "",
    ),
    "by a wildcard for the registry": (
        lambda s: push(s.of_a("app:1"), registry="*"),
        "invalid_request",
        "registry",
    ),
    "by a pattern for the registry": (
        lambda s: push(s.of_a("app:1"), registry="prod/**"),
        "invalid_request",
        "registry",
    ),
    "by a wildcard for the repository": (
        lambda s: push(f"{s.prod.address}/**:1"),
        "invalid_request",
        "image",
    ),
    "by a way up": (
        lambda s: push(f"{s.prod.address}/team-b/../team-a/app:1"),
        "invalid_request",
        "image",
    ),
    "by an encoded way": (
        lambda s: push(f"{s.prod.address}/team-b%2F..%2Fteam-a/app:1"),
        "invalid_request",
        "image",
    ),
    "with an account in the request": (
        lambda s: push(s.of_a("app:1"), account=TEAM_A),
        "invalid_request",
        "account",
    ),
    "with rights in the request": (
        lambda s: push(s.of_a("app:1"), rights={"push": ["prod"]}),
        "invalid_request",
        "rights",
    ),
    "on behalf of team A": (
        lambda s: push(s.of_a("app:1"), version=2, on_behalf_of={"account": TEAM_A}),
        "not_allowed",
        "account team-b may not submit on behalf of team-a; it may for nobody",
    ),
    "on behalf of itself": (
        lambda s: push(s.of_b("app:1"), version=2, on_behalf_of={"account": TEAM_B}),
        "not_allowed",
        "may not submit on behalf of team-b",
    ),
    "on behalf of the gateway": (
        lambda s: push(s.of_a("app:1"), version=2, on_behalf_of={"account": GATEWAY}),
        "not_allowed",
        "may not submit on behalf of ci-gateway",
    ),
    "on behalf of nobody known, with a scope of everything": (
        lambda s: push(
            s.of_a("app:1"),
            version=2,
            on_behalf_of={"account": "root", "scope": {"push": ["prod"]}},
        ),
        "not_allowed",
        "may not submit on behalf of root",
    ),
    "on behalf of a wildcard": (
        lambda s: push(s.of_a("app:1"), version=2, on_behalf_of={"account": "*"}),
        "invalid_request",
        "account",
    ),
}


@pytest.mark.parametrize("case", PUSHES)
def test_a_push_written_by_hand(scene: Scene, case: str) -> None:
    made, code, message = PUSHES[case]
    request = made(scene)

    job = scene.b.submit(request, PUSH_QUEUE, target=str(request["image"]))

    found = scene.b.refusal(job)
    assert found[0] == code
    assert message in found[1]


COPIES: dict[str, tuple[Made, str, str]] = {
    "from team A": (
        lambda s: copy(s, s.of_a("app:1"), s.of_b("loot:1")),
        "not_allowed",
        NO_COPY_FROM.format("prod/team-a/app"),
    ),
    "from team A by its digest": (
        lambda s: copy(s, s.of_a(f"app@{s.made.digest}"), s.of_b("loot:1")),
        "not_allowed",
        NO_COPY_FROM.format("prod/team-a/app"),
    ),
    "from team A to its own registry": (
        lambda s: copy(s, s.of_a("app:1"), f"{s.b_own.address}/loot:1", registry="team-b-own"),
        "not_allowed",
        NO_COPY_FROM.format("prod/team-a/app"),
    ),
    "from the registry of team A": (
        lambda s: copy(
            s, f"{s.a_own.address}/app:1", s.of_b("loot:1"), source_registry="team-a-own"
        ),
        "not_allowed",
        NO_COPY_FROM.format("team-a-own/app"),
    ),
    "from team A by the name of its own registry": (
        lambda s: copy(s, s.of_a("app:1"), s.of_b("loot:1"), source_registry="team-b-own"),
        "not_allowed",
        "which is not under",
    ),
    "from team A by its host": (
        lambda s: copy(s, s.of_a("app:1"), s.of_b("loot:1"), source_registry=s.prod.address),
        "",
        "",
    ),
    "to team A": (
        lambda s: copy(
            s, f"{s.b_own.address}/app:1", s.of_a("app:1"), source_registry="team-b-own"
        ),
        "not_allowed",
        NO_COPY_TO.format("prod/team-a/app"),
    ),
    "to team A by a further tag of a name": (
        lambda s: copy(
            s,
            f"{s.b_own.address}/app:1",
            s.of_b("app:1"),
            source_registry="team-b-own",
            more_tags=["../../team-a/app:2"],
        ),
        "invalid_request",
        "more_tags",
    ),
    "as a part of team A's migration": (
        lambda s: copy(
            s,
            s.of_a("app:1"),
            s.of_b("loot:1"),
            migration=str(s.migration.id),
            creates=True,
        ),
        "not_allowed",
        NO_COPY_FROM.format("prod/team-a/app"),
    ),
    "on behalf of team A": (
        lambda s: copy(
            s, s.of_a("app:1"), s.of_b("loot:1"), on_behalf_of={"account": TEAM_A, "subject": "a"}
        ),
        "not_allowed",
        "may not submit on behalf of team-a",
    ),
}


@pytest.mark.parametrize("case", [name for name, (_, code, _) in COPIES.items() if code])
def test_a_copy_written_by_hand(scene: Scene, case: str) -> None:
    made, code, message = COPIES[case]
    request = made(scene)

    job = scene.b.submit(request, COPY_QUEUE, target=str(request["image"]))

    found = scene.b.refusal(job)
    assert found[0] == code
    assert message in found[1]
    assert scene.prod.list_tags(f"{TEAM_B}/loot") == []


def test_a_source_that_no_catalog_names_is_left_alone(scene: Scene) -> None:
    """A host that is no anonymous source: another worker's catalog might have it."""
    request = COPIES["from team A by its host"][0](scene)
    job = scene.b.submit(request, COPY_QUEUE, target="x")
    mine = copy(scene, f"{scene.b_own.address}/app:1", scene.of_b("good:1"))

    good = scene.b.submit(mine | {"source_registry": "team-b-own"}, COPY_QUEUE)

    assert scene.b.client.job(good).wait(60).digest == scene.made.digest
    assert scene.b.client.job(job).record().attempts == 0
    assert scene.prod.list_tags(f"{TEAM_B}/loot") == []
    scene.b.client.job(job).cancel()


def test_labels_of_team_a_are_not_those_of_its_jobs(scene: Scene) -> None:
    request = copy(scene, f"{scene.b_own.address}/app:1", scene.of_b("labelled:1"))
    request |= {"source_registry": "team-b-own", "labels": {"team": TEAM_A, "other": "kept"}}

    job = scene.b.submit(request, COPY_QUEUE)

    record = scene.b.client.job(job).wait(60)
    assert record.labels == {"team": TEAM_B, "other": "kept"}
    assert record.submitted_by == TEAM_B


def plan_rows(scene: Scene, migration: str) -> list[PlanRow]:
    """Rows that nobody planned, from and to team A."""
    made = []
    for source, target in (
        (f"{TEAM_A}/app", f"{TEAM_B}/loot"),
        (f"{TEAM_B}/mine", f"{TEAM_A}/app"),
    ):
        row = {
            "version": 1,
            "migration": migration,
            "rule": 0,
            "action": "copy",
            "source": {"registry": "prod", "repository": source, "digest": scene.made.digest},
            "target": {"registry": "prod", "repository": target},
            "tags": {"1": "1"},
        }
        made.append(PlanRow.parse(json.dumps(row)))
    return made


@pytest.mark.parametrize("named", ["its own", "team A's"])
def test_rows_of_a_plan_written_by_hand(scene: Scene, named: str) -> None:
    job = JobId.new(TEAM_B)
    rows = plan_rows(scene, job if named == "its own" else str(scene.migration.id))
    for row in rows:
        scene.b.redis.rpush(f"{scene.b.base}rows:{job}", row.to_json())
    request = {"kind": "migration", "version": 1, "name": "loot", "mode": "run", "rows": len(rows)}

    scene.b.submit(request, PLAN_QUEUE, job=job)

    migration = scene.b.client.migration(job)
    eventually(lambda: migration.record().state.final, within=60, what="an end")
    record = migration.record()
    assert record.images.succeeded == 0
    assert record.images.failed == 2
    found = [one.error for one in migration.jobs()]
    assert [error.code for error in found if error] == ["not_allowed", "not_allowed"]
    assert scene.prod.list_tags(f"{TEAM_B}/loot") == []


def test_a_specification_written_by_hand_names_nothing_of_team_a(scene: Scene) -> None:
    """A plan of all that is at ``prod`` has what team B may read, and no more."""
    rules = spec(rule("prod", "team-b-own", "**", "team-*/**"), name="all")
    request = {"kind": "migration", "version": 1, "name": "all", "mode": "run", "spec": rules}

    job = scene.b.submit(request, PLAN_QUEUE)

    migration = scene.b.client.migration(job)
    eventually(lambda: migration.record().state.final, within=60, what="an end")
    said = migration.record().model_dump_json()
    said += json.dumps([one.model_dump(mode="json") for one in migration.jobs()])
    assert TEAM_A not in said
    assert scene.b_own.list_tags(f"{TEAM_A}/app") == []


def test_an_image_of_team_a_in_the_engine(scene: Scene, docker_client: docker.DockerClient) -> None:
    theirs = scene.of_a("in-engine:1")
    image_id = make_image(docker_client, theirs)

    for source in (theirs, image_id, image_id.removeprefix("sha256:")[:20]):
        request = push(scene.of_b("loot:1"), source=source)
        code, message = scene.b.refusal(scene.b.submit(request, PUSH_QUEUE))
        assert code == "not_allowed"
        assert TEAM_A not in message

    assert docker_client.images.get(image_id).tags == [theirs]


def test_a_rights_change_ends_what_waits_for_a_retry(scene: Scene) -> None:
    """A job that was allowed when it failed is checked again when it is tried again."""
    source = copy(scene, f"{scene.b_own.address}/later:1", scene.of_b("later:1"))
    job = scene.b.submit(source | {"source_registry": "team-b-own"}, COPY_QUEUE)
    assert scene.b.refusal(job)[0] == "image_not_found"
    # Its own request, which it may write: now it names team A.
    forged = copy(scene, scene.of_a("app:1"), scene.of_b("later:1"))
    scene.b.redis.set(f"{scene.b.base}request:{job}", json.dumps(forged))

    scene.b.client.job(job).retry()

    eventually(
        lambda: scene.b.client.job(job).record().error.code == "not_allowed",  # type: ignore[union-attr]
        within=60,
        what="a refusal of the retry",
    )


def test_the_gateway_of_team_a_cannot_be_used_for_more_than_its_scope(scene: Scene) -> None:
    """The gateway itself may do nothing; for team A it may no more than the scope says."""
    gateway = Liar(scene.teams, GATEWAY)
    scope = Grants.of({"copy_from": ["team-a-own"], "copy_to": [f"prod/{TEAM_A}/by-gateway"]})
    named = {"account": TEAM_A, "subject": "ann", "scope": scope.as_json()}
    request = copy(scene, f"{scene.a_own.address}/app:1", scene.of_a("by-gateway:1"))
    request |= {"source_registry": "team-a-own"}

    code, message = gateway.refusal(gateway.submit(request, COPY_QUEUE))
    assert (code, "account ci-gateway may not" in message) == ("not_allowed", True)
    other = request | {"image": scene.of_a("app:2"), "on_behalf_of": named}
    code, message = gateway.refusal(gateway.submit(other, COPY_QUEUE))
    assert code == "not_allowed"
    assert "the request's scope has prod/team-a/by-gateway" in message
    record = gateway.client.job(gateway.submit(request | {"on_behalf_of": named}, COPY_QUEUE))
    assert record.wait(60).submitted_by == "ci-gateway for team-a/ann"
    # A narrow scope is served from what that scope brought, not from all of team A's.
    assert record.record().progress.bytes_mounted == 0
    scene.before = scene.state()
