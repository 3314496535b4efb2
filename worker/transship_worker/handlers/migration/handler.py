"""The work of a migration: plan it in the background loop, give its rows on as they come."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from transship.errors import HandedBack, LeaseLost, PlanFailed, RegistryPaused
from transship.ledger.keys import Keys
from transship.model.jobs import Step
from transship.model.migration.mistakes import SpecError
from transship.model.migration.plan import LONGEST_ROW, PlanRow
from transship.model.migration.request import MigrationRequest, Mode
from transship.model.migration.specification import Spec
from transship.model.migration.summary import Collisions, PlanSummary, PlanTally
from transship.model.records import ErrorInfo
from transship.model.rights import Verb
from transship_config.errors import TransshipError
from transship_worker.catalog.model import Components
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.concurrency.semaphore import PrioritySemaphore
from transship_worker.fleet.redis import FleetRedis
from transship_worker.handlers.leading import led_rule
from transship_worker.handlers.migration.output import PATIENCE_S, Jobs, Outlet, Reader, patiently
from transship_worker.handlers.migration.readers import CatalogueSides, RememberedSubsets
from transship_worker.handlers.registries import Registries, Way
from transship_worker.jobs.claim_results import Claim
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.control import Control
from transship_worker.jobs.handler import Accepted, Outcome
from transship_worker.jobs.rights import checked_rights
from transship_worker.jobs.sweep import Due
from transship_worker.migrate.allowed import Allowed
from transship_worker.migrate.check import check_row
from transship_worker.migrate.plan import Planner
from transship_worker.migrate.rows import Batch
from transship_worker.oci.led import led_by

#: Rows of a plan that are read from Redis at once.
PAGE: Final = 100
#: Tags of a plan's rows that are looked up at the source at once.
LOOKS: Final = 64
#: Sentences that a migration keeps.
MOST_WARNINGS: Final = 200


@dataclass(frozen=True, slots=True)
class AcceptedMigration(Accepted):
    """A migration that this worker can plan."""

    components: Components


@dataclass(frozen=True, slots=True)
class PlanningGrounds:
    """What planning needs in the background loop."""

    way: Way
    fleet: FleetRedis
    keys: Keys


@dataclass(frozen=True, slots=True)
class Planning:
    """Implements ``Work`` for ``MigrationRequest``."""

    components: Callable[[], Components]
    claims: Claims
    ring: Callable[[Sequence[Due]], None]
    loop: BackgroundLoop
    grounds: PlanningGrounds

    def accept(self, request: MigrationRequest, account: str) -> AcceptedMigration:
        """Any worker that copies can plan; what it does not know is a mistake of the spec.

        Raises:
            NotAllowed: the account may copy nothing from a source of it, or nothing to a target.
        """
        components = self.components()
        rights = checked_rights(components, account, request, Registries(components).uri)

        def redacted(text: str) -> str:
            for component in components.registries.values():
                text = component.redacted(text)
            return text

        return AcceptedMigration("", "", redacted, rights, components)

    def run(
        self,
        claim: Claim,
        request: MigrationRequest,
        accepted: AcceptedMigration,
        control: Control,
    ) -> Outcome:
        """Plan, or take the rows of a plan.

        Raises:
            TransshipError: why it cannot be planned, or not now.
        """
        control.mark(Step.PLANNING)
        work = _Migration(self, claim, request, accepted, control)
        work.open_components()
        running = self.loop.start(_led(work, accepted))
        try:
            with control.patient(), control.closing(running.cancel):
                summary = running.result()
        except concurrent.futures.CancelledError:
            control.checkpoint()
            raise HandedBack("the worker's event loop stopped") from None
        except SpecError as error:
            # What a person wrote is wrong: no attempt mends it.
            raise PlanFailed("; ".join(error.message.splitlines())) from None
        return Outcome("", f"planned {summary.rows} rows of {request.name}")


async def _led(work: _Migration, accepted: AcceptedMigration) -> PlanSummary:
    with led_by(led_rule(accepted.rights, accepted.components)):
        return await work.run()


class _Migration:
    """One attempt to plan one migration."""

    def __init__(
        self,
        planning: Planning,
        claim: Claim,
        request: MigrationRequest,
        accepted: AcceptedMigration,
        control: Control,
    ) -> None:
        registries = Registries(accepted.components)
        self._rights = accepted.rights
        self._planning = planning
        self._claim = claim
        self._request = request
        self._registries = registries
        self._control = control
        self._warnings = Sentences()
        self._failures = Sentences()
        self._collisions = Collisions()
        self._sides = CatalogueSides(registries, planning.grounds.way)

    def open_components(self) -> None:
        """Have the logins of all components, since that may block: in the job's thread."""
        if self._request.spec is None:
            return
        for rule in self._request.spec.rules:
            for name, reading in ((rule.source.registry, True), (rule.target.registry, False)):
                try:
                    self._sides.open(name, reading=reading)
                except TransshipError as error:
                    if error.retryable:
                        raise
                    # The planner names it with its place in the specification.

    async def run(self) -> PlanSummary:
        """Give all rows on; returns what they come to."""
        grounds = self._planning.grounds
        outlet: Outlet
        if self._request.mode is Mode.PLAN:
            outlet = Reader(grounds.fleet, grounds.keys, self._claim.job)
        else:
            outlet = Jobs(
                self._planning.claims,
                self._planning.ring,
                self._claim,
                self._registries,
                self._control.checkpoint,
                fresh=self._request.spec is not None,
                rights=self._rights,
                on_behalf_of=self._request.on_behalf_of,
            )
        if self._request.spec is None:
            summary = await self._run_rows(outlet, grounds)
        else:
            summary = await self._run_spec(self._request.spec, outlet, grounds)
        await self._end(summary)
        return summary

    async def _run_spec(self, spec: Spec, outlet: Outlet, grounds: PlanningGrounds) -> PlanSummary:
        planner = Planner(
            spec,
            self._claim.job,
            self._sides,
            RememberedSubsets(grounds.fleet, grounds.keys),
            # Before a copy reads the manifests anyway, nothing is gained by reading them twice.
            sizes=self._request.mode is Mode.PLAN,
            rights=self._rights,
        )
        async for batch in planner.rows():
            self._note(batch)
            await self._give(outlet, batch.rows)
        self._warnings.add(*planner.warnings)
        return planner.summary

    def _note(self, batch: Batch) -> None:
        self._warnings.add(*batch.warnings)
        for failure in batch.errors:
            if isinstance(failure.error, RegistryPaused):
                raise failure.error
            self._failures.add(str(failure))

    async def _run_rows(self, outlet: Outlet, grounds: PlanningGrounds) -> PlanSummary:
        """The rows of a plan that the producer wrote."""
        tally = PlanTally()
        key, script = grounds.keys.rows(self._claim.job), grounds.fleet.script("rows_page")
        read = 0
        while read < self._request.rows:
            # A producer may have written anything there.
            place: list[str | int] = [key, read, read + PAGE - 1, LONGEST_ROW]
            lines = await grounds.fleet.run(script, place, patience_s=PATIENCE_S)
            if not lines:
                raise PlanFailed(
                    "rows of the plan are gone from Redis, which keeps them for a day; run it again"
                )
            rows = await asyncio.to_thread(self._checked, map(str, lines), read)
            await self._look_for_moved_tags(rows)
            for row in rows:
                tally.add(row)
            await self._give(outlet, rows)
            read += len(lines)
        return tally.summary()

    def _checked(self, lines: Iterable[str], before: int) -> list[PlanRow]:
        found = []
        for number, line in enumerate(lines, before + 1):
            row = PlanRow.parse(line, what=f"row {number}")
            check_row(row, self._sides, what=f"row {number}")
            place = f"{self._sides.unified(row.target.registry)}/{row.target.repository}"
            if collisions := self._collisions.add(row, place):
                raise SpecError([one.mistake for one in collisions], what=f"row {number}")
            found.append(row)
        return found

    async def _look_for_moved_tags(self, rows: Iterable[PlanRow]) -> None:
        """Say which tags are other images at the source by now; the planned ones are copied."""

        async def look(what: tuple[PlanRow, str]) -> None:
            row, tag = what
            try:
                side = self._sides.side(row.source.registry, reading=True)
                found = await side.head(row.source.repository, tag)
            except RegistryPaused:
                raise
            except TransshipError:
                # The copy itself will say what is wrong there.
                return
            if found is None or found.digest != row.source.digest:
                now = f"is {found.digest} now" if found is not None else "is gone"
                self._warnings.add(
                    f"{row.source.registry}/{row.source.repository}:{tag} {now}; "
                    f"{row.source.digest} is copied, as planned"
                )

        problem = Allowed(self._rights, self._sides.unified).problem
        tags = (
            (row, tag)
            for row in rows
            # Nothing is read for an account that may not.
            if problem(Verb.COPY_FROM, row.source.registry, row.source.repository) is None
            for tag in (dict.fromkeys(row.tags.values()) if row.source.digest else ())
        )
        # A page may have hundreds of thousands of tags, and each look is a task.
        await PrioritySemaphore(LOOKS).each(0, tags, look)

    async def _give(self, outlet: Outlet, rows: Sequence[PlanRow]) -> None:
        self._control.checkpoint()
        if rows:
            await outlet.give(rows)
        self._control.alive()

    async def _end(self, summary: PlanSummary) -> None:
        """Write that all rows are known, and what is to be said of them."""
        fields = {"summary": summary.model_dump_json(), "warnings": self._warnings.as_json()}
        if self._failures.count:
            count = self._failures.count
            more = f" (and {count - 1} more)" if count > 1 else ""
            error = ErrorInfo(
                code=PlanFailed.code, message=f"{self._failures.kept[0]}{more}", retryable=False
            )
            fields["error"] = error.model_dump_json()
            fields["failures"] = self._failures.as_json()
        held = await asyncio.to_thread(
            patiently,
            partial(self._planning.claims.all_planned, self._claim, fields),
            self._control.checkpoint,
        )
        if not held:
            raise LeaseLost("another worker plans it")


class Sentences:
    """The first of perhaps millions of sentences, and how many there were."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.count = 0

    def add(self, *sentences: str) -> None:
        """Count some more, and keep those that there is room for."""
        self.count += len(sentences)
        self.kept += sentences[: max(0, MOST_WARNINGS - len(self.kept))]

    def as_json(self) -> str:
        """A list of texts; where there were more than are kept, the last says so."""
        more = self.count - len(self.kept)
        return json.dumps([*self.kept, f"and {more} more"] if more else self.kept)
