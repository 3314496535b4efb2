"""The worker: runs the jobs, with its catalog of registry components and their flavors.

What a custom flavor needs is imported from here; nothing heavy comes with it::

    from transship_worker import BaseContainerRegistry

    class Scanned(BaseContainerRegistry):
        FLAVOR = "scanned"

        def prepare_image_push(self, image_name: str) -> None:
            ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transship.errors import (
        CloudUnavailable,
        CredentialsMissing,
        Denied,
        PrepareFailed,
        PushError,
        RepositoryMissing,
    )
    from transship.model.references import ImageReference, RegistryUri
    from transship_worker.credentials.access import Access, Credentials
    from transship_worker.credentials.secret_sources import Secret
    from transship_worker.flavors.base import BaseContainerRegistry
    from transship_worker.transports.port import PushTransport

__all__ = [
    "Access",
    "BaseContainerRegistry",
    "CloudUnavailable",
    "Credentials",
    "CredentialsMissing",
    "Denied",
    "ImageReference",
    "PrepareFailed",
    "PushError",
    "PushTransport",
    "RegistryUri",
    "RepositoryMissing",
    "Secret",
]

_HOMES = {
    "Access": "transship_worker.credentials.access",
    "BaseContainerRegistry": "transship_worker.flavors.base",
    "CloudUnavailable": "transship.errors",
    "Credentials": "transship_worker.credentials.access",
    "CredentialsMissing": "transship.errors",
    "Denied": "transship.errors",
    "ImageReference": "transship.model.references",
    "PrepareFailed": "transship.errors",
    "PushError": "transship.errors",
    "PushTransport": "transship_worker.transports.port",
    "RegistryUri": "transship.model.references",
    "RepositoryMissing": "transship.errors",
    "Secret": "transship_worker.credentials.secret_sources",
}


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used, so that commands start quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
