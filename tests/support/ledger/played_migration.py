"""A worker's part in a migration, played by the test through the worker's own scripts.

Nothing is planned and nothing is copied here: the test says what the planning found and what
became of each image. All that producers read is written as a real worker writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.support.ledger.bench import Bench
from transship.model.copy_request import CopyRequest
from transship.model.jobs import JobId
from transship.model.migration.plan import PlanRow
from transship.model.migration.summary import PlanTally
from transship.model.records import ErrorInfo, Progress
from transship.model.references import ImageReference
from transship_worker.jobs.claim_results import Claim, Row

DENIED = ErrorInfo(code="denied", message="no right to push", retryable=False)
SPEC = {
    "version": 1,
    "name": "hub-to-prod",
    "rules": [
        {
            "from": {"registry": "hub", "repositories": ["acme/cat"]},
            "to": {"registry": "prod", "repository": "mirror/{repository}"},
        }
    ],
}
SPEC_YAML = """\
version: 1
name: hub-to-prod
rules:
  - from: {registry: hub, repositories: ["acme/cat"]}
    to: {registry: prod, repository: "mirror/{repository}"}
"""


def digest(number: int) -> str:
    """A digest that no other number has."""
    return f"sha256:{number:064x}"


def row(migration: str, number: int, **more: object) -> PlanRow:
    """A row of a plan that copies ``acme/cat:vNUMBER``."""
    return PlanRow.model_validate(
        {
            "migration": migration,
            "rule": 0,
            "action": "copy",
            "source": {"registry": "hub", "repository": "acme/cat", "digest": digest(number)},
            "target": {"registry": "prod", "repository": "mirror/acme/cat"},
            "tags": {f"v{number}": f"v{number}"},
            "bytes": 100,
            **more,
        }
    )


@dataclass
class Planning:
    """The claim of a migration's planning, and its images."""

    bench: Bench
    migration: JobId
    claim: Claim = field(init=False)

    def __post_init__(self) -> None:
        self.claim = self.bench.claimed(self.migration)

    def images(self, count: int, *, skipped: int = 0, size: int = 100) -> list[JobId]:
        """Make so many images known that are to be copied, and some that need nothing."""
        jobs = [JobId.new(self.migration.account) for _ in range(count)]
        rows = [Row(job, self._request(number, size)) for number, job in enumerate(jobs, 1)]
        rows += [Row(JobId.new(self.migration.account), None, 1) for _ in range(skipped)]
        held, _ = self.bench.claims.add_rows(self.claim, rows)
        assert held
        return jobs

    def _request(self, number: int, size: int) -> CopyRequest:
        return CopyRequest(
            image=ImageReference.parse(f"registry.example.com/ml/cat:v{number}"),
            registry="prod",
            source=ImageReference.parse(f"docker.io/acme/cat@{digest(number)}"),
            source_registry="hub",
            migration=self.migration,
            size=size,
        )

    def end(self, rows: Iterable[PlanRow] = (), **fields: str) -> None:
        """All rows are known."""
        tally = PlanTally()
        for one in rows:
            tally.add(one)
        summary = {"summary": tally.summary().model_dump_json()}
        assert self.bench.claims.all_planned(self.claim, summary | fields)
        self.bench.succeed(self.claim, digest="")

    def fail(self, error: ErrorInfo = DENIED) -> None:
        """The planning fails for good."""
        self.bench.claims.fail(self.claim, error)

    def give(self, rows: Sequence[PlanRow]) -> None:
        """Put rows where the producer takes them out."""
        lines = [one.to_json() for one in rows]
        self.bench.redis.rpush(self.bench.keys.plan(self.migration), *lines)


def copied(
    bench: Bench,
    job: JobId,
    *,
    moved: int = 0,
    mounted: int = 0,
    present: int = 0,
    warnings: Sequence[str] = (),
) -> None:
    """Be the worker that copies an image."""
    done = moved + mounted + present
    progress = Progress(
        bytes_done=done, bytes_total=done, bytes_mounted=mounted, bytes_present=present
    )
    finished = bench.claims.succeed(
        bench.claimed(job),
        digest=digest(7),
        skipped=False,
        progress=progress,
        warnings=list(warnings),
    )
    assert finished.accepted


def failed(bench: Bench, job: JobId, error: ErrorInfo = DENIED) -> None:
    """Be the worker that cannot copy an image."""
    assert bench.claims.fail(bench.claimed(job), error).accepted
