"""What people and programs read of a measurement: a table, and JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import OURS, Case, Result

_VERSIONS: Final = {
    "skopeo": ["skopeo", "--version"],
    "curl": ["curl", "--version"],
    "docker-registry": ["docker-registry", "--version"],
    "redis": ["redis-server", "--version"],
    "longshore": ["git", "describe", "--always", "--dirty"],
}
_NUMBER: Final = re.compile(r"\d+\.\d+(?:\.\d+)?\S*")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the figures hold for."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]

    @classmethod
    def look(cls, data: Path) -> Surroundings:
        """This machine, the programs on it, and what the registries' data lies on."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        machine = {
            "processor": _processor(),
            "cores": str(os.cpu_count()),
            "memory": f"{memory / 2**30:.1f} GiB",
            "kernel": platform.release(),
            # Others' work on the machine: above a few tenths, look at ratios and not at times.
            "load before": f"{os.getloadavg()[0]:.1f}",
            "data": f"{_output(['stat', '-f', '-c', '%T', str(data)])}, equal for all sides",
        }
        versions = {name: _version(command) for name, command in _VERSIONS.items()}
        return cls(machine, {**versions, "python": platform.python_version()})


def table(results: Sequence[Result], around: Surroundings) -> str:
    """Lines for people: each side's median and spread, and our ratio to it."""
    lines = [", ".join(f"{name} {value}" for name, value in around.machine.items())]
    lines.append(", ".join(f"{name} {value}" for name, value in around.versions.items()))
    for result in results:
        lines += ["", f"{result.case.name}: {result.case.title}"]
        lines += _rows(result)
    return "\n".join(lines)


def document(results: Sequence[Result], around: Surroundings) -> str:
    """The same as JSON, with every figure."""
    found = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(around.machine),
        "versions": dict(around.versions),
        "cases": [_case(result) for result in results],
    }
    return json.dumps(found, indent=2) + "\n"


def catalogue(cases: Iterable[Case]) -> str:
    """The names that can be asked for."""
    return "\n".join(f"  {case.name:<14} {case.title}" for case in cases)


def _rows(result: Result) -> Iterable[str]:
    compared = {one.peer: one for one in result.comparisons}
    for name, series in result.series.items():
        figure = f"{series.median:9.3f} {result.case.unit:<3} ±{series.spread / 2:5.1%}"
        line = f"  {name:<26}{figure}  n={len(series.figures)}"
        if name in compared:
            one = compared[name]
            line += (
                f"   ours is {one.median:.3f} × ({min(one.ratios):.3f} to {max(one.ratios):.3f})"
            )
            line += _verdict(one.limit, one.kept)
        if name == OURS and result.case.limit is not None:
            line += _verdict(result.case.limit, series.median <= result.case.limit)
        yield line


def _verdict(limit: float | None, kept: bool | None) -> str:
    return "" if limit is None else f", at most {limit:g}: {'kept' if kept else 'MISSED'}"


def _case(result: Result) -> dict[str, Any]:
    return {
        "name": result.case.name,
        "title": result.case.title,
        "unit": result.case.unit,
        "limit": result.case.limit,
        "kept": result.kept,
        "sides": {
            name: {"median": one.median, "spread": one.spread, "figures": list(one.figures)}
            for name, one in result.series.items()
        },
        "ratios": {
            one.peer: {"median": one.median, "limit": one.limit, "pairs": list(one.ratios)}
            for one in result.comparisons
        },
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1] if found else platform.machine()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _version(command: Sequence[str]) -> str:
    text = _output(command)
    found = _NUMBER.search(text)
    return found[0] if found else text or "unknown"


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()
