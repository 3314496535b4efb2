"""``layout``: a folder of OCI image layouts and ``docker save`` archives on the worker's host."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

from pydantic import ValidationInfo, field_validator, model_validator

from transship.errors import NotAllowed
from transship.model.components import PublicComponent
from transship.model.references import RegistryUri
from transship_worker.credentials.secret_sources import local_path
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.options import Use

if TYPE_CHECKING:
    from transship_worker.layouts.folders import LayoutFolder
    from transship_worker.oci.client import RegistryClient

#: Ends the host that stands for a folder in image references. It is no domain of the internet.
SUFFIX: Final = ".layout"
_EXAMPLE: Final = "/srv/images"
_RIGHT: Final = f"write the path of a folder, for example uri: {_EXAMPLE}"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
#: Options that speak of a server or of a login there, as the catalogue calls them.
_OF_SERVERS: Final = {
    "username": "username",
    "password": "password",
    "credentials_from": "credentials",
    "insecure": "insecure",
    "ca": "ca",
    "client_cert": "client_cert",
    "client_key": "client_key",
    "endpoint": "endpoint",
    "auth_realms": "auth_realms",
    "allowed_networks": "allowed_networks",
    "limits": "limits",
    "max_body": "max_body",
}


class LayoutRegistry(BaseContainerRegistry):
    """A folder whose sub-folders are repositories; copies read it and write to it.

    Its images are called ``NAME.layout/REPOSITORY:TAG``, by the component's name; producers do
    not learn where the folder is. A Docker Engine cannot push there.
    """

    FLAVOR: ClassVar[str] = "layout"
    URI_EXAMPLE: ClassVar[str] = _EXAMPLE

    @field_validator("uri")
    @classmethod
    def _canonical_uri(cls, value: str) -> str:
        """Instead of the other flavors' check: this is no registry URI."""
        if not value.strip() or not value.isprintable() or "://" in value:
            raise ValueError(f"uri is no folder; {_RIGHT}")
        return value

    @field_validator("uri")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        found = local_path(value, info)
        if not found.is_absolute():
            raise ValueError(f"uri {value!r} is a relative path; {_RIGHT}")
        return str(found)

    @field_validator("name")
    @classmethod
    def _host_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} cannot be the first part of an image's name ({value}{SUFFIX}/...); a "
                "layout's name is lower-case letters and digits, with '-' and '.' between them"
            )
        return value

    @model_validator(mode="after")
    def _no_server(self) -> Self:
        wrong = sorted(_OF_SERVERS[name] for name in self.model_fields_set & _OF_SERVERS.keys())
        if wrong:
            raise ValueError(f"a folder has no {' and no '.join(wrong)}; leave that out")
        if "allow" in self.model_fields_set and Use.PUSH in self.allow:
            raise ValueError(
                f"allow: {Use.PUSH} is not for a folder; write allow: [{Use.COPY_FROM}, "
                f"{Use.COPY_TO}], or one of them"
            )
        return self

    @property
    def registry_uri(self) -> RegistryUri:
        """What stands for the folder in image references: ``NAME.layout``."""
        return RegistryUri.parse(f"{self.name}{SUFFIX}")

    @property
    def public(self) -> PublicComponent:
        """What producers may know of it, which its path is not."""
        return PublicComponent(name=self.name, flavor=self.FLAVOR, uri=str(self.registry_uri))

    @property
    def layouts(self) -> LayoutFolder:
        """The folder, to read from and to write to."""
        # Only a worker that uses one needs the file locks of its system.
        from transship_worker.layouts.folders import LayoutFolder

        return LayoutFolder(Path(self.uri), str(self.registry_uri))

    def check_allows(self, use: Use) -> None:
        """Return if the component may be used so; no folder is for pushes.

        Raises:
            NotAllowed: it may not.
        """
        if use is Use.PUSH:
            raise NotAllowed(
                f"component {self.name!r} is a folder, and no Docker Engine can push into one; "
                f"use: transship copy SOURCE {self.registry_uri}/REPOSITORY:TAG"
            )
        super().check_allows(use)

    def list_repositories(
        self,
        client: RegistryClient,  # noqa: ARG002 - there is no server to ask
    ) -> AsyncIterator[list[str]]:
        """All layouts and archives in the folder, a page at a time.

        Raises:
            PushError: the folder, or one in it, cannot be read.
        """
        return self.layouts.repositories()
