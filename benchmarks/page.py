"""``docs/performance.md`` and its charts, from the JSON of measurements and a text by people.

The text has places in double braces: ``{{machine}}``, ``{{table: CASE, …}}``,
``{{chart: NAME: TITLE: CASE, …}}``, ``{{growth: CASE}}``, ``{{ratio: CASE: PEER}}`` and
``{{figure: CASE: SIDE}}`` or ``{{figure: CASE: SIDE: WHAT}}``. What was not measured is said so.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import charts
from benchmarks.measure import Kind

TEMPLATE: Final = Path(__file__).with_name("performance.template.md")
NOT_MEASURED: Final = "(not measured)"
_PLACE: Final = re.compile(r"\{\{(?P<kind>[a-z]+)(?:: *(?P<rest>[^}]*))?\}\}")
#: What differs from run to run on one machine.
_LOAD: Final = "load before"
#: Figures beside that are no costs of a unit of work, by how they begin.
_NO_COSTS: Final = ("in all", "together")


@dataclass(frozen=True, slots=True)
class Measured:
    """What stands in some files."""

    runs: Sequence[Mapping[str, Any]]
    cases: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Measured:
        """What stands in several counts as in the last."""
        runs = [json.loads(path.read_text()) for path in paths]
        return cls(runs, {case["name"]: case for run in runs for case in run["cases"]})


def write(paths: Sequence[Path], folder: Path, template: Path = TEMPLATE) -> list[Path]:
    """Write the page and its charts into the folder of documents; what was written.

    Raises:
        ValueError: the text has a place that nothing fills.
    """
    writer = _Writer(Measured.read(paths), folder)
    text = _PLACE.sub(writer.fill, template.read_text("utf-8"))
    place = folder / "performance.md"
    place.write_text(text, "utf-8")
    return [place, *writer.written]


class _Writer:
    """Fills places; charts are written on the way."""

    def __init__(self, measured: Measured, folder: Path) -> None:
        self._measured = measured
        self._images = folder / "images"
        self._images.mkdir(parents=True, exist_ok=True)
        self.written: list[Path] = []

    def fill(self, place: re.Match[str]) -> str:
        rest = re.sub(r"\s+", " ", place["rest"] or "")
        words = [word.strip() for word in rest.split(":")]
        match place["kind"]:
            case "machine":
                return "\n".join(_machine(self._measured.runs))
            case "table":
                return "\n".join(self._table(_names(words[0])))
            case "chart":
                return self._chart(*words)
            case "growth":
                return self._growth(words[0])
            case "ratio":
                return self._ratio(*words)
            case "figure":
                return self._figure(*words)
        raise ValueError(f"nothing fills {place[0]}")

    def _table(self, names: Sequence[str]) -> Iterator[str]:
        yield "| work | side | median | least to most | Transship beside it |"
        yield "| --- | --- | --- | --- | --- |"
        for name in names:
            case = self._measured.cases.get(name)
            if case is None:
                yield f"| `{name}` | | {NOT_MEASURED} | | |"
                continue
            title = f"`{name}`: {_cell(case['title'])}"
            for side, series in case["sides"].items():
                yield f"| {title} | {_cell(side)} | {_row(case, side, series)} |"
                title = ""

    def _chart(self, name: str, title: str, cases: str) -> str:
        rows = [row for case in self._found(_names(cases)) for row in _ratio_rows(case)]
        if not rows:
            return NOT_MEASURED
        return self._image(name, title, charts.ratios(title, rows))

    def _growth(self, name: str) -> str:
        case = self._measured.cases.get(name)
        if case is None:
            return NOT_MEASURED
        title = str(case["title"])
        title = title[0].upper() + title[1:]
        unit = "each as a multiple of what it is at the first"
        return self._image(name, title, charts.growth(title, unit, list(_lines(case))))

    def _image(self, name: str, title: str, svg: str) -> str:
        path = self._images / f"performance-{name}.svg"
        path.write_text(svg, "utf-8")
        self.written.append(path)
        return f"![{title}](images/{path.name})"

    def _ratio(self, name: str, peer: str) -> str:
        for case in self._found([name]):
            for one in case["ratios"]:
                if one["theirs"] == peer and not one["what"]:
                    return _held(one, case["unit"])
        return NOT_MEASURED

    def _figure(self, name: str, side: str, what: str = "") -> str:
        for case in self._found([name]):
            series = case["sides"].get(side)
            figures = series and (series["beside"].get(what) if what else series["figures"])
            if figures:
                unit = what.rpartition(" ")[2] if what else case["unit"]
                return f"{_short(statistics.median(figures))} {unit}"
        return NOT_MEASURED

    def _found(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        return [self._measured.cases[name] for name in names if name in self._measured.cases]


def _machine(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    said: set[str] = set()
    for run in runs:
        for what in ("machine", "versions"):
            facts = (f"{name} {value}" for name, value in run[what].items() if name != _LOAD)
            line = "- " + ", ".join(facts)
            if line not in said:
                said.add(line)
                yield line
        rounds = [len(s["figures"]) for case in run["cases"] for s in case["sides"].values()]
        count = f"{min(rounds)} to {max(rounds)} rounds" if rounds else "no rounds"
        load = f"{_LOAD} {run['machine'].get(_LOAD, '?')}"
        yield f"- Measured at {run['measured_at']}, {load}, {count}: " + ", ".join(
            f"`{case['name']}`" for case in run["cases"]
        )
        if run.get("tiny"):
            yield "- **A tiny run: no figure means anything.**"


def _row(case: Mapping[str, Any], side: str, series: Mapping[str, Any]) -> str:
    middle = f"{_short(series['median'])} {case['unit']}"
    for what, figures in series["beside"].items():
        middle += f"; {what}: {_short(statistics.median(figures))}"
    span = f"{_short(min(series['figures']))} to {_short(max(series['figures']))}"
    words = [_words(one, case["unit"]) for one in case["ratios"] if one["theirs"] == side]
    if side == "transship" and case["limit"] is not None:
        kept = series["median"] <= case["limit"]
        words.append(f"at most {case['limit']:g}: {_verdict(kept)}")
    return f"{middle} | {span} | {'; '.join(words)}"


def _words(one: Mapping[str, Any], unit: str) -> str:
    words = _held(one, unit)
    if one["ours"] != "transship":
        words = f"{one['ours']}: {words}"
    if one["what"]:
        words = f"{one['what']}: {words}"
    if one["limit"] is None:
        return words
    return f"{words}, {one['kind']} {one['limit']:g}: {_verdict(one['kept'])}"


def _held(one: Mapping[str, Any], unit: str) -> str:
    if one["kind"] == Kind.MORE_BY:
        return f"{one['median']:+.3f} {unit}"
    return f"{_short(one['median'])} ×"


def _verdict(kept: bool) -> str:
    return "kept" if kept else "**missed**"


def _ratio_rows(case: Mapping[str, Any]) -> Iterator[charts.Ratio]:
    """The comparisons that are quotients of what the case measures."""
    for one in case["ratios"]:
        if one["kind"] == Kind.MORE_BY or one["what"]:
            continue
        words = f"{_short(one['median'])} ×"
        if one["limit"] is not None:
            words += f", {one['kind']} {one['limit']:g}" + ("" if one["kept"] else ": missed")
        figures = one["pairs"]
        label = f"{case['name']}, {case['unit']}: {one['ours']} ÷ {one['theirs']}"
        yield charts.Ratio(
            label, one["median"], min(figures), max(figures), one["limit"], one["kept"], words
        )


def _lines(case: Mapping[str, Any]) -> Iterator[charts.Line]:
    sides = sorted((s for s in case["sides"].values() if s["at"]), key=lambda side: side["at"])
    measured = [(case["unit"], [side["figures"] for side in sides])]
    measured += [
        (what, [side["beside"][what] for side in sides])
        for what in (sides[0]["beside"] if sides else ())
        if not what.startswith(_NO_COSTS)
    ]
    for label, series in measured:
        middles = [statistics.median(figures) for figures in series]
        if min(middles) > 0:
            points = [(s["at"], m / middles[0]) for s, m in zip(sides, middles, strict=True)]
            first = f"{label} (at the first: {_short(middles[0])})"
            yield charts.Line(first, points)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _short(figure: float) -> str:
    """Three digits that count, or all before the point."""
    if abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"
