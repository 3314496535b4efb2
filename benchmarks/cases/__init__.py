"""What is measured, by name."""

from __future__ import annotations

from typing import Final

from benchmarks.cases.large import EightLayers, OneLayer
from benchmarks.cases.memory import WorkerMemory
from benchmarks.cases.migration import Cold, Nothing
from benchmarks.measure import Case

CASES: Final[dict[str, Case]] = {
    case.name: case
    for case in (
        Cold(),
        Nothing(),
        OneLayer(),
        EightLayers(),
        Cold(far=True),
        Nothing(far=True),
        WorkerMemory(),
    )
}
