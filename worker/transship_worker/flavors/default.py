"""``default``: any registry that speaks the registry API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, ClassVar, Final

from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.listing import catalog

if TYPE_CHECKING:
    from transship_worker.oci.client import RegistryClient

#: Hosts that take a blob in one piece only: GHCR refuses chunks over 4 MiB
#: (wasmCloud/wash-archive#268), which is too small to be worth it.
_WHOLE_BLOBS: Final = frozenset({"ghcr.io"})


class DefaultRegistry(BaseContainerRegistry):
    """Any registry: with or without a login, TLS by a public or a private authority, or HTTP.

    What the Docker Engine trusts is its own setting: ``transship registry check`` compares it
    with ``insecure`` and ``ca``. Loopback hosts may be plain HTTP without being told.
    """

    FLAVOR: ClassVar[str] = "default"

    @property
    def chunked(self) -> bool:
        """Whether blobs may be sent to this registry in chunks."""
        return self.registry_uri.host not in _WHOLE_BLOBS

    def list_repositories(self, client: RegistryClient) -> AsyncIterator[list[str]]:
        """What the registry's ``_catalog`` names; not every registry has one.

        Raises:
            CannotList: it has none.
            PushError: it refuses, or does not answer.
        """
        return catalog(self, client)
