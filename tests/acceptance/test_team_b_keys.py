"""Team B uses ids, keys and targets of team A, with its narrow account of Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.support.processes import eventually
from tests.support.workers.team_site import TEAM_A, TEAM_B
from tests.support.workers.two_teams import (
    DAY_MS,
    NOBODY,
    NOBODYS_QUEUE,
    PUSH_QUEUE,
    Scene,
    copy,
    push,
)
from transship import Client, TransshipError
from transship.ledger.functions import Functions
from transship.model.jobs import JobId
from transship_config.lanes import COPY_QUEUE, PLAN_QUEUE

pytestmark = [
    pytest.mark.redis,
    pytest.mark.registry,
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("unharmed"),
]


def test_bells_wishes_and_requests_with_ids_of_team_a(scene: Scene) -> None:
    for job in (scene.waiting, scene.done, scene.failed):
        for queue in (PUSH_QUEUE, COPY_QUEUE, PLAN_QUEUE):
            scene.b.ring(job.id, queue)
        # Under its own prefix it may write what it likes.
        for wish in ("cancel", "retry"):
            scene.b.redis.set(f"{scene.b.base}{wish}:{job.id}", "1")
        request = push(scene.of_b("x:1"))
        scene.b.submit(request, PUSH_QUEUE, job=job.id, target=scene.of_a("later:1"))
    scene.b.ring(str(scene.migration.id), PLAN_QUEUE)

    # Whatever was rung before is answered when this is.
    mine = copy(scene, f"{scene.b_own.address}/app:1", scene.of_b("after:1"))
    good = scene.b.submit(mine | {"source_registry": "team-b-own"}, COPY_QUEUE)
    assert scene.b.client.job(good).wait(60).digest == scene.made.digest
    queues = [scene.keys.queue(name) for name in (PUSH_QUEUE, COPY_QUEUE, PLAN_QUEUE)]
    admin = scene.teams.redis("admin")
    eventually(lambda: not any(map(admin.llen, queues)), what="queues without a bell")


def test_the_functions_do_nothing_to_team_a(scene: Scene) -> None:
    theirs = scene.keys.account(TEAM_A)
    functions = Functions(scene.b.redis, scene.keys)
    job, target = scene.waiting.id, scene.of_a("later:1")
    calls: list[tuple[str, list[str | int]]] = [
        ("cancel", [theirs, job, PUSH_QUEUE, 60, target]),
        (
            "retry",
            [theirs, scene.failed.id, COPY_QUEUE, target, 1, scene.keys.job(scene.failed.id)],
        ),
        (
            "submit",
            [
                *(theirs, scene.keys.accounts, scene.keys.known_accounts, TEAM_A),
                *(JobId.new(TEAM_A), json.dumps(push(scene.of_b("x:1"))), PUSH_QUEUE),
                *(target, "", DAY_MS, 1),
            ],
        ),
    ]
    for name, arguments in calls:
        with pytest.raises(redis.ResponseError, match="can't access at least one of the keys"):
            scene.b.redis.fcall(functions.name(name), 0, *arguments)


def test_nothing_of_team_a_can_be_read(scene: Scene) -> None:
    keys, job, theirs = scene.keys, scene.done.id, scene.keys.account(TEAM_A)
    versions = [one.rights_version for one in scene.b.client.fleet().workers]
    reads: list[Callable[[redis.Redis], Any]] = [
        lambda r: r.get(f"{theirs}request:{job}"),
        lambda r: r.zrange(f"{theirs}queued", 0, -1),
        lambda r: r.zrange(f"{theirs}target:{scene.of_a('app:1')}", 0, -1),
        lambda r: r.hgetall(keys.job(job)),
        lambda r: r.hget(keys.job(job), "labels"),
        lambda r: r.xread({keys.events(job): 0}),
        lambda r: r.hgetall(keys.migration(scene.migration.id)),
        lambda r: r.zrange(keys.migration_jobs(scene.migration.id), 0, -1),
        lambda r: r.zrange(f"{keys.prefix}of:{TEAM_A}:state:succeeded", 0, -1),
        lambda r: r.zrange(f"{keys.prefix}of:{TEAM_A}:migrations", 0, -1),
        lambda r: r.get(f"{keys.prefix}rights:{TEAM_A}:{versions[0]}"),
        lambda r: r.zrange(keys.blob(scene.prod.address, scene.made.layers[0].digest), 0, -1),
        lambda r: r.keys("*"),
        lambda r: r.scan(0),
        lambda r: r.lrange(keys.queue(PUSH_QUEUE), 0, -1),
    ]
    for number, read in enumerate(reads):
        with pytest.raises(redis.ResponseError) as caught:
            read(scene.b.redis)
        assert "permission" in str(caught.value).lower(), number
    # Its own rights, and no other's.
    own = scene.b.redis.get(f"{keys.prefix}rights:{TEAM_B}:{versions[0]}")
    assert own
    assert TEAM_A not in str(own)


def test_the_honest_client_of_team_b_shows_nothing_of_team_a(scene: Scene) -> None:
    client: Client = scene.b.client

    for job in (scene.waiting, scene.done, scene.failed):
        for ask in (
            lambda job=job: client.job(job.id).record(),
            lambda job=job: list(client.job(job.id).events(timeout=1)),
            lambda job=job: client.job(job.id).cancel(),
            lambda job=job: client.job(job.id).retry(),
        ):
            with pytest.raises(TransshipError) as caught:
                ask()
            assert "plan 9" not in str(caught.value)
    for look in (
        lambda: client.migration(scene.migration.id).record(),
        lambda: client.migration(scene.migration.id).report(),
        lambda: client.migration(scene.migration.id).cancel(),
        lambda: list(client.migration(scene.migration.id).jobs()),
    ):
        with pytest.raises(TransshipError):
            look()
    assert {one.id[21:] for one in client.jobs(limit=1000)} <= {TEAM_B}
    assert all(one.id.endswith(TEAM_B) for one in client.migrations())


def test_jobs_of_team_a_run_whatever_team_b_puts_before_their_target(scene: Scene) -> None:
    """A request for team A's target that no worker takes, and one that nobody can read."""
    target = scene.of_a("held-up:1")
    for request in (push(target, engine=NOBODY), push(target, registry="nowhere"), "no JSON"):
        scene.b.submit(request, NOBODYS_QUEUE, target=target)

    job = scene.a.copy(f"{scene.a_own.address}/app:1", target)

    assert job.wait(60).digest == scene.made.digest
    scene.before = scene.state()
