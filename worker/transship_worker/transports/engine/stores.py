"""How an engine stores images, found with each push: it may come back with another store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from transship_worker.transports.engine.connection import MANIFESTS_API, Line
from transship_worker.transports.engine.errors import Named, asked
from transship_worker.transports.engine.identity import Store

#: Docker Engines that can have the containerd image store, and those that tell it of each image.
_FIRST_CONTAINERD: Final = 23
_TELLS_STORE: Final = 28
#: What begins the name of a containerd snapshotter in ``docker info``.
_SNAPSHOTTER: Final = "io.containerd.snapshotter"


def is_podman(server: str) -> bool:
    """Whether the ``Server`` header of an answer is Podman's."""
    return server.startswith("Libpod/")


def store_of(line: Line, engine: Named, inspected: Mapping[str, Any]) -> Store:
    """How the engine stores images that just gave this answer.

    Only Docker Engine 23 to 27, and an engine that does not say its version, costs a request.
    Sources: docs.docker.com, "containerd image store" (``DriverStatus`` in ``docker info``) and
    the API's history (1.48: ``Descriptor`` where the store is one for several platforms).

    Raises:
        EngineUnavailable: it does not answer.
    """
    if is_podman(line.server):
        return Store.PODMAN
    if isinstance(inspected.get("Descriptor"), Mapping):
        return Store.CONTAINERD
    major = _docker_major(line.server)
    if major is None and _names_podman(line, engine):
        return Store.PODMAN
    if major is not None and (
        major < _FIRST_CONTAINERD or (major >= _TELLS_STORE and line.api >= MANIFESTS_API)
    ):
        return Store.CLASSIC
    return Store.CONTAINERD if has_containerd_store(asked(engine, line.info)) else Store.CLASSIC


def has_containerd_store(info: Mapping[str, Any]) -> bool:
    """Whether an engine's ``docker info`` says that it uses the containerd image store."""
    status = info.get("DriverStatus")
    return isinstance(status, list) and any(_SNAPSHOTTER in str(pair) for pair in status)


def _names_podman(line: Line, engine: Named) -> bool:
    """For an engine whose answers do not name it, as behind some proxies."""
    version: Any = asked(engine, lambda: line.version(api_version=False))
    components = version.get("Components") or []
    return any("podman" in str(one.get("Name", "")).lower() for one in components)


def _docker_major(server: str) -> int | None:
    """``28`` of ``Docker/28.5.2 (linux)``; ``None``: it is not said."""
    found = re.match(r"Docker/(\d{1,4})\.", server, re.ASCII)
    return int(found[1]) if found else None
