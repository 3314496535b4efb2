"""Which names of components, engines and Redis accounts are valid."""

from __future__ import annotations

from typing import Final

#: Names of components and engines.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
#: Redis accounts whose name can stand in a key, in a job's id and in a pattern of an ACL.
ACCOUNT_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}\Z"
#: The account of a Redis URL without a user name.
DEFAULT_ACCOUNT: Final = "default"
