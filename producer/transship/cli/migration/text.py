"""Migrations in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from transship.cli.job_text import moment
from transship.formatting import age, duration, size
from transship.model.jobs import State
from transship.model.migration.record import MigrationRecord
from transship.model.migration.request import Mode
from transship.report.render import Format
from transship_config.names import DEFAULT_ACCOUNT

#: Formats of a report.
_ENDS: Final[dict[str, Format]] = {".json": "json", ".csv": "csv", ".html": "html", ".htm": "html"}
#: Repositories that a summary names.
_NAMED: Final = 10


def format_of(name: str | None) -> Format:
    """The format that a file's name asks for; ``text`` when it asks for none."""
    return _ENDS.get(Path(name).suffix.lower(), "text") if name else "text"


def migration_table(records: Sequence[MigrationRecord]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a list; it names who submitted what unless ``default`` did all."""
    head = ["ID", "STATE", "AGE", "NAME", "IMAGES", "FAILED", "MOVED", "SAVED"]
    rows = [_table_row(record) for record in records]
    if {record.submitted_by for record in records} != {DEFAULT_ACCOUNT}:
        head.insert(4, "SUBMITTED BY")
        for row, record in zip(rows, records, strict=True):
            row.insert(4, record.submitted_by)
    return head, rows


def _table_row(record: MigrationRecord) -> list[str]:
    """A migration's line in a list."""
    images, sizes = record.images, record.bytes
    start = [record.id, str(record.state), age(record.created_at)]
    if record.mode is Mode.PLAN:
        rows = _rows(record.summary.rows) if record.summary else ""
        return [*start, f"{record.name} (plan)", rows, "", "", ""]
    return [
        *start,
        record.name,
        f"{images.finished} of {images.planned}{'' if record.planned else '+'}",
        str(images.failed),
        size(sizes.moved),
        size(sizes.mounted + sizes.present),
    ]


def counts(record: MigrationRecord) -> str:
    """``45 of 100 images, 2 failed, 3 retrying``; ``+`` while more are being planned."""
    images = record.images
    words = [f"{images.finished} of {images.planned}{'' if record.planned else '+'} images"]
    for name in ("running", "skipped", "failed", "retrying", "cancelled"):
        count = getattr(images, name)
        if count:
            words.append(f"{count} {'there already' if name == 'skipped' else name}")
    return ", ".join(words)


def bytes_words(record: MigrationRecord) -> str:
    """``1.2 GB moved, 3.4 GB saved (1.0 GB mounted, 2.4 GB there already)``."""
    sizes = record.bytes
    words = f"{size(sizes.moved)} moved"
    saved = sizes.mounted + sizes.present
    if saved:
        ways = f"{size(sizes.mounted)} mounted, {size(sizes.present)} there already"
        words += f", {size(saved)} saved ({ways})"
    return words


def ending(record: MigrationRecord) -> str:
    """How it stands, in one line."""
    if record.mode is Mode.PLAN:
        return f"{record.name} {record.state}"
    took = ""
    if record.finished_at is not None:
        took = f" in {duration((record.finished_at - record.created_at).total_seconds())}"
    return f"{record.name} {record.state}{took}: {counts(record)}; {bytes_words(record)}"


def trouble(record: MigrationRecord) -> str:
    """``registry_unreachable: …``: what its planning last failed of; empty when of nothing."""
    if record.error is None:
        return ""
    return f"{record.error.code}: {' '.join(record.error.message.split())}"


def failure(record: MigrationRecord) -> str:
    """Why it did not succeed and what may be done now."""
    lines = [ending(record)]
    if record.error is not None and record.error.code != record.state:
        lines.append(trouble(record))
    if record.images.failed:
        lines.append(f"what failed: transship migrate report {record.id}")
    if record.state is State.FAILED and (record.images.failed or not record.planned):
        lines.append(f"try what failed again: transship retry {record.id}")
    return "\n".join(lines)


def image_warnings(record: MigrationRecord) -> list[str]:
    """The first warnings of images, then how many images have some and where all are."""
    found = record.image_warnings
    if found is None or not found.images:
        return []
    images = "1 image has" if found.images == 1 else f"{found.images:,} images have"
    at_least = "" if found.complete else "at least "
    see = f"see all: transship migrate report {record.id} --format json"
    return [*found.first, f"{at_least}{images} warnings; {see}"]


def fields(record: MigrationRecord) -> list[tuple[str, str]]:
    """What ``transship status`` shows of a migration, absent parts left out."""
    error = record.error
    rows = [
        ("migration", record.id),
        ("name", record.name + (" (a plan)" if record.mode is Mode.PLAN else "")),
        ("state", str(record.state)),
        ("error", f"{error.code}: {error.message}" if error else ""),
        ("images", counts(record) if record.mode is Mode.RUN else ""),
        ("bytes", bytes_words(record) if record.mode is Mode.RUN else ""),
        ("submitted", f"{moment(record.created_at)} by {record.submitted_by}"),
        ("finished", moment(record.finished_at)),
        *(("not planned", text) for text in record.failures),
        *(("warning", text) for text in record.warnings),
    ]
    return [(name, text) for name, text in rows if text]


def summary_lines(record: MigrationRecord) -> list[str]:
    """What a plan comes to."""
    found = record.summary
    if found is None:
        return [f"{record.name}: no row"]
    kinds = f"{found.copy_rows} to copy, {found.tag_rows} to tag, {found.skip_rows} to skip"
    if found.conflict_rows:
        kinds += f", {found.conflict_rows} in conflict"
    lines = [f"{record.name}: {_rows(found.rows)}: {kinds}"]
    if found.bytes_to_move is not None:
        lines.append(f"at most {size(found.bytes_to_move)} to move")
    creates = found.repositories_to_create
    if creates:
        more = f" and {len(creates) - _NAMED} more" if len(creates) > _NAMED else ""
        names = ", ".join(creates[:_NAMED])
        lines.append(f"{len(creates)} repositories to create: {names}{more}")
    if found.hub_pulls:
        windows = f", {found.hub_windows} windows of six hours" if found.hub_windows else ""
        lines.append(f"{found.hub_pulls} pulls from Docker Hub{windows}")
    if found.failures:
        lines.append(f"{found.failures} repositories or images could not be planned")
    return lines


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
