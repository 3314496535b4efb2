"""What became of all jobs, as the ledger tells anybody who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tests.chaos.load import Ask, Asked
from transship import Client, JobRecord, State
from transship.model.jobs import JobId
from transship.model.records import JobEvent

#: More jobs than any run has.
_ALL = 10**7


@dataclass(frozen=True)
class Story:
    """One job from its first event to its last."""

    record: JobRecord
    events: tuple[JobEvent, ...]
    #: What was asked for; ``None``: a job of a migration, or its planning.
    ask: Ask | None

    @property
    def finishes(self) -> list[JobEvent]:
        """Finishes that were accepted."""
        return [one for one in self.events if one.kind == "state" and one.state.final]

    def broken_off(self, worker: str, at: float) -> bool:
        """Whether a worker ran it at a time (s since 1970)."""
        moves = [one for one in self.events if one.kind == "state"]
        ends = [one.at.timestamp() for one in moves[1:]] + [float("inf")]
        return any(
            one.state is State.RUNNING and one.worker == worker and one.at.timestamp() <= at < end
            for one, end in zip(moves, ends, strict=False)
        )

    def told(self) -> str:
        """All that is known of it, for a person."""
        lines = [f"  record: {self.record.to_json()}", f"  asked: {self.ask}"]
        for one in self.events[-30:]:
            error = f" {one.error.code}: {one.error.message}" if one.error else ""
            what = f"{one.kind} {one.state}/{one.step or '-'} attempt {one.attempt}"
            lines.append(f"  {_clock(one.at)} {what} {one.worker or '-'} {one.message}{error}")
        return "\n".join(lines)


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def stories(client: Client, asked: Asked) -> dict[str, Story]:
    """Of every job that the ledger lists, by its id."""
    found = {}
    perhaps = {(ask.target, ask.source): ask for ask in asked.perhaps}
    for record in client.jobs(limit=_ALL):
        ask = asked.jobs.get(record.id)
        if ask is None and record.migration is None:
            source = record.source or ""
            # A target's name begins with the registry, and so does the source of a copy.
            places = (record.image.partition("/")[2], source)
            ask = perhaps.get(places) or perhaps.get((places[0], source.partition("/")[2]))
        events = client._ledger.events(JobId(record.id), "0", 1)
        found[record.id] = Story(record, tuple(events), ask)
    return found
