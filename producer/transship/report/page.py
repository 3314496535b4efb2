"""A report as one HTML page.

What registries and people wrote stands in it, so every value is escaped, and the page's policy
lets it load and run nothing: its one style is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from transship.formatting import shorten, size
from transship.model.jobs import State
from transship.report.charts import Line, Part, bars, escape, over_time, span, whole
from transship.report.style import STYLE

if TYPE_CHECKING:
    from transship.report.model import Image, Report

#: Rows of a table; CSV and JSON hold all.
MOST_ROWS: Final = 2_000
#: Causes that have a bar.
MOST_CAUSES: Final = 12
#: Characters of a message that stands as an example.
_EXAMPLE: Final = 160

_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
)


def page(report: Report) -> str:
    """The whole page."""
    title = escape(f"{report.record.name}: migration report")
    body = [
        _header(report),
        _error(report),
        _tiles(report),
        f'<div class="cards">{_progress(report)}{_bytes(report)}</div>',
        f'<div class="cards">{_slowest(report)}{_causes(report)}</div>',
        _warnings(report),
        _failures(report),
        _images(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _header(report: Report) -> str:
    record = report.record
    times = f"submitted {_at(record.created_at)} by {record.submitted_by}"
    times += f", finished {_at(record.finished_at)}" if record.finished_at else ", not finished"
    return (
        f'<header><h1>{escape(record.name)}<span class="badge {record.state}">'
        f'{escape(record.state)}</span></h1><p class="soft"><code>{escape(record.id)}</code></p>'
        f'<p class="soft">{escape(times)}; report of {escape(_at(report.made_at))}</p></header>'
    )


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _error(report: Report) -> str:
    error = report.record.error
    if error is None:
        return ""
    return (
        f'<section class="card note"><h2>{escape(error.code)}</h2>'
        f"<p>{escape(error.message)}</p></section>"
    )


def _tiles(report: Report) -> str:
    images, sizes = report.record.images, report.record.bytes
    rate = f"{size(int(sizes.moved / report.seconds))}/s" if report.seconds else ""
    there = images.succeeded + images.skipped
    left = f", {images.unfinished:,} left" if images.unfinished else ""
    cancelled = f", {images.cancelled:,} cancelled" if images.cancelled else ""
    tiles = [
        (f"{there:,}", f"of {images.planned:,} images there{left}"),
        (f"{images.failed:,}", f"failed{cancelled}"),
        (f"{images.skipped:,}", "were there already"),
        (size(sizes.moved), "moved" + (f", {rate}" if rate else "")),
        (size(report.saved), "saved by mounts and by what was there"),
        (span(report.seconds), "from submit to end" if report.record.finished_at else "so far"),
    ]
    inner = "".join(
        f'<div class="tile"><b>{escape(number)}</b><span>{escape(words)}</span></div>'
        for number, words in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _card(title: str, inner: str, *, long: bool = False) -> str:
    kind = "card long" if long else "card"
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{inner}</section>'


def _legend(entries: Sequence[tuple[str, str, str]]) -> str:
    items = "".join(
        f'<li><i class="{kind}"></i>{escape(label)} <b>{escape(words)}</b></li>'
        for kind, label, words in entries
    )
    return f'<ul class="legend">{items}</ul>'


def _progress(report: Report) -> str:
    moments = report.moments()
    images = max(1, report.record.images.planned)
    total = max(1, report.record.bytes.planned, moments[-1].bytes)
    lines = [
        Line("moved", [moment.images / images for moment in moments]),
        Line("mounted", [moment.bytes / total for moment in moments]),
    ]
    chart = over_time([m.seconds for m in moments], lines, "Progress over time")
    done = moments[-1]
    legend = _legend(
        [
            ("moved", "images ended", f"{done.images:,} of {report.record.images.planned:,}"),
            ("mounted", "bytes there (dashed)", f"{size(done.bytes)} of {size(total)}"),
        ]
    )
    return _card("Progress over time", chart + legend)


def _bytes(report: Report) -> str:
    sizes = report.record.bytes
    parts = [
        Part("moved", "moved", sizes.moved, size(sizes.moved)),
        Part("mounted", "mounted from another repository", sizes.mounted, size(sizes.mounted)),
        Part("present", "there already", sizes.present, size(sizes.present)),
        Part("left", "not there", sizes.left, size(sizes.left)),
    ]
    total = sum(part.value for part in parts)
    rows = "".join(
        f'<tr><td><i class="{part.kind}"></i>{escape(part.label)}</td>'
        f'<td class="number"><b>{escape(part.words)}</b></td>'
        f'<td class="number">{100 * part.value / total if total else 0:.1f} %</td></tr>'
        for part in parts
    )
    chart = whole(parts, "Where the bytes went")
    return _card("Where the bytes went", f'{chart}<table class="key">{rows}</table>')


def _slowest(report: Report) -> str:
    rows = [
        Part("moved", image.target, image.seconds or 0.0, _took(image)) for image in report.slowest
    ]
    if not rows:
        return _card("Slowest images", '<p class="soft">No image ended yet.</p>')
    return _card("Slowest images", bars(rows, "Slowest images"))


def _took(image: Image) -> str:
    return span(image.seconds or 0.0)


def _causes(report: Report) -> str:
    causes = report.causes
    if not causes:
        return _card("Failures by cause", '<p class="soft">No image failed.</p>')
    rows = [Part("bad", c.code, c.images, f"{c.images:,}") for c in causes[:MOST_CAUSES]]
    examples = "".join(
        f"<li><b>{escape(cause.code)}</b> {escape(shorten(cause.example, _EXAMPLE))}</li>"
        for cause in causes[:MOST_CAUSES]
    )
    chart = bars(rows, "Failures by cause")
    return _card("Failures by cause", f'{chart}<ul class="soft plain">{examples}</ul>')


def _warnings(report: Report) -> str:
    warnings = report.warnings
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(one)}</li>" for one in warnings[:MOST_ROWS])
    return _card(f"Warnings ({len(warnings):,})", f"<ul>{items}</ul>", long=True)


def _failures(report: Report) -> str:
    failures = report.failures
    if not failures:
        return ""
    rows = "".join(
        f'<tr><td class="mono">{escape(image.target)}</td><td>{escape(image.error_code or "")}</td>'
        f'<td>{escape(image.error_message or "")}</td><td class="number">{image.attempts}</td>'
        f'<td class="mono">{escape(image.job)}</td></tr>'
        for image in failures[:MOST_ROWS]
    )
    head = (
        '<th>image</th><th>cause</th><th>message</th><th class="number">attempts</th><th>job</th>'
    )
    return _card(f"Failed images ({len(failures):,})", _table(head, rows, len(failures)), long=True)


def _table(head: str, rows: str, count: int) -> str:
    more = (
        f'<p class="soft">The first {MOST_ROWS:,} of {count:,}; --format csv names all.</p>'
        if count > MOST_ROWS
        else ""
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{more}"
    )


def _images(report: Report) -> str:
    if not report.images:
        return ""
    rows = "".join(_image_row(image) for image in report.images[:MOST_ROWS])
    head = (
        '<th>image</th><th>from</th><th>state</th><th class="number">size</th>'
        '<th class="number">moved</th><th class="number">took</th>'
    )
    inner = _table(head, rows, len(report.images))
    return (
        f'<section class="card long"><details><summary>All images ({len(report.images):,})'
        f"</summary>{inner}</details></section>"
    )


def _image_row(image: Image) -> str:
    there = image.skipped and image.state is State.SUCCEEDED
    state = "there already" if there else str(image.state)
    took = _took(image) if image.seconds is not None else ""
    return (
        f'<tr><td class="mono">{escape(image.target)}</td><td class="mono">{escape(image.source)}'
        f'</td><td class="{image.state}">{escape(state)}</td>'
        f'<td class="number">{escape(size(image.bytes_planned))}</td>'
        f'<td class="number">{escape(size(image.bytes_moved))}</td>'
        f'<td class="number">{escape(took)}</td></tr>'
    )
