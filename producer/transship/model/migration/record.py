"""What people see of a migration."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from transship.model.jobs import State
from transship.model.migration.request import Mode
from transship.model.migration.summary import PlanSummary
from transship.model.migration.totals import ByteTotals, ImageTotals
from transship.model.records import ErrorInfo, ForWhom


class ImageWarnings(BaseModel):
    """Which images of a migration have warnings."""

    model_config = ConfigDict(frozen=True)

    #: Images that have some, of those that were looked at.
    images: int = 0
    #: Whether all images were looked at.
    complete: bool = True
    #: The warnings of the first of them, each with its image.
    first: list[str] = Field(default_factory=list)


class MigrationRecord(BaseModel):
    """Everything that is known of a migration, as ``--json`` prints it."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    mode: Mode
    #: ``queued`` until a worker plans it, ``running`` while it is planned or images are not
    #: final, ``failed`` when planning (or a part of it) or an image failed.
    state: State
    #: Whether all rows are known.
    planned: bool = False
    images: ImageTotals = ImageTotals()
    bytes: ByteTotals = ByteTotals()
    created_at: datetime
    finished_at: datetime | None = None
    #: The Redis account, and for whom it submitted the migration.
    submitted_by: str
    on_behalf_of: ForWhom | None = None
    #: Why planning failed, or what stopped it for now.
    error: ErrorInfo | None = None
    #: Things that a person should know: tags that moved, referrers that were not copied.
    warnings: list[str] = Field(default_factory=list)
    #: The warnings of its images; ``None``: nobody looked. A wait looks at its end.
    image_warnings: ImageWarnings | None = None
    #: Repositories and images that could not be planned, and why; the others go on.
    failures: list[str] = Field(default_factory=list)
    #: What the rows come to, once all are known.
    summary: PlanSummary | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()
