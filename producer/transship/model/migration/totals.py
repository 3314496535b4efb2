"""How far a migration is, in numbers that add up."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from transship.model.migration.fields import MODEL, Number

_Natural = Annotated[Number, Field(ge=0)]


class ImageTotals(BaseModel):
    """Images by what became of them; the others add up to ``planned``."""

    model_config = MODEL

    planned: _Natural = 0
    queued: _Natural = 0
    running: _Natural = 0
    retrying: _Natural = 0
    succeeded: _Natural = 0
    skipped: _Natural = 0
    failed: _Natural = 0
    cancelled: _Natural = 0

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.finished + self.unfinished != self.planned:
            raise ValueError(
                f"{self.finished + self.unfinished} images have a state, but {self.planned} are "
                "planned; the states must add up to planned"
            )
        return self

    @classmethod
    def of(cls, **states: int) -> Self:
        """Totals with ``planned`` worked out from the states."""
        return cls(planned=sum(states.values()), **states)

    @property
    def finished(self) -> int:
        """Images that stay as they are unless somebody retries them."""
        return self.succeeded + self.skipped + self.failed + self.cancelled

    @property
    def unfinished(self) -> int:
        """Images that still wait or run."""
        return self.queued + self.running + self.retrying

    def __add__(self, other: ImageTotals) -> ImageTotals:
        return ImageTotals(**_sums(self, other))


class ByteTotals(BaseModel):
    """Bytes of the images, by how they came to the target. Unit: bytes."""

    model_config = MODEL

    planned: _Natural = 0
    #: Sent to the target.
    moved: _Natural = 0
    #: Saved: taken from another repository of the target registry.
    mounted: _Natural = 0
    #: Saved: there already.
    present: _Natural = 0

    @property
    def settled(self) -> int:
        """Bytes that are at the target."""
        return self.moved + self.mounted + self.present

    @property
    def left(self) -> int:
        """Bytes that are not at the target yet.

        Never negative, although referrers that no plan knew of may add to what is moved.
        """
        return max(0, self.planned - self.settled)

    def __add__(self, other: ByteTotals) -> ByteTotals:
        return ByteTotals(**_sums(self, other))


class MigrationTotals(BaseModel):
    """How far a migration is."""

    model_config = MODEL

    images: ImageTotals = ImageTotals()
    bytes: ByteTotals = ByteTotals()

    def __add__(self, other: MigrationTotals) -> MigrationTotals:
        return MigrationTotals(images=self.images + other.images, bytes=self.bytes + other.bytes)


def _sums(first: BaseModel, second: BaseModel) -> dict[str, int]:
    return {name: getattr(first, name) + getattr(second, name) for name in type(first).model_fields}
