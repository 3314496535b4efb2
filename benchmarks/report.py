"""What people and programs read of a measurement: a table, and JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import OURS, Case, Comparison, Kind, Result, Series

_VERSIONS: Final = {
    "skopeo": ["skopeo", "--version"],
    "curl": ["curl", "--version"],
    "docker-registry": ["docker-registry", "--version"],
    "redis": ["redis-server", "--version"],
    "docker": ["docker", "--version"],
    "transship": ["git", "describe", "--always", "--dirty"],
}
_NUMBER: Final = re.compile(r"\d+\.\d+(?:\.\d+)?[^\s,]*")


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
        libraries = {name: metadata.version(name) for name in ("celery", "kombu", "redis")}
        libraries = {f"{name} for Python": version for name, version in libraries.items()}
        return cls(machine, {**versions, **libraries, "python": platform.python_version()})


def table(results: Sequence[Result], around: Surroundings) -> str:
    """Lines for people: each side's median, least and most, and our ratio to it."""
    lines = [", ".join(f"{name} {value}" for name, value in around.machine.items())]
    lines.append(", ".join(f"{name} {value}" for name, value in around.versions.items()))
    for result in results:
        lines += ["", f"{result.case.name}: {result.case.title}"]
        lines += _rows(result)
    return "\n".join(lines)


def document(results: Sequence[Result], around: Surroundings, *, tiny: bool = False) -> str:
    """The same as JSON, with every figure."""
    found = {
        "tiny": tiny,
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
    case = result.case
    for name, series in result.series.items():
        figures = series.figures
        line = f"  {name:<28} {_span(series.median, figures)} {case.unit}, n={len(figures)}"
        for what, beside in series.beside.items():
            line += f"; {what}: {statistics.median(beside):.2f}"
        if name == OURS and case.limit is not None:
            line += _verdict(f"at most {case.limit:g}", series.median <= case.limit)
        yield line
    for one in result.comparisons:
        pair = one.pair
        adds = pair.limit is not None and pair.limit.kind is Kind.MORE_BY
        line = f"    {pair.ours} {'−' if adds else '÷'} {pair.theirs}"
        line += f", {pair.what}: " if pair.what else ": "
        line += _span(one.median, one.pairs)
        if pair.limit is not None:
            line += _verdict(f"{pair.limit.kind} {pair.limit.value:g}", one.kept is True)
        yield line


def _span(middle: float, figures: Sequence[float]) -> str:
    return f"{middle:.3f} ({min(figures):.3f} to {max(figures):.3f})"


def _verdict(limit: str, kept: bool) -> str:
    return f", {limit}: {'kept' if kept else 'MISSED'}"


def _case(result: Result) -> dict[str, Any]:
    return {
        "name": result.case.name,
        "title": result.case.title,
        "unit": result.case.unit,
        "limit": result.case.limit,
        "kept": result.kept,
        "scale": result.case.scale,
        "sides": {name: _side(one) for name, one in result.series.items()},
        "ratios": [_comparison(one) for one in result.comparisons],
    }


def _side(series: Series) -> dict[str, Any]:
    return {
        "median": series.median,
        "spread": series.spread,
        "figures": list(series.figures),
        "at": series.at,
        "beside": {what: list(figures) for what, figures in series.beside.items()},
    }


def _comparison(one: Comparison) -> dict[str, Any]:
    limit = one.pair.limit
    return {
        "ours": one.pair.ours,
        "theirs": one.pair.theirs,
        "what": one.pair.what,
        "median": one.median,
        "pairs": list(one.pairs),
        "limit": None if limit is None else limit.value,
        "kind": Kind.AT_MOST if limit is None else limit.kind,
        "kept": one.kept,
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
