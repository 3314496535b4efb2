"""What a case works on: its registry behind a server of its own, a source, and a real worker."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import docker

from tests.matrix.registries.kinds import NAMESPACE, RegistryKind, Running
from tests.matrix.registries.shapes import Shape
from tests.matrix.registries.wire import Wire, expect
from tests.support.images.engine_images import make_image
from tests.support.proxies.counting import Front
from tests.support.strict_registry.registry import StrictRegistry
from tests.support.workers.process import Site
from transship import Job, JobFailed, JobRecord, State
from transship.migrations import Migration, MigrationFailed
from transship.model.migration.plan import PlanRow
from transship.model.migration.record import MigrationRecord

#: The component of the stand-in that holds what is copied, and takes what is copied back.
OTHER: Final = "other"
#: No job may take longer. Unit: s.
JOB_S: Final = 300


class Refused(Exception):
    """The registry refused a job as it is known to do; the message is the error's code."""


@dataclass
class Ground:
    """One case on one registry."""

    case: str
    kind: RegistryKind
    running: Running
    #: Before the registry; its component in the catalog is ``component``.
    front: Front
    component: str
    other: StrictRegistry
    site: Site
    client: docker.DockerClient
    #: What a table should say of a case that passed.
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The case's repository below the namespace."""
        return self.case

    @property
    def repository(self) -> str:
        """The case's repository as registries call it."""
        return f"{NAMESPACE}/{self.name}"

    @property
    def wire(self) -> Wire:
        """Reads the registry."""
        return self.running.wire

    @property
    def other_wire(self) -> Wire:
        """Reads the stand-in."""
        return Wire(self.other.base)

    def target(self, tag: str = "v1", more: str = "") -> str:
        """A reference at the registry."""
        return f"{self.front.address}/{self.repository}{more}:{tag}"

    def fill(self, shape: Shape, more: str = "") -> None:
        """Put content into the registry, past the worker."""
        repository = self.repository + more
        self.running.creates(repository)
        shape.put(self.running.filler, repository)

    def hold(self, shape: Shape, more: str = "") -> str:
        """Let the stand-in have content; the repository's reference there."""
        shape.hold(self.other, self.repository + more)
        return f"{self.other.address}/{self.repository}{more}"

    def copy(
        self, shape: Shape, tag: str = "v1", *, more: str = "", attempts: int = 1, **options: Any
    ) -> JobRecord:
        """Copy an image of the stand-in to the registry, and compare all that arrived.

        Raises:
            Refused: As it is known to.
        """
        source = self.hold(shape)
        record = self.copied(f"{source}:{tag}", self.target(tag, more), **options)
        self.judge(record, attempts=attempts)
        expect(record.digest == shape.tags[tag], f"the job says {record.digest}")
        shape.check(self.wire, self.repository + more)
        return record

    def copied(self, source: str, target: str, **options: Any) -> JobRecord:
        """``transship copy`` by the worker, from one component to the other; its record."""
        names = {source.partition("/")[0], target.partition("/")[0]}
        expect(self.front.address in names, "the copy has nothing to do with the registry")
        into = target.startswith(self.front.address)
        options.setdefault("source_registry", OTHER if into else self.component)
        options.setdefault("target_registry", self.component if into else OTHER)
        return ended(self.site.client.copy(source, target, **options))

    def pushed(self, target: str, **options: Any) -> JobRecord:
        """``transship push`` by the worker; its record."""
        return ended(self.site.client.push(target, registry=self.component, **options))

    def image(self, *layers: int, tag: str = "v1") -> str:
        """Put an image into the engine under its name at the registry; its ID."""
        return make_image(self.client, self.target(tag), layers=layers)

    def judge(self, record: JobRecord, *, attempts: int = 1, skipped: bool = False) -> None:
        """Fail unless a job ended as it should on this registry.

        Raises:
            Refused: It was refused as it is known to be.
        """
        if code := self.kind.refusals.get(self.case):
            check_failed(record, code)
            raise Refused(code)
        check_succeeded(record, attempts=attempts, skipped=skipped)

    def migrate(self, *repositories: str, into: bool = True, **rule: Any) -> Migrated:
        """Run a migration of some repositories below the namespace."""
        return _migrated(self.site.client.migrate(self._spec(repositories, into, rule)))

    def plan(self, *repositories: str, into: bool = False, **rule: Any) -> Migrated:
        """Plan a migration, from the registry to the stand-in unless ``into``."""
        return _planned(self.site.client.plan(self._spec(repositories, into, rule)))

    def _spec(
        self, repositories: tuple[str, ...], into: bool, rule: Mapping[str, Any]
    ) -> dict[str, Any]:
        source, target = (OTHER, self.component) if into else (self.component, OTHER)
        wanted = {
            "from": {"registry": source, "repositories": list(repositories)},
            "to": {"registry": target, "repository": "{repository}"},
            **rule,
        }
        return {"version": 1, "name": self.case, "rules": [wanted]}

    def no_bytes(self) -> None:
        """Fail if the worker began an upload or wrote a manifest since the count began."""
        sent = [one for one in self.front.asked if one.method in {"POST", "PUT", "PATCH"}]
        expect(not sent, f"{len(sent)} writes, the first is {sent[0] if sent else ''}")


@dataclass(frozen=True)
class Migrated:
    """What came of a migration or a plan."""

    record: MigrationRecord
    rows: list[PlanRow]
    jobs: list[JobRecord]

    def succeeded(self) -> None:
        """Fail unless all of it did."""
        failed = [f"{job.error.code}: {job.error.message}" for job in self.jobs if job.error]
        told = [*self.record.failures, *failed]
        if self.record.error:
            told.append(f"{self.record.error.code}: {self.record.error.message}")
        expect(self.record.state is State.SUCCEEDED, f"{self.record.state}: {'; '.join(told)}")

    def warned(self, pattern: str) -> str:
        """The one warning that fits a pattern; fails unless there is exactly one."""
        found = [text for text in self.record.warnings if re.search(pattern, text)]
        expect(len(found) == 1, f"warnings: {self.record.warnings or 'none'}")
        return found[0]


def ended(job: Job) -> JobRecord:
    """A job's record at its end, also of one that failed."""
    try:
        return job.wait(JOB_S)
    except JobFailed:
        return job.record()


def _migrated(migration: Migration) -> Migrated:
    try:
        record = migration.wait(JOB_S)
    except MigrationFailed as error:
        record = error.record
    return Migrated(record, [], list(migration.jobs()))


def _planned(migration: Migration) -> Migrated:
    end = time.monotonic() + JOB_S

    def waiting(record: MigrationRecord) -> None:
        expect(time.monotonic() < end, f"the plan is {record.state} after {JOB_S} s")

    rows: list[PlanRow] = []
    # Its record says why.
    with suppress(MigrationFailed):
        rows.extend(migration.rows(waiting=waiting))
    return Migrated(migration.record(), rows, [])


def check_succeeded(record: JobRecord, *, attempts: int = 1, skipped: bool = False) -> None:
    """Fail unless a job succeeded with so many attempts."""
    why = f": {record.error.code}: {record.error.message}" if record.error else ""
    expect(record.state is State.SUCCEEDED, f"the job {record.state}{why}")
    expect(record.attempts == attempts, f"{record.attempts} attempts, not {attempts}{why}")
    expect(record.skipped is skipped, f"skipped is {record.skipped}")


def check_failed(record: JobRecord, code: str, *words: str, attempts: int = 1) -> None:
    """Fail unless a job failed for good at its first attempt, under a code, naming the words."""
    expect(record.state is State.FAILED, f"the job {record.state}, not failed with {code}")
    assert record.error is not None
    said = f"{record.error.code}: {record.error.message}"
    expect(record.error.code == code, f"not {code} but {said}")
    expect(not record.error.retryable, f"retryable: {said}")
    expect(record.attempts == attempts, f"{record.attempts} attempts: {said}")
    for word in words:
        expect(word in record.error.message, f"the message does not name {word}: {said}")
