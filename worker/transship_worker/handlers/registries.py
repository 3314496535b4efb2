"""From components of the catalogue to what copies and planners read and write.

What may block (a login, a vendor's SDK) is done in the job's thread, by ``Registries.open``;
what talks to registries is made in the background loop, from what was opened and a ``Way``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from transship.errors import UnknownComponent
from transship.model.references import RegistryUri
from transship_config.text import some_of
from transship_worker.catalog.model import Components
from transship_worker.credentials.access import Credentials
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.layout import LayoutRegistry
from transship_worker.flavors.options import Use
from transship_worker.fleet.budget import NO_LIMITS, Governors
from transship_worker.oci.content import ContentSource, ContentTarget
from transship_worker.oci.endpoint import Endpoint
from transship_worker.oci.pool import ClientPool
from transship_worker.transports.copy.registry import RegistryRepository

if TYPE_CHECKING:
    from transship_worker.oci.client import RegistryClient


@dataclass(frozen=True, slots=True)
class Way:
    """How the background loop reaches registries; shared by all jobs of a process."""

    pool: ClientPool
    governors: Governors

    def client(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        component: BaseContainerRegistry | None,
    ) -> RegistryClient:
        """A registry's client, within the fleet's budget for this login. To be called in the loop.

        ``component``: whose options hold, and which gives the login anew; ``None``: a host
        without one.
        """
        governor = self.governors.of(
            endpoint.registry,
            credentials.username if credentials is not None else None,
            component.quotas if component is not None else NO_LIMITS,
        )
        renew = component.credentials if component is not None else None
        return self.pool.client(endpoint, credentials, renew=renew, governor=governor)


class Opened(Protocol):
    """A component, or a host without one, that may be used for one purpose."""

    @property
    def name(self) -> str:
        """The component's name, or the host."""

    @property
    def uri(self) -> RegistryUri:
        """Where its images lie."""

    async def source(self, way: Way, repository: str) -> ContentSource:
        """A repository to read from, by its whole name. To be called in the loop."""

    def target(self, way: Way, repository: str) -> ContentTarget:
        """A repository to write to, by its whole name. To be called in the loop."""


@dataclass(frozen=True, slots=True)
class OpenedRegistry:
    """A registry with its login at hand; implements ``Opened``."""

    name: str
    uri: RegistryUri
    endpoint: Endpoint
    #: ``None``: a host that is read without a component, and without a login.
    component: BaseContainerRegistry | None = None
    credentials: Credentials | None = field(default=None, repr=False)

    def client(self, way: Way) -> RegistryClient:
        """The registry's client. To be called in the loop."""
        return way.client(self.endpoint, self.credentials, self.component)

    async def source(self, way: Way, repository: str) -> ContentSource:
        """A repository to read from."""
        return RegistryRepository(self.client(way).repository(repository))

    def target(self, way: Way, repository: str) -> ContentTarget:
        """A repository to write to."""
        component = self.component
        return RegistryRepository(
            self.client(way).repository(repository, writing=True),
            chunked=component is not None and component.chunked,
            mounts_need_manifest=component is not None and component.MOUNTS_NEED_MANIFEST,
        )


@dataclass(frozen=True, slots=True)
class OpenedLayout:
    """A folder of layouts; implements ``Opened``."""

    component: LayoutRegistry

    @property
    def name(self) -> str:
        """The component's name."""
        return self.component.name

    @property
    def uri(self) -> RegistryUri:
        """What stands for the folder in image references."""
        return self.component.registry_uri

    async def source(self, way: Way, repository: str) -> ContentSource:  # noqa: ARG002 - no way
        """A layout or an archive to read from."""
        return await self.component.layouts.source(repository)

    def target(self, way: Way, repository: str) -> ContentTarget:  # noqa: ARG002 - no way
        """A layout to write to."""
        return self.component.layouts.target(repository)


@dataclass(frozen=True, slots=True)
class Registries:
    """What one version of the catalogue lets be used."""

    components: Components

    def knows(self, name: str, use: Use) -> bool:
        """Whether the name can be opened for this use, as far as the catalogue tells."""
        if name in self.components.registries:
            return True
        return use is Use.COPY_FROM and name in self.components.anonymous_sources

    def open(self, name: str, use: Use) -> OpenedLayout | OpenedRegistry:
        """A component, or a host that may be read without one. May block.

        Raises:
            UnknownComponent: there is none of this name.
            NotAllowed: it is not for this use.
            CredentialsMissing: its login cannot be had.
        """
        if name not in self.components.registries and use is Use.COPY_FROM:
            return self._anonymous(name)
        component = self.components.registry(name)
        component.check_allows(use)
        if isinstance(component, LayoutRegistry):
            return OpenedLayout(component)
        return OpenedRegistry(
            name,
            component.registry_uri,
            component.registry_endpoint,
            component,
            component.credentials(),
        )

    def uri(self, name: str) -> RegistryUri:
        """Where the images of a component, or of a host without one, lie.

        Raises:
            UnknownComponent: there is none of this name.
        """
        if name in self.components.registries:
            return self.components.registry(name).registry_uri
        return self._anonymous(name).uri

    def _anonymous(self, host: str) -> OpenedRegistry:
        hosts = self.components.anonymous_sources
        if host not in hosts:
            known = [*self.components.names, *sorted(hosts)]
            raise UnknownComponent(
                f"no component {host!r}, and no host of anonymous_sources; known: "
                f"{some_of(known) or 'none'}"
            )
        uri = RegistryUri.parse(host)
        return OpenedRegistry(host, uri, Endpoint(uri.registry))
