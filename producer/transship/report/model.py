"""A migration and its images as a report needs them, and what they come to together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from transship.model.jobs import State
from transship.model.migration.record import MigrationRecord
from transship.model.records import JobRecord

#: Images that are named as the slowest.
SLOWEST: Final = 10
#: Points of the progress over time.
MOMENTS: Final = 200


@dataclass(frozen=True, slots=True)
class Image:
    """What became of one image that was a job; sizes in bytes."""

    job: str
    state: State
    #: It was at the target already.
    skipped: bool
    source: str
    target: str
    tags: tuple[str, ...]
    digest: str | None
    attempts: int
    bytes_planned: int
    bytes_moved: int
    bytes_mounted: int
    bytes_present: int
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None
    retryable: bool
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        """From the ledger's record."""
        progress, error = record.progress, record.error
        return cls(
            job=record.id,
            state=record.state,
            skipped=record.skipped,
            source=record.source or "",
            target=record.image,
            tags=tuple(record.tags),
            digest=record.digest,
            attempts=record.attempts,
            bytes_planned=progress.bytes_total,
            bytes_moved=progress.bytes_moved,
            bytes_mounted=progress.bytes_mounted,
            bytes_present=progress.bytes_present,
            started_at=record.started_at,
            finished_at=record.finished_at,
            error_code=error.code if error else None,
            error_message=error.message if error else None,
            retryable=bool(error and error.retryable),
            warnings=tuple(record.warnings),
        )

    @property
    def seconds(self) -> float | None:
        """From its first start to its end; ``None`` while one of them is not known. Unit: s."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    def as_object(self) -> dict[str, Any]:
        """What JSON holds of it."""
        found = asdict(self)
        found["started_at"] = _written(self.started_at)
        found["finished_at"] = _written(self.finished_at)
        return found | {"seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class Cause:
    """Images that failed for one reason."""

    code: str
    images: int
    #: The message of the first of them.
    example: str


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the migration was at one time."""

    #: Since its submit. Unit: s.
    seconds: float
    #: Images that were final.
    images: int
    #: Bytes at the target, whatever way they came.
    bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a migration and of each of its images at one time."""

    record: MigrationRecord
    images: tuple[Image, ...]
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, record: MigrationRecord, jobs: Iterable[JobRecord]) -> Self:
        """From the ledger's records."""
        return cls(record, tuple(Image.of(job) for job in jobs))

    @property
    def seconds(self) -> float:
        """How long it took, or takes by now. Unit: s."""
        end = self.record.finished_at or self.made_at
        return max(0.0, (end - self.record.created_at).total_seconds())

    @property
    def saved(self) -> int:
        """Bytes that did not travel, because the target had them. Unit: bytes."""
        return self.record.bytes.mounted + self.record.bytes.present

    @property
    def failures(self) -> list[Image]:
        """Images that failed."""
        return [image for image in self.images if image.state is State.FAILED]

    @property
    def warnings(self) -> list[str]:
        """Warnings of the migration, then those of its images, each with the image's name."""
        found = list(self.record.warnings)
        return found + [
            f"{image.target}: {warning}" for image in self.images for warning in image.warnings
        ]

    @property
    def causes(self) -> list[Cause]:
        """Failures by their error's code, the most frequent first."""
        found: dict[str, list[Image]] = {}
        for image in self.failures:
            found.setdefault(image.error_code or "unknown", []).append(image)
        causes = [Cause(code, len(of), of[0].error_message or "") for code, of in found.items()]
        return sorted(causes, key=lambda cause: (-cause.images, cause.code))

    @property
    def slowest(self) -> list[Image]:
        """Finished images that took longest, the slowest first."""
        timed = [image for image in self.images if image.seconds is not None and image.attempts]
        return sorted(timed, key=lambda image: -(image.seconds or 0.0))[:SLOWEST]

    def moments(self, most: int = MOMENTS) -> list[Moment]:
        """Progress from the submit to the end, in at most so many points.

        Images that needed nothing were done when the first of the others was.
        """
        ended = sorted(
            (image for image in self.images if image.finished_at is not None),
            key=lambda image: image.finished_at or self.made_at,
        )
        totals = self.record.images
        jobless = max(0, totals.skipped - sum(image.skipped for image in ended))
        points, images, settled = [Moment(0.0, 0, 0)], jobless, 0
        step = max(1, len(ended) // max(1, most - 2))
        for index, image in enumerate(ended, 1):
            images += 1
            settled += image.bytes_moved + image.bytes_mounted + image.bytes_present
            if index % step == 0 or index == len(ended):
                at = (image.finished_at or self.made_at) - self.record.created_at
                points.append(Moment(max(0.0, at.total_seconds()), images, settled))
        points.append(Moment(max(self.seconds, points[-1].seconds), images, settled))
        return points

    def to_json(self) -> str:
        """One JSON object: the migration, failures by cause, and every image that was a job."""
        found = {
            "migration": json.loads(self.record.to_json()),
            "made_at": _written(self.made_at),
            "seconds": self.seconds,
            "causes": [asdict(cause) for cause in self.causes],
            "images": [image.as_object() for image in self.images],
        }
        return json.dumps(found)


def _written(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
