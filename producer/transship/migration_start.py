"""How migrations are submitted and found: specifications, plans, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from transship.fleet_warnings import copy_warnings
from transship.ledger.migrations import MigrationLedger
from transship.ledger.submit import Ledger
from transship.migrations import Migration, Ring
from transship.model.components import Fleet
from transship.model.jobs import JobId
from transship.model.migration.mistakes import Mistake, SpecError
from transship.model.migration.plan import PlanRow
from transship.model.migration.record import MigrationRecord
from transship.model.migration.request import MigrationRequest, Mode
from transship.model.migration.specification import Spec
from transship.model.request_fields import request_problem
from transship.specification_files import PlanLines, SpecText, read_file, read_stream
from transship_config.errors import TransshipError, UsageError
from transship_config.text import did_you_mean

if TYPE_CHECKING:
    import redis

    from transship.ledger.keys import Keys
    from transship.model.on_behalf_of import OnBehalfOf
    from transship.model.requests import Request

#: Refuses what no live worker would let this account do.
CheckRights = Callable[[Fleet, "Sequence[Request]"], None]
#: How long a plan's rows are kept for a worker that is to run them. Unit: s.
ROWS_KEPT_S: Final = 24 * 3600
#: Rows written in one round trip.
ROWS_AT_ONCE: Final = 500


def check_spec(spec: Spec, fleet: Fleet) -> list[Mistake]:
    """What is wrong with the components that a specification names, as far as workers tell."""
    if not fleet.workers:
        return []
    names = {component.name for component in fleet.components}
    hosts = set(fleet.anonymous_sources)
    mistakes = []
    for index, rule in enumerate(spec.rules):
        for key, name, known in (
            ("from", rule.source.registry, names | hosts),
            ("to", rule.target.registry, names),
        ):
            place = ("rules", index, key, "registry")
            if name not in known:
                what = "no component" if key == "to" else "no component or anonymous source"
                text = f"{what} {name!r};{did_you_mean(name, sorted(known))}"
                mistakes.append(Mistake(place, text))
            elif name in fleet.conflicts:
                uris = ", ".join(fleet.conflicts[name])
                text = f"workers publish {name!r} with different URIs: {uris}; make them agree"
                mistakes.append(Mistake(place, text))
    return mistakes


class Migrations:
    """Submits and finds migrations as one producer account."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        jobs: Ledger,
        url: str,
        ring: Ring,
        check_rights: CheckRights = lambda *_: None,
    ) -> None:
        self._ledger = MigrationLedger(client, keys, jobs, url)
        self._jobs = jobs
        self._ring = ring
        self._check_rights = check_rights

    def handle(self, migration: JobId, warnings: tuple[str, ...] = ()) -> Migration:
        """The handle on a migration; nobody looks whether there is such a one."""
        return Migration(self._ledger, self._jobs, self._ring, migration, warnings=warnings)

    def newest(self, limit: int) -> list[MigrationRecord]:
        """Migrations, newest first."""
        return self._ledger.newest(limit)

    def start(
        self,
        wanted: object,
        mode: Mode,
        look: Callable[[], Fleet],
        name: str | None = None,
        other: OnBehalfOf | None = None,
    ) -> Migration:
        """Have a specification or a plan carried out, in any of the forms that a caller has.

        ``other``: on whose behalf.

        Raises:
            UsageError: it is none, or has mistakes; nothing was enqueued.
        """
        found = _found(wanted)
        if isinstance(found, SpecText | Spec):
            return self._start_spec(found, mode, look(), other)
        if mode is Mode.PLAN:
            raise UsageError("this is a plan already; plan its specification, or run it")
        rows, title = (found.rows, found.title) if isinstance(found, PlanLines) else (found, "plan")
        fleet = look()
        if other is not None:
            # Before any row is written.
            self._check_rights(fleet, [_request(name or title, 1, other)])
        return self._start_rows(rows, name, title, copy_warnings(fleet), other)

    def _start_spec(
        self, found: SpecText | Spec, mode: Mode, fleet: Fleet, other: OnBehalfOf | None
    ) -> Migration:
        spec = found.spec if isinstance(found, SpecText) else found
        mistakes = check_spec(spec, fleet)
        if mistakes:
            raise found.error(mistakes) if isinstance(found, SpecText) else SpecError(mistakes)
        request = MigrationRequest(mode=mode, name=spec.name, spec=spec, on_behalf_of=other)
        self._check_rights(fleet, [request])
        return self._written(request, copy_warnings(fleet))

    def _start_rows(
        self,
        rows: Iterable[PlanRow],
        name: str | None,
        title: str,
        warnings: tuple[str, ...],
        other: OnBehalfOf | None,
    ) -> Migration:
        """Have the rows of a plan run, as a migration of its own.

        It gets a new id, and the rows with it: so a plan, or parts of it, can be run any number
        of times, by any account, and each run has a report of its own. What is there already
        costs only the comparison.
        """
        migration = JobId.new(self._jobs.account)
        rows = iter(rows)
        count = 0
        try:
            while batch := list(islice(rows, ROWS_AT_ONCE)):
                _check_rows(batch)
                if name is None:
                    name = self._ledger.name_of(JobId(batch[0].migration)) or title
                moved = [row.model_copy(update={"migration": migration}) for row in batch]
                lines = [row.to_json() for row in moved]
                self._ledger.put_rows(migration, lines, ROWS_KEPT_S)
                count += len(batch)
            if not count:
                raise UsageError("the plan has no row; nothing is to be done")
            request = _request(name or title, count, other)
        except BaseException:
            # Rows are checked while they are written; with a bad one among them, none is run.
            with suppress(TransshipError):
                self._ledger.drop_rows(migration)
            raise
        return self._written(request, warnings, migration)

    def _written(
        self, request: MigrationRequest, warnings: tuple[str, ...], migration: JobId | None = None
    ) -> Migration:
        (submitted,) = self._jobs.submit([request], [migration] if migration else None)
        warnings += self._ring([(submitted.job, request)])
        self._jobs.check_replicated([submitted], [request])
        return self.handle(submitted.job, warnings)


def _found(wanted: object) -> SpecText | PlanLines | Spec | Iterable[PlanRow]:
    """What a caller means."""
    if isinstance(wanted, SpecText | PlanLines | Spec):
        return wanted
    if isinstance(wanted, Mapping):
        return Spec.parse(wanted)
    if isinstance(wanted, str) and ("\n" in wanted or wanted.lstrip().startswith("{")):
        return read_stream(BytesIO(wanted.encode(errors="surrogatepass")), "text")
    if isinstance(wanted, str | PathLike):
        return read_file(wanted)
    if isinstance(wanted, Iterable) and not isinstance(wanted, bytes):
        return wanted
    raise UsageError(
        f"{type(wanted).__name__} is no specification; give a path, a text, a mapping, or a "
        "plan's rows"
    )


def _check_rows(rows: Sequence[object]) -> None:
    for row in rows:
        if not isinstance(row, PlanRow):
            raise UsageError(f"a plan consists of transship.PlanRow, not of {type(row).__name__}")


def _request(name: str, rows: int, other: OnBehalfOf | None) -> MigrationRequest:
    try:
        return MigrationRequest(
            mode=Mode.RUN, name=name, rows=rows, expires_s=ROWS_KEPT_S, on_behalf_of=other
        )
    except ValidationError as error:
        raise request_problem(error) from None
