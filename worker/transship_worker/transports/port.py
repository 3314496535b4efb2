"""What a flavor, a transport and a job say to each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from transship.model.jobs import Step
from transship.model.records import Progress
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials


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
