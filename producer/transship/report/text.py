"""A report as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.formatting import clean, size, table
from transship.report.charts import span

if TYPE_CHECKING:
    from transship.report.model import Report

#: Failed images, and warnings, that are named one by one; the other formats name all.
FAILURES_NAMED: Final = 50
WARNINGS_NAMED: Final = 50


def text(report: Report) -> str:
    """Totals, failures by cause, the slowest images, and failures one by one."""
    lines = [*_head(report), *_causes(report), *_slowest(report), *_failures(report)]
    lines += _warnings(report)
    return "\n".join(lines) + "\n"


def _head(report: Report) -> list[str]:
    record = report.record
    images, sizes = record.images, record.bytes
    parts = [
        f"{count} {name}"
        for name, count in images.model_dump().items()
        if count and name != "planned"
    ]
    ways = f"{size(sizes.mounted)} mounted, {size(sizes.present)} there already"
    rows = [
        ("migration", f"{record.name} ({record.id})"),
        ("state", record.state + ("" if record.state.final else " (so far)")),
        ("submitted by", record.submitted_by),
        ("took" if record.finished_at else "so far", span(report.seconds)),
        ("images", f"{images.planned} planned" + (f": {', '.join(parts)}" if parts else "")),
        ("moved", f"{size(sizes.moved)}{_rate(report)}"),
        ("saved", f"{size(report.saved)} ({ways})"),
    ]
    if record.error is not None:
        rows.append(("error", f"{record.error.code}: {record.error.message}"))
    widest = max(len(name) for name, _ in rows)
    return [f"{name:<{widest}}  {clean(words)}" for name, words in rows]


def _rate(report: Report) -> str:
    if not report.record.bytes.moved or not report.seconds:
        return ""
    return f" ({size(int(report.record.bytes.moved / report.seconds))}/s)"


def _causes(report: Report) -> list[str]:
    if not report.causes:
        return []
    rows = [[cause.code, str(cause.images), cause.example] for cause in report.causes]
    return ["", *table(["FAILURES BY CAUSE", "IMAGES", "FOR EXAMPLE"], rows, width=None)]


def _slowest(report: Report) -> list[str]:
    if not report.slowest:
        return []
    rows = [
        [span(image.seconds or 0.0), size(image.bytes_planned), image.target]
        for image in report.slowest
    ]
    return ["", *table(["SLOWEST", "SIZE", "IMAGE"], rows, width=None)]


def _failures(report: Report) -> list[str]:
    failures = report.failures
    if not failures:
        return []
    rows = [
        [image.job, image.target, f"{image.error_code or '?'}: {image.error_message or ''}"]
        for image in failures[:FAILURES_NAMED]
    ]
    lines = ["", *table(["FAILED", "IMAGE", "WHY"], rows, width=None)]
    if len(failures) > FAILURES_NAMED:
        lines.append(f"and {len(failures) - FAILURES_NAMED} more: --format csv names all")
    return lines


def _warnings(report: Report) -> list[str]:
    warnings = report.warnings
    lines = [f"warning: {clean(one)}" for one in warnings[:WARNINGS_NAMED]]
    if len(warnings) > WARNINGS_NAMED:
        lines.append(f"and {len(warnings) - WARNINGS_NAMED} more: --format json names all")
    return lines
