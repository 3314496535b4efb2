"""What workers publish of the Docker Engine that they push from."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, computed_field


class Product(StrEnum):
    """Who made the engine behind the socket."""

    DOCKER = "Docker"
    PODMAN = "Podman"


class Store(StrEnum):
    """Where an engine keeps its images."""

    #: Docker's own image store with a storage driver such as ``overlay2``.
    CLASSIC = "classic"
    #: Docker's containerd image store: indexes, and layers as they were pulled.
    CONTAINERD = "containerd"
    #: Podman's (containers/storage).
    PODMAN = "podman"


#: Versions that the tests run against, by product and store; ``26`` stands for each 26.x.
#: docs/compatibility.md has the results.
TESTED: Final = {
    (Product.DOCKER, Store.CLASSIC): ("20.10", "26", "28"),
    (Product.DOCKER, Store.CONTAINERD): ("26", "28"),
    (Product.PODMAN, Store.PODMAN): ("5.4", "5.8"),
}
_STORE_NAMES: Final = {
    Store.CLASSIC: "classic image store",
    Store.CONTAINERD: "containerd image store",
    Store.PODMAN: "containers/storage",
}


class EngineInfo(BaseModel):
    """One engine, as it describes itself."""

    model_config = ConfigDict(frozen=True)

    product: str
    version: str
    #: The newest version of the Docker Engine API that it speaks, and the oldest.
    api_version: str
    min_api_version: str = ""
    #: A ``Store``.
    store: str
    #: The storage driver or snapshotter, such as ``overlay2``.
    driver: str = ""
    rootless: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tested(self) -> bool:
        """Whether the tests run against such an engine."""
        return not self.rootless and any(
            re.match(rf"{re.escape(version)}(?!\d)", self.version)
            for (product, store), versions in TESTED.items()
            if (product, store) == (self.product, self.store)
            for version in versions
        )

    @property
    def reports_progress(self) -> bool:
        """Whether it says during a push how far it is."""
        return self.product != Product.PODMAN

    @property
    def asks_registries(self) -> bool:
        """Whether it can be asked what a registry holds (``GET /distribution/NAME/json``).

        Podman's Docker-compatible socket has no such call.
        """
        return self.product != Product.PODMAN

    @property
    def title(self) -> str:
        """``Docker 28.5.2 (API 1.51, containerd image store, overlayfs)``."""
        store = _STORE_NAMES[Store(self.store)] if self.store in set(Store) else self.store
        facts = [f"API {self.api_version}" if self.api_version else "", store, self.driver]
        facts.append("rootless" if self.rootless else "")
        name = " ".join(filter(None, [self.product, self.version]))
        return f"{name} ({', '.join(filter(None, facts))})"

    @property
    def support(self) -> str:
        """What can be expected of it, in words: ``supported; streams with --via stream only``.

        ``--via stream`` works with each store; left to the worker, only a classic store's images
        are streamed (docs/pipelines.md, "Large images").
        """
        words = ["supported" if self.tested else "not tested"]
        alone = self.store == Store.CLASSIC
        words.append("streams large images" if alone else "streams with --via stream only")
        if not self.reports_progress:
            words.append("reports no progress during a push")
        return "; ".join(words)
