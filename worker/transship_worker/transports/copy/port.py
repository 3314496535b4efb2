"""What a copy reads from, writes to, and asks of its job and of the fleet.

A registry, a layout folder and an archive are sources; a registry and a layout folder are
targets. All of it runs in the worker's background loop.
"""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from transship.model.migration.platforms import Platform
from transship.model.migration.specification import ForeignLayers, OnConflict


class CopyControl(Protocol):
    """What a copy tells and asks the job it works for. Never blocks."""

    def planned(self, size: int, layers: int) -> None:
        """So many bytes and blobs more belong to the image. Unit: bytes."""

    def moved(self, size: int) -> None:
        """So many bytes arrived by being sent; negative when a blob starts again. Unit: bytes."""

    def mounted(self, size: int) -> None:
        """A blob came from another repository of the target registry; negative when it did not.

        Unit: bytes.
        """

    def present(self, size: int) -> None:
        """A blob was there already; negative when that proved wrong. Unit: bytes."""

    def blob_done(self) -> None:
        """One blob more is at the target."""

    def alive(self) -> None:
        """Something moved: the stall limit starts again."""

    def warn(self, message: str) -> None:
        """Keep a sentence with the job that a person should read although it succeeds."""

    def checkpoint(self) -> None:
        """Return if the job may go on, else raise why not; before each irreversible step."""

    def lease_left_s(self) -> float:
        """For how long the job is certainly still this worker's. Unit: s."""

    def parked(self) -> AbstractAsyncContextManager[None]:
        """While the block runs the job only waits and holds no slot; cancelled, it gets none."""


@dataclass(frozen=True, slots=True)
class CopyTask:
    """One image, and where it goes."""

    #: A tag or a digest at the source.
    reference: str
    #: Tags at the target; empty: by digest alone.
    tags: tuple[str, ...] = ()
    #: Empty: all that the image has.
    platforms: tuple[Platform, ...] = ()
    #: Whether signatures, SBOMs and attestations go along.
    referrers: bool = False
    #: Whether layers that a registry need not hold go along where the source holds them.
    foreign_layers: ForeignLayers = ForeignLayers.COPY
    #: The target's repository is new and its tags are to be overwritten: nothing is looked for
    #: there but what the fleet knows of.
    fresh: bool = False
    #: Where a tag at the target is another image.
    on_conflict: OnConflict = OnConflict.OVERWRITE
    #: When the copy, or the migration that it belongs to, was submitted, by the monotonic clock.
    #: What the fleet brought to the target before may be gone, and is asked for. Unit: s.
    since: float = -math.inf
    #: Whose hints and upload leases serve it; empty: those of the whole fleet (``Place.scope``).
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy came to."""

    #: Digest of the manifest that the target's tags hold.
    digest: str
    #: Nothing was written: the target had the image and all its tags.
    skipped: bool = False
    #: Tags that were written.
    tagged: tuple[str, ...] = field(default=())
    #: Tags of the target that were left alone, since they are another image (``skip``).
    kept: tuple[str, ...] = field(default=())
