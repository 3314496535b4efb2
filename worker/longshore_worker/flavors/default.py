"""``default``: any registry that speaks the registry API."""

from __future__ import annotations

from typing import ClassVar

from longshore_worker.flavors.base import BaseContainerRegistry


class DefaultRegistry(BaseContainerRegistry):
    """Any registry: with or without a login, TLS by a public or a private authority, or HTTP.

    What the Docker Engine trusts is its own setting: ``longshore registry check`` compares it
    with ``insecure`` and ``ca``. Loopback hosts may be plain HTTP without being told.
    """

    FLAVOR: ClassVar[str] = "default"
