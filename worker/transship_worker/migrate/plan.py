"""Planning: what a migration comes to, found by reading both sides and writing to none.

Rows come as soon as their repository is planned. Only where something else of the
specification can aim at the same target repository are they held, compactly, until all is
planned and nothing collides. Planning anew gives the same rows with the same ids, but for what
changed at the registries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Final

from transship.model.migration.mistakes import Key, Mistake, SpecError
from transship.model.migration.plan import PlanRow
from transship.model.migration.specification import Spec
from transship.model.migration.summary import Collisions, PlanSummary, PlanTally
from transship.model.rights import EVERYTHING, Rights
from transship_config.errors import TransshipError
from transship_worker.concurrency.gather import first_of
from transship_worker.concurrency.semaphore import PrioritySemaphore
from transship_worker.migrate.allowed import Allowed
from transship_worker.migrate.compare import Compared, Comparison, Image, Reader, listed
from transship_worker.migrate.expand import Expansion, Failure, Pair
from transship_worker.migrate.port import Memory, Side, Sides
from transship_worker.migrate.rows import Batch, Rows
from transship_worker.migrate.sizes import Sizer

#: Looks at tags that are under way at once; each asks one or both sides.
IN_FLIGHT: Final = 64
#: Rows of one batch.
BATCH_ROWS: Final = 500
#: Batches that wait for whoever reads them.
_QUEUED: Final = 8
#: Collisions that are kept; a specification with more has one cause.
_MOST_COLLISIONS: Final = 1_000


class Planner:
    """Plans one specification. Made for one use.

    ``sizes``: read the manifests of what is to be copied, for ``bytes`` and exact ``hub_pulls``;
    without it a copy counts for one pull, an index perhaps for more.
    """

    def __init__(
        self,
        spec: Spec,
        migration: str,
        sides: Sides,
        memory: Memory,
        *,
        in_flight: int = IN_FLIGHT,
        sizes: bool = False,
        rights: Rights = EVERYTHING,
    ) -> None:
        """``rights``: those of the migration's account; nothing else is read or planned."""
        self._spec = spec
        self._sides = sides
        self._allowed = Allowed(rights, sides.unified)
        self._in_flight = in_flight
        gate = PrioritySemaphore(in_flight)
        self._sizer = Sizer(gate)
        self._weighs = sizes
        self._reader = Reader(spec, gate, memory, self._sizer, sizes)
        self._rows = Rows(spec, migration)
        self._sources: dict[str, Side] = {}
        self._targets: dict[str, Side] = {}
        self._tally = PlanTally()
        self._collisions = Collisions()
        self._mistakes: list[Mistake] = []
        self._held: list[Compared] = []
        self._gone: list[str] = []
        #: What a person should know of the plan as a whole; complete when the rows ended.
        self.warnings: list[str] = []

    @property
    def summary(self) -> PlanSummary:
        """What the rows so far come to."""
        limits = [side.hub_limit for side in self._sources.values() if side.is_hub]
        known = [limit for limit in limits if limit is not None]
        return self._tally.summary(hub_limit=min(known, default=None), weighed=self._weighs)

    async def rows(self) -> AsyncIterator[Batch]:
        """Plan; batches come as they are ready.

        Raises:
            SpecError: rules name components that cannot be used so (then there was no batch),
                or collide (then what could be part of it has not come).
            TransshipError: a registry failed in a way that may pass. Plan again later: the rows
                that came have the same ids then.
        """
        self._reach()
        out: asyncio.Queue[Batch] = asyncio.Queue(_QUEUED)
        planning = asyncio.create_task(self._plan(out))
        try:
            async with aclosing(_until(planning, out)) as batches:
                async for batch in batches:
                    yield batch
            await planning
        finally:
            planning.cancel()
            await asyncio.gather(planning, return_exceptions=True)
        if self._mistakes:
            raise SpecError(self._mistakes)
        # From the end, so that each is let go once its rows were given.
        self._held.sort(key=lambda found: (found.pair.rule, found.pair.source), reverse=True)
        while self._held:
            found = self._held.pop()
            for batch in self._batches(found, self._rows_of(found)):
                yield batch
        self._conclude()

    def _reach(self) -> None:
        """Find all components before anything is asked.

        Raises:
            SpecError: one line for each that cannot be used.
            TransshipError: a login cannot be had just now.
        """
        mistakes = []
        for index, rule in enumerate(self._spec.rules):
            ends: tuple[tuple[Key, str, dict[str, Side]], ...] = (
                ("from", rule.source.registry, self._sources),
                ("to", rule.target.registry, self._targets),
            )
            for end, name, known in ends:
                try:
                    if name not in known:
                        known[name] = self._sides.side(name, reading=end == "from")
                except TransshipError as error:
                    if error.retryable:
                        raise
                    mistakes.append(Mistake(("rules", index, end, "registry"), error.message))
        if mistakes:
            raise SpecError(mistakes)

    async def _plan(self, out: asyncio.Queue[Batch]) -> None:
        """Compare all pairs, several at once."""
        pairs: asyncio.Queue[tuple[int, Pair] | None] = asyncio.Queue(self._in_flight)
        count = 0

        async def take(pair: Pair) -> None:
            nonlocal count
            count += 1
            await pairs.put((count, pair))

        async def report(failure: Failure) -> None:
            self._tally.fail()
            await out.put(Batch(failure.rule, failure.repository, errors=(failure,)))

        async def expand() -> None:
            expansion = Expansion(self._spec, self._sources, self._allowed)
            await expansion.run(take, report, self.warnings.append)
            for _ in range(self._in_flight):
                await pairs.put(None)

        async def compare() -> None:
            while (work := await pairs.get()) is not None:
                order, pair = work
                rule = self._spec.rules[pair.rule]
                source = self._sources[rule.source.registry]
                target = self._targets[rule.target.registry]
                comparison = Comparison(self._reader, pair, source, target, order=order)
                await self._settle(await comparison.run(), out)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(expand())
                for _ in range(self._in_flight):
                    group.create_task(compare())
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None

    async def _settle(self, found: Compared, out: asyncio.Queue[Batch]) -> None:
        """Give a pair's rows on, or hold them, and what failed and is to be said at once."""
        if found.gone:
            self._gone.append(found.pair.source)
        collides = self._collides(found)
        rows = iter(()) if collides or not found.pair.alone else self._rows_of(found)
        if not found.pair.alone and not collides:
            self._held.append(found)
        for batch in self._batches(found, rows):
            await out.put(batch)

    def _rows_of(self, found: Compared) -> Iterator[tuple[PlanRow, Image | None]]:
        registry = self._spec.rules[found.pair.rule].source.registry
        return self._rows.of(found, hub=self._sources[registry].is_hub)

    def _collides(self, found: Compared) -> bool:
        """Whether tags are aimed at twice: by the pair itself, or by what was held before."""
        pair = found.pair
        target = self._spec.rules[pair.rule].target
        if pair.alone and "{tag}" in str(target.tag):
            return False
        # What is alone can only collide with itself: nothing of it has to be remembered.
        collisions = Collisions() if pair.alone else self._collisions
        place = f"{self._sides.unified(target.registry)}/{pair.target}"
        collides = False
        for row, _ in self._rows_of(found):
            for collision in collisions.add(row, place):
                collides = True
                if len(self._mistakes) < _MOST_COLLISIONS:
                    self._mistakes.append(collision.mistake)
        return collides

    def _batches(
        self, found: Compared, rows: Iterable[tuple[PlanRow, Image | None]]
    ) -> Iterator[Batch]:
        """What a pair came to, some rows at a time; what is not rows comes with the first."""
        pair = found.pair
        errors, warnings = tuple(found.failures), tuple(found.warnings)
        found.failures, found.warnings = [], []
        for _ in errors:
            self._tally.fail()
        part: list[PlanRow] = []
        for row, image in rows:
            self._count(row, image)
            part.append(row)
            if len(part) == BATCH_ROWS:
                yield Batch(pair.rule, pair.source, tuple(part), pair.alone, errors, warnings)
                part, errors, warnings = [], (), ()
        if part or errors or warnings:
            yield Batch(pair.rule, pair.source, tuple(part), pair.alone, errors, warnings)

    def _count(self, row: PlanRow, image: Image | None) -> None:
        self._tally.add(row)
        if image is not None and image.size is not None:
            host = self._sides.unified(row.target.registry).partition("/")[0]
            self._tally.share(host, image.size.blobs.items())

    def _conclude(self) -> None:
        if self._gone:
            self.warnings.append(
                f"{len(self._gone)} repositories that a catalogue names have no tags, or are "
                f"gone: {listed(sorted(self._gone))}"
            )
        if self._sizer.pulls:
            self.warnings.append(
                f"planning read {self._sizer.pulls} manifests from Docker Hub, each of which "
                "counts as a pull"
            )


async def _until(
    planning: asyncio.Task[None], out: asyncio.Queue[Batch]
) -> AsyncGenerator[Batch, None]:
    """What comes out of a queue until a task ended and the queue is empty."""
    while not (planning.done() and out.empty()):
        getting = asyncio.ensure_future(out.get())
        try:
            await asyncio.wait({getting, planning}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
        finally:
            getting.cancel()
            # A cancelled task ends in a later turn of the loop, and a caller expects that no task
            # of the plan runs after the last batch.
            await asyncio.gather(getting, return_exceptions=True)
