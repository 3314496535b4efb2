"""The simplest custom flavor, and a transport that pushes nothing."""

from __future__ import annotations

from typing import ClassVar

from transship.model.references import ImageReference
from transship_worker import BaseContainerRegistry
from transship_worker.credentials.access import Access, Credentials

DIGEST = f"sha256:{'d' * 64}"


class Recorder:
    """A transport that pushes nothing and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[ImageReference, Credentials | None, Access]] = []

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        self.calls.append((image, credentials, access))
        return DIGEST


class Minimal(BaseContainerRegistry):
    """The least that a custom flavor is."""

    FLAVOR: ClassVar[str] = "minimal"
    refuse: str = ""

    def prepare_image_push(self, image_name: str) -> None:
        if self.refuse and self.refuse in image_name:
            raise ValueError(f"{image_name} was not scanned")
