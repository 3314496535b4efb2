"""What Redis holds of migrations, as a producer reads it: totals, jobs, rows of plans.

The totals are the workers' to write. A migration that none of them began has no totals yet, so
the job of its planning says how it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import ValidationError
from redis.exceptions import NoPermissionError

from transship.errors import UnknownJob
from transship.ledger.connection import reaching
from transship.ledger.stored_jobs import sentences
from transship.ledger.stored_requests import value
from transship.model.jobs import JobId, Kind, State, names_job
from transship.model.migration.plan import PlanRow
from transship.model.migration.record import ImageWarnings, MigrationRecord
from transship.model.migration.request import Mode
from transship.model.migration.summary import PlanSummary
from transship.model.migration.totals import ByteTotals, ImageTotals
from transship.model.records import ErrorInfo, JobRecord, when
from transship.model.requests import LONGEST_GLIMPSE, mode_of
from transship_config.lanes import BULK_COPY_QUEUE, PLAN_QUEUE

if TYPE_CHECKING:
    import redis

    from transship.ledger.keys import Keys
    from transship.ledger.submit import Ledger

#: Jobs read in one round trip.
PAGE: Final = 200
#: Planned rows that are taken out at once.
ROWS: Final = 500
#: Images whose warnings are looked for, and warnings that are named.
WARNED_MOST: Final = 100_000
WARNED_NAMED: Final = 5
#: Jobs that wait to be rung, of which some may be retried ones of a migration that seems over.
ASKED_MOST: Final = 5_000

_IMAGES: Final = (
    *("queued", "running", "retrying", "succeeded", "skipped", "failed", "cancelled"),
)
_BYTES: Final = ("planned", "moved", "mounted", "present")


@dataclass(frozen=True, slots=True)
class StoredMigration:
    """What Redis holds of one migration; absent parts are ``None`` or empty."""

    fields: Mapping[str, str]
    planning: JobRecord | None
    #: The beginning of its request, untrusted; empty: none, or not needed.
    head: str = ""
    #: Failed images that were asked to be tried again, which no worker heard of yet.
    asked: int = 0

    @property
    def mode(self) -> Mode:
        """What is to become of the rows."""
        if self.fields.get("mode") in set(Mode):
            return Mode(self.fields["mode"])
        mode = mode_of(self.head)
        return Mode(mode) if mode in set(Mode) else Mode.RUN

    @property
    def planned(self) -> bool:
        """Whether all rows are known."""
        given_up = self.planning is not None and self.planning.state in {
            State.FAILED,
            State.CANCELLED,
        }
        return self.fields.get("complete") == "1" and not given_up

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done."""
        if self.planning is not None and not self.planning.state.final:
            return False
        return self.mode is Mode.PLAN or not self.fields or bool(self.fields.get("finished"))


def compose(migration: JobId, stored: StoredMigration) -> MigrationRecord:
    """The record of a migration that exists."""
    fields, planning = stored.fields, stored.planning
    images = _images(fields, stored.asked)
    state = _state(stored, images)
    finished = when(int(fields["finished"])) if fields.get("finished") else None
    if finished is None and planning is not None:
        finished = planning.finished_at
    name = fields.get("name") or (planning.image if planning else "?")
    return MigrationRecord(
        id=migration,
        name=name,
        mode=stored.mode,
        state=state,
        planned=stored.planned,
        images=images,
        bytes=ByteTotals(**{key: _number(fields, f"bytes_{key}") for key in _BYTES}),
        created_at=_created(stored),
        finished_at=finished if state.final else None,
        submitted_by=planning.submitted_by if planning else migration.account,
        on_behalf_of=planning.on_behalf_of if planning else None,
        error=_error(stored) if state is not State.SUCCEEDED else None,
        warnings=sentences(fields.get("warnings")),
        failures=sentences(fields.get("failures")) if stored.planned else [],
        summary=_summary(fields),
    )


def _images(fields: Mapping[str, str], asked: int) -> ImageTotals:
    counts = {state: _number(fields, state) for state in _IMAGES}
    moved = min(asked, counts["failed"])
    counts["failed"] -= moved
    counts["queued"] += moved
    return ImageTotals.of(**counts)


def _number(fields: Mapping[str, str], name: str) -> int:
    return max(0, int(fields.get(name) or 0))


def _state(stored: StoredMigration, images: ImageTotals) -> State:
    fields, planning = stored.fields, stored.planning
    if planning is not None and (not fields or stored.mode is Mode.PLAN):
        # A part of a plan that is missing does not end the planning of the others.
        partly = planning.state is State.SUCCEEDED and bool(fields.get("error"))
        return State.FAILED if partly else planning.state
    if not stored.over or stored.asked:
        return State.RUNNING
    error = _error(stored)
    cancelled = images.cancelled > 0 or (error is not None and error.code == "cancelled")
    if images.failed or (error is not None and error.code != "cancelled"):
        return State.FAILED
    return State.CANCELLED if cancelled else State.SUCCEEDED


def _created(stored: StoredMigration) -> datetime:
    if stored.fields.get("created"):
        return when(int(stored.fields["created"]))
    return stored.planning.created_at if stored.planning else when(0)


def _error(stored: StoredMigration) -> ErrorInfo | None:
    if stored.fields.get("error"):
        return ErrorInfo.stored(stored.fields["error"])
    return stored.planning.error if stored.planning else None


def _summary(fields: Mapping[str, str]) -> PlanSummary | None:
    text = fields.get("summary")
    try:
        return PlanSummary.model_validate_json(text) if text else None
    except ValidationError:
        # A newer worker's. It is news for people, and no migration is to be hidden by it.
        return None


class MigrationLedger:
    """Reads migrations, and exchanges rows with workers, as one producer account."""

    def __init__(self, client: redis.Redis, keys: Keys, jobs: Ledger, url: str) -> None:
        self._redis = client
        self._keys = keys
        self._jobs = jobs
        self._url = url

    def record(self, migration: JobId) -> MigrationRecord:
        """One migration's record.

        Raises:
            UnknownJob: there is none of this id, or its retention ended.
        """
        found = self.read([migration])[0]
        if found is None:
            raise UnknownJob(
                f"no migration {migration}; it never was, or its time to be kept ended"
            )
        return found

    def read(self, migrations: Sequence[JobId]) -> list[MigrationRecord | None]:
        """The records of migrations, in their order; ``None`` for what is no migration."""
        planning = self._jobs.read(migrations)
        with reaching(self._url):
            pipe = self._redis.pipeline(transaction=False)
            for migration in migrations:
                pipe.hgetall(self._keys.migration(migration))
                # It may be long, and not ours: its mode is told by the beginning.
                pipe.getrange(self._keys.request(migration), 0, LONGEST_GLIMPSE - 1)
            replies: list[Any] = pipe.execute(raise_on_error=False)
        found: list[MigrationRecord | None] = []
        for index, migration in enumerate(migrations):
            fields, head = map(value, replies[2 * index : 2 * index + 2])
            job = planning[index]
            if not fields and (job is None or job.kind is not Kind.MIGRATION):
                found.append(None)
                continue
            stored = StoredMigration(fields, job, "" if fields else head or "")
            if stored.over and _number(fields, "failed"):
                stored = self._with_asked(migration, stored)
            found.append(compose(migration, stored))
        return found

    def planning(self, migration: JobId) -> JobRecord | None:
        """The job of a migration's planning; ``None``: its retention ended."""
        return self._jobs.read([migration])[0]

    def _with_asked(self, migration: JobId, stored: StoredMigration) -> StoredMigration:
        """What is held of a migration that seems over, with the wishes to try again.

        A worker may hear of the last wish after the totals were read, and before the wishes are:
        then the totals, read once more, say that it goes on.
        """
        asked = self._asked(migration)
        if asked:
            return replace(stored, asked=asked)
        with reaching(self._url):
            fields: Any = self._redis.hgetall(self._keys.migration(migration))
        return replace(stored, fields=fields or stored.fields)

    def _asked(self, migration: JobId) -> int:
        """Images that were asked to be tried again and that no worker heard of yet."""
        with reaching(self._url):
            due = self._keys.due(migration.account, BULK_COPY_QUEUE)
            waiting = self._members(due, migration.account, 0, ASKED_MOST - 1)
            pipe = self._redis.pipeline(transaction=False)
            for job in waiting:
                pipe.zscore(self._keys.migration_jobs(migration), job)
            return sum(score is not None for score in pipe.execute())

    def newest(self, limit: int) -> list[MigrationRecord]:
        """Migrations, newest first, those that no worker began included."""
        indexes = self._jobs.indexes
        with reaching(self._url):
            begun = [(self._keys.migrations(account), "") for account in indexes.accounts()]
            found = list(islice(indexes.newest(begun, Counter()), limit))
            found += indexes.waiting(PLAN_QUEUE, limit)
        # Ids begin with the time of their submit.
        ids = sorted(set(found), reverse=True)
        records = []
        for start in range(0, len(ids), PAGE):
            chunk = [JobId(one) for one in ids[start : start + PAGE]]
            records += [record for record in self.read(chunk) if record is not None]
            if len(records) >= limit:
                break
        return sorted(records, key=lambda record: record.created_at, reverse=True)[:limit]

    def _members(
        self, key: str, account: str, first: int, last: int, *, desc: bool = False
    ) -> list[str]:
        """Jobs in a set that an account writes; it may hold anything, or be no set."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.zrange(key, first, last, desc=desc)
        (found,) = pipe.execute(raise_on_error=False)
        return [str(job) for job in value(found) or [] if names_job(str(job), account)]

    def jobs(self, migration: JobId) -> Iterator[JobRecord]:
        """The jobs of its images, in the order in which they were planned."""
        start = 0
        while True:
            with reaching(self._url):
                key = self._keys.migration_jobs(migration)
                page = _members(self._redis.zrange(key, start, start + PAGE - 1))
            for record in self._jobs.read([JobId(one) for one in page]):
                if record is not None:
                    yield record
            if len(page) < PAGE:
                return
            start += PAGE

    def warned(self, migration: JobId) -> ImageWarnings:
        """Which of its images have warnings; at most ``WARNED_MOST`` are looked at."""
        images, first = 0, list[str]()
        key = self._keys.migration_jobs(migration)
        for start in range(0, WARNED_MOST, PAGE):
            with reaching(self._url):
                page = _members(self._redis.zrange(key, start, start + PAGE - 1))
                pipe = self._redis.pipeline(transaction=False)
                for job in page:
                    pipe.hget(self._keys.job(str(job)), "warnings")
                found = zip(page, map(sentences, pipe.execute()), strict=True)
            warned = [JobId(str(job)) for job, warnings in found if warnings]
            images += len(warned)
            for record in self._jobs.read(warned[: WARNED_NAMED - len(first)]):
                if record is not None:
                    first += [f"{record.image}: {warning}" for warning in record.warnings]
            first = first[:WARNED_NAMED]
            if len(page) < PAGE:
                return ImageWarnings(images=images, first=first)
        return ImageWarnings(images=images, first=first, complete=False)

    def name_of(self, migration: JobId) -> str | None:
        """What a migration was called; ``None``: it is forgotten, or not for this account."""
        with reaching(self._url), suppress(NoPermissionError):
            return cast("str | None", self._redis.hget(self._keys.migration(migration), "name"))
        return None

    def take_rows(self, migration: JobId) -> list[PlanRow]:
        """Take out planned rows that are there."""
        with reaching(self._url):
            found: Any = self._redis.lpop(self._keys.plan(migration), ROWS)
        return [PlanRow.parse(str(line)) for line in found or []]

    def unread_rows(self, migration: JobId) -> tuple[int, str]:
        """How many planned rows wait to be taken out, and the first of them."""
        key = self._keys.plan(migration)
        with reaching(self._url):
            pipe = self._redis.pipeline(transaction=False)
            pipe.llen(key)
            pipe.lindex(key, 0)
            length, first = pipe.execute()
        return int(length), str(first)

    def await_rows(self, migration: JobId, wait_s: float) -> list[PlanRow]:
        """Wait so long for a planned row, and take it out."""
        with reaching(self._url):
            found: Any = self._redis.blpop([self._keys.plan(migration)], timeout=wait_s)
        return [PlanRow.parse(str(found[1]))] if found else []

    def put_rows(self, migration: JobId, lines: Sequence[str], keep_s: int) -> None:
        """Write rows that are to be run; they are kept so long after the last ones."""
        key = self._keys.rows(migration)
        with reaching(self._url):
            pipe = self._redis.pipeline(transaction=False)
            pipe.rpush(key, *lines)
            pipe.expire(key, keep_s)
            pipe.execute()

    def drop_rows(self, migration: JobId) -> None:
        """Delete rows that are not to be run after all."""
        with reaching(self._url):
            self._redis.delete(self._keys.rows(migration))


def _members(reply: Any) -> list[Any]:
    return list(reply)
