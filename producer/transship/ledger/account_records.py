"""Reads what people see of accounts: rights, counts of jobs, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import redis

from transship.ledger.account_names import catalog_names
from transship.ledger.rights import published_rights
from transship.model.accounts import AccountRecord
from transship.model.jobs import State

if TYPE_CHECKING:
    from transship.ledger.keys import Keys

#: States whose jobs wait.
_WAITING: Final = (State.QUEUED, State.RETRYING)


def account_record(
    client: redis.Redis, keys: Keys, name: str, versions: Sequence[str]
) -> AccountRecord:
    """What is known of an account; ``versions``: of the rights that live workers go by.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.zcard(keys.state(name, State.RUNNING))
    for state in _WAITING:
        pipe.zcard(keys.state(name, state))
    # Those that no worker has heard of yet.
    pipe.zcard(keys.queued(name))
    pipe.hgetall(keys.refused_of(name))
    running, *waiting, refused = pipe.execute(raise_on_error=False)
    counts = [_count(reply) for reply in waiting]
    known = [count for count in counts if count is not None]
    rights = published_rights(client, keys, name, versions)
    return AccountRecord.with_rights(
        name,
        [rights[one] for one in versions if one in rights],
        in_catalog=_listed(client, keys, name, versions, bool(rights)),
        running=_count(running),
        queued=sum(known) if len(known) == len(counts) else None,
        refused=_refused(refused),
    )


def _listed(
    client: redis.Redis, keys: Keys, name: str, versions: Sequence[str], has_rights: bool
) -> bool | None:
    """Whether the catalogs list an account, as far as this client may know."""
    if has_rights:
        return True
    names = catalog_names(client, keys, versions) if versions else None
    return None if names is None else name in names


def _count(reply: Any) -> int | None:
    """A reply, or ``None``: it may not be read. What is of another type has no jobs.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    if isinstance(reply, redis.exceptions.NoPermissionError):
        return None
    if isinstance(reply, redis.exceptions.ResponseError):
        return 0
    if isinstance(reply, Exception):
        raise reply
    return int(reply)


def _refused(reply: Any) -> dict[str, int] | None:
    if isinstance(reply, redis.exceptions.NoPermissionError):
        return None
    if isinstance(reply, Exception):
        raise reply
    return {str(code): int(count) for code, count in sorted(reply.items())}
