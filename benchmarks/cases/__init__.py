"""What is measured, by name."""

from __future__ import annotations

from typing import Final

from benchmarks.cases.large import EightLayers, OneLayer
from benchmarks.cases.links import Links, ScaleWorkers
from benchmarks.cases.memory import WorkerMemory
from benchmarks.cases.migration import Cold, Nothing, Thousand
from benchmarks.cases.noop import NoOpLatency, NoOpRate
from benchmarks.cases.plan import PlanTags
from benchmarks.cases.push import PushLayer, PushRootfs, PushTiny, PushTop
from benchmarks.cases.scale import ScaleCopy, ScaleLedger, ScalePush, ScaleTags
from benchmarks.cases.slow import SlowRegistry
from benchmarks.cases.submit import Submit, SubmitBulk
from benchmarks.cases.whole import CliPush, Help, Idle
from benchmarks.measure import Case

CASES: Final[dict[str, Case]] = {
    case.name: case
    for case in (
        PushLayer(),
        PushRootfs(),
        PushTop(),
        PushTiny(),
        Cold(),
        Nothing(),
        OneLayer(),
        EightLayers(),
        Cold(far=True),
        Nothing(far=True),
        Links(),
        Thousand(),
        PlanTags(),
        SlowRegistry(),
        Submit(),
        SubmitBulk(),
        NoOpLatency(),
        NoOpRate(),
        Help(),
        CliPush(),
        Idle(),
        WorkerMemory(),
        ScaleLedger(),
        ScaleTags(),
        ScaleWorkers(),
        ScaleCopy(),
        ScalePush(),
    )
}

#: Names that stand for several.
SCALE: Final = "scale"


def chosen(names: list[str], *, scale: bool) -> list[Case]:
    """The cases of these names, or all but those about growth.

    Raises:
        LookupError: with the name that there is not.
    """
    if unknown := [name for name in names if name not in {*CASES, SCALE}]:
        raise LookupError(unknown[0])
    every = not names and not scale
    grown = scale or SCALE in names
    return [
        case for name, case in CASES.items() if name in names or (grown if case.scale else every)
    ]
