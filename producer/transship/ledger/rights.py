"""Rights of accounts as workers publish them: each account reads its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import redis

from transship.model.rights import Rights

if TYPE_CHECKING:
    from transship.ledger.keys import Keys

logger = logging.getLogger("transship")

#: More than this are no rights of one account. Unit: bytes.
LONGEST: Final = 1024 * 1024


def published_rights(
    client: redis.Redis, keys: Keys, account: str, versions: Iterable[str]
) -> dict[str, Rights]:
    """An account's rights by the version of the catalog's section.

    Those that are not there, or that this account or version cannot read, are left out: workers
    decide.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    wanted = list(versions)
    pipe = client.pipeline(transaction=False)
    for version in wanted:
        pipe.getrange(keys.rights(account, version), 0, LONGEST)
    replies: list[Any] = pipe.execute(raise_on_error=False) if wanted else []
    found = {}
    for version, reply in zip(wanted, replies, strict=True):
        if isinstance(reply, Exception) and not isinstance(reply, redis.ResponseError):
            raise reply
        try:
            if isinstance(reply, str) and reply:
                found[version] = Rights.parse(reply)
        except ValueError as error:
            logger.debug("rights of another version: %s", error)
    return found
