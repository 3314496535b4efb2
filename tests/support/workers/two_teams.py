"""Team A with all that it has, and team B with a client that lies, at one fleet."""

from __future__ import annotations

import base64
import json
import time
import uuid
from typing import Any

import pytest

from tests.support.images.registry_images import image, noise, put_image, repository, with_pool
from tests.support.processes import eventually
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import rule, spec
from tests.support.workers.team_site import TEAM_A, TEAM_B, TeamSite
from transship import JobFailed, State
from transship.model.jobs import JobId
from transship_config.celery_settings import PUSH_TASK
from transship_config.lanes import queue_name

SECRET = noise(20_000, "a layer of team A")
PUSH_QUEUE = queue_name(bulk=False, engine=None)
#: Of an engine that nobody has.
NOBODY = "nobody"
NOBODYS_QUEUE = queue_name(bulk=False, engine=NOBODY)
DAY_MS = 24 * 3600 * 1000


class Liar:
    """Team B at Redis: nothing of the library checks what it writes."""

    def __init__(self, teams: TeamSite, account: str = TEAM_B) -> None:
        self.account = account
        self.keys, self.redis = teams.site.keys, teams.redis(account)
        self.client = teams.client(account)
        self.base = self.keys.account(account)

    def submit(
        self, request: dict[str, Any] | str, queue: str, *, target: str = "", job: str = ""
    ) -> JobId:
        """Write a request and all that belongs to it."""
        found = JobId(job) if job else JobId.new(self.account)
        text = request if isinstance(request, str) else json.dumps(request)
        now = time.time_ns() // 1_000_000
        pipe = self.redis.pipeline(transaction=False)
        pipe.set(f"{self.base}request:{found}", text)
        pipe.zadd(f"{self.base}queued", {found: now})
        pipe.zadd(f"{self.base}expiry", {found: now + DAY_MS})
        pipe.zadd(f"{self.base}due:{queue}", {found: now})
        pipe.zadd(f"{self.base}target:{target or 'x'}", {found: now * 1000})
        pipe.sadd(self.keys.accounts, self.account)
        pipe.execute()
        self.ring(found, queue)
        return found

    def ring(self, job: str, queue: str) -> None:
        """Put a bell for any job into a queue, as Celery does."""
        number = str(uuid.uuid4())
        body = base64.b64encode(json.dumps([[job], {}, {}]).encode()).decode()
        message = {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": PUSH_TASK, "id": number},
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_mode": 2,
                "delivery_tag": number,
                "priority": 0,
            },
        }
        self.redis.lpush(self.keys.queue(queue), json.dumps(message))

    def refusal(self, job: str) -> tuple[str, str]:
        """The code and message of a job that a worker ended."""
        record = eventually(
            lambda: found if (found := self.client.job(job).record()).state.final else None,
            within=60,
            what=f"an end of {job}",
        )
        assert record is not None
        assert record.state is State.FAILED
        assert record.error is not None
        assert record.digest is None
        return record.error.code, record.error.message


def push(image: str, **more: Any) -> dict[str, Any]:
    return {"version": 1, "image": image, "registry": "prod"} | more


def copy(scene: Scene, source: str, image: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "copy",
        "version": 1,
        "image": image,
        "registry": "prod",
        "source": source,
        "source_registry": "prod",
    } | more


class Scene:
    """A worker, and team A with an image, jobs in several states, and a migration."""

    def __init__(self, teams: TeamSite, prod: Registry, own: tuple[Registry, Registry]) -> None:
        self.teams, self.prod, self.a_own, self.b_own = teams, prod, *own
        self.a, self.b = teams.client(TEAM_A), Liar(teams)
        self.keys = teams.site.keys
        self.made = image(SECRET, config=b"{}")
        for registry in own:
            self._put(registry)
        # Before a worker hears of it: it stays as it is, for an engine that nobody has.
        later = self.of_a("later:1")
        waiting = push(later, engine=NOBODY)
        self.waiting = self.a.job(Liar(teams, TEAM_A).submit(waiting, NOBODYS_QUEUE, target=later))
        source = f"{self.a_own.address}/app:1"
        self.done = self.a.copy(source, self.of_a("app:1"), labels={"secret": "plan 9"})
        assert self.done.wait(60).digest == self.made.digest
        self.failed = self.a.copy(f"{self.a_own.address}/none:1", self.of_a("none:1"))
        with pytest.raises(JobFailed):
            self.failed.wait(60)
        self.migration = self.a.migrate(
            spec(rule(f"{TEAM_A}-own", "prod", "app") | self._to(f"{TEAM_A}/moved"), name="secret")
        )
        self.migration.wait(60)
        self.before = self.state()

    def _put(self, registry: Registry) -> None:
        async def put(pool: Any) -> None:
            place = repository(pool, registry.address, "app")
            await put_image(place, self.made, SECRET, b"{}", tag="1")

        with_pool(put)

    @staticmethod
    def _to(path: str) -> dict[str, Any]:
        return {"to": {"registry": "prod", "repository": path}}

    def of_a(self, name: str) -> str:
        return f"{self.prod.address}/{TEAM_A}/{name}"

    def of_b(self, name: str) -> str:
        return f"{self.prod.address}/{TEAM_B}/{name}"

    def state(self) -> dict[str, Any]:
        """All of team A's: records, events, the migration's report, and what is at ``prod``."""
        jobs = (self.waiting, self.done, self.failed)
        names = self.prod.get("_catalog").json()["repositories"]
        return {
            "records": [job.record() for job in jobs],
            "events": [[one.model_dump() for one in job.events(timeout=5)] for job in jobs[1:]],
            "migration": self.migration.record(),
            "report": self.migration.report().images,
            "tags": {
                name: {tag: self.prod.digest(name, tag) for tag in self.prod.list_tags(name)}
                for name in names
                if name.startswith(TEAM_A)
            },
        }

    def check(self) -> None:
        """Nothing of team A's changed."""
        assert self.state() == self.before
