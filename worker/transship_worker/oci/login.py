"""Whom a registry counts: a login at a host, as keys name it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Self

from transship.ledger.keys import Keys

#: The name of who asks without a login.
ANONYMOUS: Final = "-"
#: Length of the hash of a user name. Unit: bytes.
_HASH_SIZE: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class Login:
    """One login at one registry: what budgets and pauses are kept for."""

    #: ``host[:port]``
    registry: str
    #: A keyed hash of the user name, or ``-``. Nothing of a password is in it.
    name: str = ANONYMOUS

    @property
    def pulls(self) -> Login:
        """The same login where only pulls are counted: reads of manifests."""
        return Login(self.registry, f"{self.name}.pulls")

    @classmethod
    def of(cls, keys: Keys, registry: str, username: str | None) -> Self:
        """The login of a user; ``None``: without one. Equal in all processes of a fleet."""
        if username is None:
            return cls(registry)
        hashed = hashlib.blake2b(
            username.encode(), digest_size=_HASH_SIZE, key=keys.prefix.encode()
        )
        return cls(registry, hashed.hexdigest())
