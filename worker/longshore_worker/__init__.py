"""What runs: the worker, its catalogue of registry components, and their flavors.

What a custom flavor needs is imported from here; nothing heavy comes with it::

    from longshore_worker import BaseContainerRegistry

    class Scanned(BaseContainerRegistry):
        FLAVOR = "scanned"

        def prepare_image_push(self, image_name: str) -> None:
            ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longshore_config.errors import (
        CloudUnavailable,
        CredentialsMissing,
        Denied,
        PrepareFailed,
        PushError,
        RepositoryMissing,
    )
    from longshore_config.reference import ImageReference, RegistryUri
    from longshore_worker.flavors.base import BaseContainerRegistry
    from longshore_worker.secret import Secret
    from longshore_worker.transports.port import Access, Credentials, PushTransport

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
    "Access": "longshore_worker.transports.port",
    "BaseContainerRegistry": "longshore_worker.flavors.base",
    "CloudUnavailable": "longshore_config.errors",
    "Credentials": "longshore_worker.transports.port",
    "CredentialsMissing": "longshore_config.errors",
    "Denied": "longshore_config.errors",
    "ImageReference": "longshore_config.reference",
    "PrepareFailed": "longshore_config.errors",
    "PushError": "longshore_config.errors",
    "PushTransport": "longshore_worker.transports.port",
    "RegistryUri": "longshore_config.reference",
    "RepositoryMissing": "longshore_config.errors",
    "Secret": "longshore_worker.secret",
}


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used, so that commands start quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
