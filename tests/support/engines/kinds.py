"""The engines that are supported, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Store(StrEnum):
    """Where an engine stores images."""

    #: Docker's own store: layers unpacked by a graph driver, one platform of an index.
    CLASSIC = "classic"
    #: Docker's containerd image store: manifests, indexes and blobs as they were pulled.
    CONTAINERD = "containerd"
    #: Podman's containers-storage: layers unpacked, manifests as they were pulled.
    PODMAN = "podman"


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One engine by its version and store."""

    name: str
    #: As people write it, for tables.
    title: str
    store: Store
    #: The release of Debian that has it; ``None``: this machine's own Docker.
    suite: str | None

    @property
    def is_podman(self) -> bool:
        """Whether it is Podman, through its Docker-compatible socket."""
        return self.store is Store.PODMAN

    @property
    def stores_manifests(self) -> bool:
        """Whether an image's ID is the digest of its manifest or index."""
        return self.store is Store.CONTAINERD


KINDS: Final = (
    EngineKind("docker-20.10", "Docker 20.10, classic", Store.CLASSIC, None),
    EngineKind("docker-26", "Docker 26.1, classic", Store.CLASSIC, "trixie"),
    EngineKind("docker-26-containerd", "Docker 26.1, containerd", Store.CONTAINERD, "trixie"),
    EngineKind("docker-28", "Docker 28.5, classic", Store.CLASSIC, "forky"),
    EngineKind("docker-28-containerd", "Docker 28.5, containerd", Store.CONTAINERD, "forky"),
    EngineKind("podman-5.4", "Podman 5.4", Store.PODMAN, "trixie"),
    EngineKind("podman-5.8", "Podman 5.8", Store.PODMAN, "forky"),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
