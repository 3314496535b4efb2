"""Which engine answers at the socket: product, version and image store.

Sources: the Docker Engine API (``GET /version``: ``Components``, ``ApiVersion``,
``MinAPIVersion``; ``GET /info``: ``Driver``, ``DriverStatus``, ``SecurityOptions``), where an
engine with the containerd image store has ``driver-type`` ``io.containerd.snapshotter.v1``, and
Podman's ``pkg/api/handlers/compat/version.go``, which names its component ``Podman Engine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from transship.model.engines import EngineInfo, Product, Store
from transship_worker.credentials.redaction import clean
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.stores import has_containerd_store

#: Characters of a text of the engine's that are kept.
_LONGEST: Final = 64
_DOCKER, _PODMAN = "Engine", "Podman Engine"


def describe(engine: Engine) -> EngineInfo:
    """Ask an engine what it is.

    Raises:
        EngineUnavailable: it does not answer.
        PushRejected: it refuses the question, as a proxy before its socket may.
    """
    return engine_info(engine.version(), engine.info())


def engine_info(version: Mapping[str, Any], info: Mapping[str, Any]) -> EngineInfo:
    """What the answers to ``GET /version`` and ``GET /info`` say; what is absent stays empty."""
    product = _product(version)
    return EngineInfo(
        product=product,
        version=_text(version.get("Version")),
        api_version=_text(version.get("ApiVersion")),
        min_api_version=_text(version.get("MinAPIVersion")),
        store=_store(product, info),
        driver=_text(info.get("Driver")),
        rootless="name=rootless" in _list(info.get("SecurityOptions")),
    )


def _product(version: Mapping[str, Any]) -> str:
    components = _list(version.get("Components"))
    names = [str(one.get("Name")) for one in components if isinstance(one, Mapping)]
    if _PODMAN in names:
        return Product.PODMAN
    if _DOCKER in names or not names:
        return Product.DOCKER
    return _text(names[0])


def _store(product: str, info: Mapping[str, Any]) -> Store:
    if product == Product.PODMAN:
        return Store.PODMAN
    return Store.CONTAINERD if has_containerd_store(info) else Store.CLASSIC


def _text(value: object) -> str:
    return clean(value)[:_LONGEST] if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
