"""What a flavor, a transport and a job say to each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self

from pydantic import SecretStr

from transship.model.jobs import Step
from transship.model.records import Progress
from transship.model.references import ImageReference


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


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to."""

    #: Digest of the manifest that the registry holds under the tag.
    digest: str
    #: The registry had it already; no byte was sent.
    skipped: bool = False


class PushTransport(Protocol):
    """One way to push, made for one job."""

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        """Push the job's image as ``image`` and return the digest the registry confirmed.

        Raises:
            PushError: what went wrong, as a typed error.
        """


class JobControl(Protocol):
    """What a transport may tell and ask the job it works for. Safe to call from any thread."""

    def step(self, step: Step) -> None:
        """The job is now doing this."""

    def progress(self, progress: Progress) -> None:
        """How far it is; may be called at any rate, the ledger hears of it a few times a second."""

    def alive(self) -> None:
        """Something moved: the stall limit starts again (a call of ``progress`` says so too)."""

    def warn(self, message: str) -> None:
        """Keep a sentence with the job that a person should read although it succeeds."""

    def settled(self) -> None:
        """Return once which image the job is about is kept for all its attempts.

        To be called before anything of it is sent.

        Raises:
            PushError: as ``checkpoint``.
        """

    def checkpoint(self) -> None:
        """Return if the job may go on, else raise why not.

        To be called before each irreversible step, and after a stream broke.

        Raises:
            PushError: cancelled, past its deadline, stalled, or no longer this worker's job.
        """

    def closing(self, close: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, ``close`` is called from another thread if the job must stop.

        It must end whatever the block waits for, at once; it is called at most once.
        """
