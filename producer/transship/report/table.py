"""A report as CSV (RFC 4180) that a spreadsheet shows and does not compute."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

from transship.formatting import clean

if TYPE_CHECKING:
    from transship.report.model import Report

#: A cell that begins so is a formula to a spreadsheet, the full-width forms included
#: (OWASP, "CSV Injection").
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")

_HEAD: Final = (
    *("job", "state", "skipped", "source", "target", "tags", "digest", "attempts"),
    *("bytes_planned", "bytes_moved", "bytes_mounted", "bytes_present"),
    *("started_at", "finished_at", "seconds", "error_code", "error_message", "warnings"),
)


def table(report: Report) -> str:
    """A head, and a line for every image that was a job."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(_HEAD)
    for image in report.images:
        found = image.as_object()
        found["tags"] = " ".join(image.tags)
        found["warnings"] = "; ".join(image.warnings)
        writer.writerow([cell(found[name]) for name in _HEAD])
    return stream.getvalue()


def cell(value: object) -> str:
    """A value as text: escaped, and never a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    formula = text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA)
    return f"'{clean(text)}" if formula else clean(text)
