"""What the runner asks of each kind of job: a push, a copy, the planning of a migration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from transship_worker.jobs.claim_results import Claim
from transship_worker.jobs.control import Control

if TYPE_CHECKING:
    from transship.model.rights import Rights
    from transship_worker.flavors.base import BaseContainerRegistry


class Components(Protocol):
    """Registry components and the rights of accounts: one version of the worker's catalogue."""

    def registry(self, name: str) -> BaseContainerRegistry:
        """The component of this name; raises ``UnknownComponent``."""

    @property
    def registries(self) -> Mapping[str, BaseContainerRegistry]:
        """All components by name."""

    def rights_of(self, account: str) -> Rights:
        """What an account may do."""


class NotHere(Exception):
    """This worker cannot run the job now; the message says why, and another may."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that this worker can run, before it is claimed; each kind of work adds to it."""

    #: What the record says of where it runs.
    engine: str
    flavor: str
    #: Removes every secret that the work may meet from a text.
    redacted: Callable[[str], str]
    #: What the job's account may do, or the one on whose behalf it is.
    rights: Rights


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to."""

    digest: str
    #: One line for the log.
    line: str
    #: There was nothing to do.
    skipped: bool = False


class Work(Protocol):
    """How one kind of job is done. Called from the threads of the worker's slots."""

    def accept(self, request: Any, account: str) -> Accepted:
        """Settle what the job needs of this worker; asks nobody that may be slow.

        ``account``: under whose keys the request lies.

        Raises:
            NotHere: it is left to another worker, or to another time.
            NotAllowed: the account may not have it done.
        """

    def run(self, claim: Claim, request: Any, accepted: Any, control: Control) -> Outcome:
        """Do it.

        Raises:
            TransshipError: why it did not succeed.
        """
