"""A flavor whose pushes send nothing: all else of a job is as always."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from benchmarks.marks import Marks
from transship_worker import BaseContainerRegistry, PushTransport


class NothingRegistry(BaseContainerRegistry):
    """Notes when its part of a push begins, and says that it is done."""

    FLAVOR: ClassVar[str] = "bench-nothing"

    #: File for the marks.
    marks: Path

    def push_image(
        self,
        image_name: str,
        *,
        transport: PushTransport | None = None,  # noqa: ARG002 - nothing is pushed
    ) -> str:
        """Do nothing."""
        Marks(self.marks).add(image_name)
        return f"sha256:{0:064x}"
