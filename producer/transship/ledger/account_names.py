"""Names of accounts: those of the workers' catalogs, and those of Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import redis

if TYPE_CHECKING:
    from transship.ledger.keys import Keys

#: A list of names that is longer is none. Unit: bytes.
LONGEST: Final = 1024 * 1024


def catalog_names(
    client: redis.Redis, keys: Keys, versions: Sequence[str]
) -> frozenset[str] | None:
    """Accounts of the catalogs' sections of these versions; ``None``: this account may not know.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    names: set[str] = set()
    for version in versions:
        try:
            text: Any = client.getrange(keys.rights_index(version), 0, LONGEST)
        except redis.exceptions.NoPermissionError:
            return None
        try:
            found = json.loads(text) if text else None
        except ValueError:
            found = None
        if not isinstance(found, list):
            # A worker writes it again within a minute.
            return None
        names |= {str(name) for name in found}
    return frozenset(names)


def redis_names(client: redis.Redis) -> frozenset[str] | None:
    """Accounts of Redis; ``None``: this account may not list them.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    try:
        found: Any = client.acl_users()
    except redis.exceptions.NoPermissionError:
        return None
    return frozenset(str(name) for name in found)
