"""A report in the formats that people and programs read."""

from __future__ import annotations

from typing import Final, Literal, get_args

from transship.report.model import Report

Format = Literal["text", "json", "csv", "html"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)


def render(report: Report, form: Format) -> str:
    """The report in one of ``FORMATS``.

    ``text``: totals, failures by cause and the slowest images, for a terminal. ``json``: one
    object with everything. ``csv``: a line for every image that was a job, for a spreadsheet
    (RFC 4180). ``html``: one page that needs no script, font or connection.
    """
    # Each is imported when it is asked for: a command writes one.
    if form == "json":
        return report.to_json()
    if form == "csv":
        from transship.report.table import table

        return table(report)
    if form == "html":
        from transship.report.page import page

        return page(report)
    from transship.report.text import text

    return text(report)
