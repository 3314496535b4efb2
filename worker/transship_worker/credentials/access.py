"""How a registry is reached: a login, and the TLS that its component names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login for one registry, handed to the engine with each call and kept nowhere."""

    username: str
    password: SecretStr
    #: When the registry stops accepting it; ``None``: it says nothing of that.
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is reached, as its component says."""

    #: Plain HTTP, or TLS that is not verified.
    insecure: bool = False
    #: PEM file of the authority that signed the registry's certificate.
    ca: Path | None = None
    #: PEM files of the certificate that the registry knows its client by, and of its key.
    client_cert: Path | None = None
    client_key: Path | None = None
    #: Of the files' content; another one makes another access, so that a renewed file counts.
    version: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        insecure: bool = False,
        ca: Path | None = None,
        client_cert: Path | None = None,
        client_key: Path | None = None,
    ) -> Self:
        """An access by the files as they are now. Looks at them; opens none."""
        files = (file for file in (ca, client_cert, client_key) if file is not None)
        times = tuple(time for file in files if (time := _changed(file)) is not None)
        return cls(insecure, ca, client_cert, client_key, times)

    @property
    def anonymous(self) -> Self:
        """The same without the client's certificate."""
        return replace(self, client_cert=None, client_key=None)

    @property
    def is_plain(self) -> bool:
        """Whether the component says nothing of TLS."""
        return not self.insecure and self.ca is None and self.client_cert is None


def _changed(file: Path) -> int | None:
    """When the file was changed; ``None``: it cannot be looked at, which its reader will say."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
