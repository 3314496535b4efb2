"""The errors that settings can raise; the whole tree is in ``transship.errors``."""

from __future__ import annotations

from typing import ClassVar


class TransshipError(Exception):
    """Everything Transship raises on purpose.

    The message is one line for a person: what is wrong, and what would be right. It never
    holds a secret.
    """

    #: A stable name for programs: lower case, underscores.
    code: ClassVar[str] = "error"
    #: Whether the same attempt may succeed later without anybody changing anything.
    retryable: ClassVar[bool] = False
    #: What a command exits with when this error ends it.
    exit_status: ClassVar[int] = 1

    @property
    def message(self) -> str:
        """The message alone."""
        return str(self.args[0]) if self.args else self.__class__.__name__


class UsageError(TransshipError):
    """Bad input: nothing was done."""

    code = "usage"
    exit_status = 2


class InvalidSettings(UsageError):
    """A ``TRANSSHIP_*`` variable with a value that cannot be used."""

    code = "invalid_settings"
