"""A ledger of its own for one test, in the session's Redis."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from transship.ledger.connection import connect
from transship.ledger.keys import Keys
from transship.ledger.submit import Ledger
from transship.model.jobs import JobId
from transship.model.push_request import PushRequest
from transship.model.records import ErrorInfo, JobRecord, Progress
from transship.model.requests import parse_request
from transship_config.settings import Settings
from transship_worker.jobs.claim_results import Answer, Claim, ClaimResult, Finished, Found
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.reaper import Reaper

if TYPE_CHECKING:
    from transship.model.requests import Request

_numbers = itertools.count()

BROKEN = ErrorInfo(code="registry_unavailable", message="it broke", retryable=True)


@dataclass
class Bench:
    """Both sides of one ledger, without a broker: tests ring by calling ``claim``."""

    url: str
    settings: Settings = field(default_factory=lambda: Settings.from_environment({}))
    namespace: str = field(default_factory=lambda: f"test{next(_numbers)}")

    def __post_init__(self) -> None:
        self.keys = Keys(self.namespace)
        self.redis: redis.Redis = connect(self.url)
        self.ledger = self.producer("default")
        self.claims = self.worker("worker-1")

    def producer(self, account: str) -> Ledger:
        """The ledger as another Redis account sees it."""
        replicas = self.settings.wait_replicas
        return Ledger(self.redis, self.keys, account, self.url, wait_replicas=replicas)

    def worker(self, name: str) -> Claims:
        """The ledger as another worker sees it."""
        return Claims(self.redis, self.keys, self.settings, name)

    def submit(self, request: Request, account: str = "default") -> JobId:
        """Submit one request that is not deduplicated."""
        (submitted,) = self.producer(account).submit([request])
        assert not submitted.deduplicated
        return submitted.job

    def claim(self, job: JobId, claims: Claims | None = None) -> ClaimResult:
        """What a worker does when a bell for the job rings."""
        body = (claims or self.claims).read(job)
        if body.found is Found.READING:
            return ClaimResult(Answer.RUNNING, detail=body.worker)
        assert body.found is Found.READ, body
        request = parse_request(body.text)
        return (claims or self.claims).claim(job, request, engine="build-7", flavor="default")

    def claimed(self, job: JobId, claims: Claims | None = None) -> Claim:
        """A claim that must succeed."""
        result = self.claim(job, claims)
        assert result.claim is not None, result
        return result.claim

    def succeed(self, claim: Claim, digest: str = "sha256:" + "a" * 64) -> Finished:
        """Finish a claim as succeeded."""
        return self.claims.succeed(
            claim, digest=digest, skipped=False, progress=Progress(), warnings=[]
        )

    def record(self, job: JobId) -> JobRecord:
        """The job as people see it."""
        return self.ledger.record(job)

    def let_lease_end(self, job: JobId) -> None:
        """What the passing of time does, without waiting for it."""
        self.redis.hset(self.keys.job(job), "lease", "1")
        self.redis.zadd(self.keys.leases, {job: 1})

    def let_retry_come_due(self, job: JobId) -> None:
        """What the passing of time does, without waiting for it."""
        self.redis.hset(self.keys.job(job), "next_at", "1")

    def error_of(self, job: JobId) -> dict[str, object]:
        """The error of a job, as JSON would show it."""
        record = self.record(job)
        assert record.error is not None
        found: dict[str, object] = json.loads(record.error.model_dump_json())
        return found


def push_request(tag: str = "1", **changes: Any) -> PushRequest:
    """A push to one tag; ``changes`` are other fields."""
    fields = {"image": f"registry.example.com/ml/train:{tag}", "registry": "prod"} | changes
    return PushRequest.model_validate(fields)


class Bells:
    """Stands for the doorbell: remembers what was rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, bells: Any) -> None:
        self.rung += [bell.job for bell in list(bells)]

    def close(self) -> None:
        return


def sweep(bench: Bench) -> list[str]:
    """One sweep of a reaper; the jobs it rang for."""
    bells = Bells()
    keys = Keys(bench.namespace)
    Reaper(bench.redis, keys, bench.claims, bells, name="r", period_s=1).sweep()  # type: ignore[arg-type]
    return bells.rung
