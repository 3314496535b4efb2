"""What happened during the slowest recovery: faults, and what each worker did."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tests.chaos.history import Story
from tests.chaos.strike import Struck

#: Faults that began before, and lasted, are shown. Unit: s.
_BEFORE_S: Final = 10.0
#: Lines that are shown, those of each worker, and characters of a line.
_MOST: Final = 160
_MOST_OF_ONE: Final = 30
_WIDTH: Final = 160
_LINE: Final = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) (.*)")
#: Jobs, images and numbers: lines that differ in them only say the same.
_NAMES: Final = re.compile(r"\[[^]]*\]|\S*[/@]\S*|\d+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    #: Unit: s since 1970.
    at: float
    who: str
    what: str


def of_slowest(
    struck: Struck,
    until: float,
    faults: Sequence[Struck],
    found: Mapping[str, Story],
    logs: Mapping[str, str],
) -> list[str]:
    """Lines for a person, from a fault to the first finish after it (``until``).

    ``logs``: what each worker wrote, by its place.
    """
    entries = _of_faults(faults, struck.at, until) + _of_finish(found, until)
    for who, log in logs.items():
        entries += _thinned(_of_log(who, log, struck.at, until), who)
    entries.sort(key=lambda entry: entry.at)
    left_out = len(entries) - _MOST
    lines = [
        f"{entry.at - struck.at:+7.1f} s  {entry.who}: {entry.what[:_WIDTH]}"
        for entry in entries[:_MOST]
    ]
    return [*lines, f"… and {left_out} more"] if left_out > 0 else lines


def _of_faults(faults: Sequence[Struck], start: float, until: float) -> list[Entry]:
    entries = []
    for one in faults:
        lasts = one.fault.until_s - one.fault.at_s
        if one.at > until or one.at + max(lasts, _BEFORE_S) < start:
            continue
        what = f"{one.fault.kind} ({one.fault.whom})" + (f", {one.cut} cut" if one.cut else "")
        entries.append(Entry(one.at, "fault", f"{what}, for {lasts:.1f} s"))
        if lasts and start <= one.at + lasts <= until:
            entries.append(Entry(one.at + lasts, "fault", f"{what} ends"))
    return entries


def _of_finish(found: Mapping[str, Story], until: float) -> list[Entry]:
    return [
        Entry(until, "ledger", f"job {job} {end.state}, the next finish of any job")
        for job, story in found.items()
        for end in story.finishes
        if end.at.timestamp() == until
    ]


def _of_log(who: str, log: str, start: float, until: float) -> list[Entry]:
    """Lines of a worker's log in a time; those that follow each other and say the same are one."""
    entries: list[Entry] = []
    said, times = "", 0
    for line in log.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        at = datetime.fromisoformat(found[1]).timestamp()
        if not start <= at <= until:
            continue
        same = _NAMES.sub("", found[2])
        if same == said and entries:
            times += 1
            first = entries[-1].what.removesuffix(f" (× {times - 1})")
            entries[-1] = Entry(entries[-1].at, who, f"{first} (× {times})")
        else:
            said, times = same, 1
            entries.append(Entry(at, who, found[2][:_WIDTH]))
    return entries


def _thinned(entries: list[Entry], who: str) -> list[Entry]:
    """The first and the last ones of many."""
    left_out = len(entries) - _MOST_OF_ONE
    if left_out <= 0:
        return entries or []
    half = _MOST_OF_ONE // 2
    middle = Entry(entries[half].at, who, f"… {left_out} more lines")
    return [*entries[:half], middle, *entries[-half:]]
